"""How good the network is at both tasks while it learns, over what is known.

On the network's own grid and without post-processing: quick, for choosing weights. What a user
would get is measured after training, through the predictor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.data.samples import collate
from medmtl.metrics.classification import auroc
from medmtl.metrics.overlap import dice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from medmtl.data.samples import Sample
    from medmtl.networks.joint import JointNet
    from medmtl.training.distributed import Ranks
    from medmtl.training.objective import StudyObjective

__all__ = ["Validation", "task_scores", "validate"]


@dataclass(frozen=True)
class Validation:
    """Figures of one validation; a figure that nothing is known for is not there.

    Attributes:
        metrics: By name: `dice`, `dice/<segment>`, `auroc`, `auroc/<finding>`, `loss/<task>`.
    """

    metrics: Mapping[str, float]

    @property
    def score(self) -> float | None:
        """Mean of mean Dice and mean AUROC, as far as they exist: what "best" means."""
        found = [self.metrics[name] for name in ("dice", "auroc") if name in self.metrics]
        return float(np.mean(found)) if found else None


def task_scores(validation: Validation) -> dict[str, float]:
    """Performance of each task in 0..1, for the task scheduler; chance is 0 for a diagnosis."""
    scores = {}
    if "dice" in validation.metrics:
        scores["segmentation"] = validation.metrics["dice"]
    if "auroc" in validation.metrics:
        scores["diagnosis"] = 2 * validation.metrics["auroc"] - 1
    return scores


@dataclass(frozen=True)
class _Seen:
    """One case: Dice per segment, probability and truth per finding, loss per task."""

    dice: dict[str, list[float]] = field(default_factory=dict)
    probabilities: tuple[float, ...] = ()
    findings: tuple[float, ...] = ()
    losses: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def validate(
    net: JointNet,
    samples: Iterable[Sample],
    objective: StudyObjective,
    *,
    device: torch.device,
    ranks: Ranks,
) -> Validation:
    """Run the network over whole studies.

    Args:
        net: Left in evaluation mode.
        samples: The share of this process.
        objective: Whose losses and precision are used.
        device: Where the network is.
        ranks: The processes whose shares are put together.
    """
    net.eval()
    seen = [_one(net, sample, objective, device) for sample in samples]
    together = [case for share in ranks.gather(seen) for case in share]
    return Validation(_figures(together, net.config.segments, net.config.findings))


def _one(net: JointNet, sample: Sample, objective: StudyObjective, device: torch.device) -> _Seen:
    batch = collate([sample], divisor=net.divisor).to(device)
    output = objective.answer(net, batch)
    losses = {name: float(loss) for name, loss in objective.losses(output, batch).items()}
    overlaps: dict[str, list[float]] = {}
    for number, logits in enumerate(output.segmentation_logits):
        labels, own = sample.labels[number], sample.images[number].shape
        if labels is None:
            continue
        answer = logits[0].argmax(dim=0)[: own[0], : own[1], : own[2]].cpu().numpy()
        for label, name in enumerate(net.config.segments, start=1):
            value = None
            if sample.is_annotated[number, label - 1]:
                value = dice(answer == label, labels.numpy() == label)
            if value is not None:
                overlaps.setdefault(name, []).append(value)
    probabilities: Tensor | None = None
    if output.finding_logits is not None:
        probabilities = output.finding_logits[0].float().sigmoid().cpu()
    return _Seen(
        overlaps,
        () if probabilities is None else tuple(probabilities.tolist()),
        tuple(sample.findings.tolist()),
        losses,
    )


def _figures(
    cases: Sequence[_Seen], segments: Sequence[str], findings: Sequence[str]
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in segments:
        if values := [value for case in cases for value in case.dice.get(name, ())]:
            metrics[f"dice/{name}"] = float(np.mean(values))
    if per_segment := list(metrics.values()):
        metrics["dice"] = float(np.mean(per_segment))
    areas = []
    for number, name in enumerate(findings):
        answered = [case for case in cases if case.probabilities]
        truth = [_known(case.findings[number]) for case in answered]
        area = auroc(truth, [case.probabilities[number] for case in answered]) if answered else None
        if area is not None:
            metrics[f"auroc/{name}"] = area
            areas.append(area)
    if areas:
        metrics["auroc"] = float(np.mean(areas))
    for task in ("segmentation", "diagnosis"):
        if losses := [case.losses[task] for case in cases if task in case.losses]:
            metrics[f"loss/{task}"] = float(np.mean(losses))
    return metrics


def _known(value: float) -> bool | None:
    return None if np.isnan(value) else value > 0.5
