"""What the diagnosis head and the bundle learn from the training cases outside of the loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from medmtl.data.samples import collate
from medmtl.training.head import HeadOptions, HeadTable, collect_head_inputs, fit_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from medmtl.data.loader import Augment
    from medmtl.data.samples import Batch, Samples
    from medmtl.networks.joint import JointNet
    from medmtl.training.objective import StudyObjective

__all__ = ["fit_standardiser", "refit_head", "volumes_ml"]


@torch.no_grad()
def fit_standardiser(net: JointNet, samples: Samples) -> None:
    """Standardise what the diagnosis knows: covariates of all cases, measurements of true masks.

    A case counts for the measurements where all segments were annotated. What is known of no case
    stays as it is.
    """
    if net.head is None or net.head.facts.mean.numel() == 0:
        return
    rows = []
    device = next(net.parameters()).device
    for index in range(len(samples)):
        batch = collate([samples[index]], divisor=(1, 1, 1)).to(device)
        rows.append(net.head.known_facts(_measured(net, batch), batch.covariates))
    net.head.facts.fit(torch.cat(rows))


def _measured(net: JointNet, batch: Batch) -> Tensor:
    """(1, M) of the true masks, NaN where a segment is not annotated."""
    if net.measure is None or not bool(batch.is_annotated.all()):
        return batch.spacing_mm.new_full((1, len(net.measurement_names)), torch.nan)
    masks = [
        nn.functional.one_hot(labels, len(net.config.segments) + 1).movedim(-1, 1).float()
        for labels in batch.labels
    ]
    return torch.as_tensor(net.measure(masks, batch.spacing_mm, batch.covariates))


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
    """
    net.eval()

    def seen() -> Iterator[tuple[Tensor, dict[str, Tensor], Callable[[], object]]]:
        for index in range(len(samples)):
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
