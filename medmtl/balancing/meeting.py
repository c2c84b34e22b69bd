"""One batch's losses brought together at their features or weights, over all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from medmtl.balancing.gramian import gramian_of
from medmtl.balancing.graph import (
    Row,
    add_gradients,
    check_independent,
    parameters_below,
    task_rows,
)
from medmtl.balancing.ranks import Present, count_ranks, sum_over_ranks
from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Meeting", "Place", "Points", "meet"]

Place = Literal["features", "weights"]


@dataclass(frozen=True, eq=False)
class Points:
    """Where the tasks meet: independent tensors that require a gradient.

    Attributes:
        place: What the tensors are.
        tensors: Feature maps, or shared parameters.
    """

    place: Place
    tensors: tuple[Tensor, ...]

    @staticmethod
    def choose(place: Place, features: Sequence[Tensor], shared: Sequence[Tensor]) -> Points:
        """The points of a batch.

        Raises:
            ConfigError: If neither features nor parameters were passed.
        """
        if not features and (place == "features" or not shared):
            raise ConfigError(f"Balancing on {place} needs the features; none were passed.")
        tensors = features if place == "features" else (shared or parameters_below(features))
        return Points(place, tuple(tensor for tensor in tensors if tensor.requires_grad))

    def check(self) -> None:
        """Refuse feature maps that depend on each other.

        Raises:
            ConfigError: If one is computed from another.
        """
        if self.place == "features":
            check_independent(self.tensors)

    def add(self, gradients: Row) -> None:
        """Go backward from the points, or add to them where they are parameters.

        Args:
            gradients: One per point, or none at all in a batch without tasks.
        """
        if not gradients:
            return
        if self.place == "weights":
            add_gradients(self.tensors, gradients)
            return
        pairs = [
            (point, gradient.to(point.dtype))
            for point, gradient in zip(self.tensors, gradients, strict=True)
            if gradient is not None
        ]
        if pairs:
            torch.autograd.backward([pair[0] for pair in pairs], [pair[1] for pair in pairs])


@dataclass(frozen=True, eq=False)
class Meeting:
    """Gradients of the tasks present, at the points.

    Attributes:
        tasks: Present on any rank; P of them.
        rows: P gradients, times `scale`; of this rank for features, of all for weights.
        gramian: (P, P) float64 on the CPU, inner products over all ranks, without `scale`.
    """

    tasks: tuple[str, ...]
    rows: list[Row]
    gramian: Tensor


def meet(
    losses: Mapping[str, Tensor],
    points: Points,
    present: Present,
    *,
    scale: float,
    device: torch.device,
    weights: Mapping[str, float] | None = None,
) -> Meeting:
    """Rows and Gramian; what the tasks do not share gets its plain gradient.

    Features belong to one rank each, so the inner products of the whole batch are the sum over the
    ranks; parameters belong to all, so their rows are averaged first.

    Args:
        losses: Of this rank.
        points: Of this rank.
        present: Of all ranks.
        scale: Factor of everything added to `.grad`.
        device: Of the losses.
        weights: Factor of each loss, also for what is not shared; 1 if not given.
    """
    here = [task for task in present.tasks if task in losses]
    factors = [present.factors[task] * scale * (weights or {}).get(task, 1.0) for task in here]
    scaled = [losses[task] * factor for task, factor in zip(here, factors, strict=True)]
    is_cut = points.place == "features"
    found = dict(zip(here, task_rows(scaled, points.tensors, cut=is_cut), strict=True))
    nothing: Row = [None] * len(points.tensors)
    rows = [found.get(task, nothing) for task in present.tasks]
    ranks = count_ranks()
    if points.place == "weights":
        rows = [_mean_over_ranks(row, points.tensors) for row in rows] if ranks > 1 else rows
        gramian = gramian_of(rows, device)
    else:
        gramian = sum_over_ranks(gramian_of(rows, device)) / ranks**2
    return Meeting(present.tasks, rows, gramian.cpu() / scale**2)


def _mean_over_ranks(row: Row, points: Sequence[Tensor]) -> Row:
    whole = [
        torch.zeros_like(point) if gradient is None else gradient.contiguous()
        for gradient, point in zip(row, points, strict=True)
    ]
    return [sum_over_ranks(gradient) / count_ranks() for gradient in whole]
