"""What the diagnosis head and the bundle learn from the training cases outside of the loop."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from medmtl.data.samples import collate
from medmtl.training.head import HeadOptions, HeadTable, collect_head_inputs, fit_head
from medmtl.training.stoppable import followed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from medmtl.data.loader import Augment
    from medmtl.data.samples import Batch, Samples
    from medmtl.networks.joint import JointNet
    from medmtl.training.objective import StudyObjective

__all__ = ["fit_standardiser", "refit_head", "volumes_ml"]

logger = logging.getLogger(__name__)


@torch.no_grad()
def fit_standardiser(net: JointNet, samples: Samples) -> None:
    """Standardise what the diagnosis knows: covariates of all cases, measurements of true masks.

    A case counts for the measurements whose own segments were annotated. What is known of no case
    stays as it is, which is said.
    """
    if net.head is None or net.head.facts.mean.numel() == 0:
        return
    rows = []
    device = next(net.parameters()).device
    for index in range(len(samples)):
        batch = collate([samples[index]], divisor=(1, 1, 1)).to(device)
        rows.append(net.head.known_facts(_measured(net, batch), batch.covariates))
    facts = torch.cat(rows)
    names = [*net.measurement_names, *net.head.config.covariates]
    is_unknown = facts.isnan().all(dim=0).tolist()
    if unknown := [name for name, is_so in zip(names, is_unknown, strict=True) if is_so]:
        logger.warning(
            "known of no training case and so not standardised, which lets them saturate: %s",
            ", ".join(unknown),
        )
    net.head.facts.fit(facts)


def _measured(net: JointNet, batch: Batch) -> Tensor:
    """(1, M) of the true masks, NaN where a segment that is read is not annotated."""
    if net.measure is None:
        return batch.spacing_mm.new_zeros(1, 0)
    masks = [
        _true_masks(labels, batch.is_annotated[:, volume])
        for volume, labels in enumerate(batch.labels)
    ]
    return torch.as_tensor(net.measure(masks, batch.spacing_mm, batch.covariates))


def _true_masks(labels_bkji: Tensor, is_annotated_bs: Tensor) -> Tensor:
    """(B, S + 1, K, J, I), NaN all over a segment of which nothing is known.

    So whatever is measured on it is NaN, too, and nothing else.
    """
    classes = is_annotated_bs.shape[1] + 1
    masks = nn.functional.one_hot(labels_bkji.clamp_min(0), classes).movedim(-1, 1).float()
    masks[:, 1:].masked_fill_(~is_annotated_bs[:, :, None, None, None], torch.nan)
    return masks


def refit_head(
    net: JointNet,
    samples: Samples,
    objective: StudyObjective,
    options: HeadOptions,
    *,
    views: int,
    augment: Augment | None,
    device: torch.device,
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Train the head alone on views of the training cases; see `training.head`.

    Args:
        net: Trained; changed in place and left in evaluation mode.
        samples: Training cases; those without a known finding teach nothing and are left out.
        objective: In whose precision the views are seen.
        options: Of the refit.
        views: Of every case.
        augment: Changes a sample at random; None for none.
        device: Where the network is.
        seed: Of the views and of the refit.
        should_stop: Asked after every case.

    Raises:
        TrainingStoppedError: If asked to stop; the views are seen anew then.
    """
    net.eval()

    def seen() -> Iterator[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]:
        cases = followed(
            range(len(samples)),
            what="cases seen again for the head",
            total=len(samples),
            should_stop=should_stop,
        )
        for index in cases:
            for view in range(views if augment else 1):
                sample = samples[index]
                if bool(sample.findings.isnan().all()):
                    break
                if augment is not None:
                    sample = augment(sample, np.random.default_rng([seed, 5, index, view]))
                batch = collate([sample], divisor=net.divisor).to(device)
                run = partial(objective.forward, net, batch)
                yield batch.findings[0], batch.covariates, run

    torch.manual_seed(seed)
    table = collect_head_inputs(net, seen())
    if len(table.findings) == 0 or net.head is None:
        return
    net.head.cpu()  # a few hundred numbers per view: the way to a GPU would cost more
    fit_head(net, _on_cpu(table), options, np.random.default_rng([seed, 6]))
    net.head.to(device)


def _on_cpu(table: HeadTable) -> HeadTable:
    covariates = {name: values.cpu() for name, values in table.covariates.items()}
    return HeadTable(table.pooled.cpu(), table.measurements.cpu(), table.findings.cpu(), covariates)


def volumes_ml(samples: Samples, *, segments: Sequence[str]) -> dict[str, list[float]]:
    """True volume of every segment where it was looked for and is present."""
    found: dict[str, list[float]] = {name: [] for name in segments}
    for index in range(len(samples)):
        sample = samples[index]
        for number, labels in enumerate(sample.labels):
            if labels is None:
                continue
            voxel_ml = float(sample.spacing_mm[number].prod()) / 1000
            counts = torch.bincount(labels.flatten().long(), minlength=len(segments) + 1).tolist()
            for label, name in enumerate(segments, start=1):
                if counts[label] and sample.is_annotated[number, label - 1]:
                    found[name].append(counts[label] * voxel_ml)
    return found
