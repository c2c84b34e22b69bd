"""The three stages of the training of `cardiac-mr`: slices, studies, diagnosis head."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.segmentation import dice_cross_entropy
from medmtl.networks.joint import JointNet
from medmtl.training.head import HeadOptions, collect_head_inputs, fit_head
from medmtl.training.loop import FitOptions, fit

from .cardiac_views import StudyView, study_view, study_views

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medmtl.data.samples import Sample

DIAGNOSIS_WEIGHT = 0.2
HEAD = HeadOptions(steps=1000)
HEAD_VIEWS = 3


def fit_slices(
    net: JointNet,
    batches: Iterator[tuple[Tensor, Tensor]],
    options: FitOptions,
    *,
    checkpoint: Path,
) -> None:
    """Train the planar encoder and decoder on single slices, in place."""
    planar = net.backbone.get_submodule("net")
    trained = fit(planar, batches, slice_losses, options, checkpoint=checkpoint)
    planar.load_state_dict(trained.state_dict())


def fit_studies(
    net: JointNet,
    samples: Sequence[Sample],
    rng: np.random.Generator,
    options: FitOptions,
    *,
    checkpoint: Path,
) -> None:
    """Train masks and diagnosis of whole studies, in place."""
    views = study_views(samples, rng)
    trained = fit(net, views, joint_losses, options, checkpoint=checkpoint)
    net.load_state_dict(trained.state_dict())


def fit_diagnosis(net: JointNet, samples: Sequence[Sample]) -> None:
    """Refit the diagnosis head on the frozen network, in place."""
    net.eval()
    table = collect_head_inputs(net, head_views(net, samples, np.random.default_rng(3)))
    fit_head(net, table, HEAD, np.random.default_rng(4))


def slice_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Segmentation loss of the planar network."""
    images, labels = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images.contiguous(memory_format=torch.channels_last))
    return {"segmentation": dice_cross_entropy(logits, labels)}


def joint_losses(model: nn.Module, view: StudyView) -> dict[str, Tensor]:
    """Masks of both phases and the diagnosis of the study, from one forward pass."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # one study is no sample of the population: keep its statistics
    with torch.autocast("cpu", torch.bfloat16):
        output = model(
            [image[None, None] for image in view.images],
            spacing_mm=torch.stack([view.spacing_mm] * 2)[None],
            covariates=view.covariates,
        )
    masks = [
        dice_cross_entropy(logits, truth[None])
        for logits, truth in zip(output.segmentation_logits, view.labels, strict=True)
    ]
    diagnosis = known_binary_cross_entropy(output.finding_logits, view.findings[None])
    return {
        "segmentation": torch.stack(masks).mean(),
        "diagnosis": DIAGNOSIS_WEIGHT * diagnosis,
    }


def head_views(
    net: JointNet, samples: Sequence[Sample], rng: np.random.Generator
) -> Iterator[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]:
    """Several augmented views of every patient, for the refit of the head."""
    for sample in samples:
        for _ in range(HEAD_VIEWS):
            view = replace(study_view(sample, rng), covariates=sample.covariates)
            yield sample.findings, sample.covariates, partial(joint_losses, net, view)
