"""Names of the gradient balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchjd import aggregation

from medmtl.balancing.methods import Elementwise, Method, Weighted
from medmtl.balancing.nash import NashWeighting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["METHODS", "MIN_TASKS"]

Tasks = tuple[str, ...]
"""Names of tasks in their order."""


class _ConFIGWeighting(aggregation.Weighting):
    """ConFIG as weights: its direction lies in the span of the rows of a square matrix."""

    def forward(self, matrix: Tensor) -> Tensor:
        weights: Tensor = aggregation.ConFIG()(matrix) @ torch.linalg.pinv(matrix)
        return weights


class _PrimaryFirst(aggregation.PCDWeighting):
    """PCD whose primary task may stand anywhere; the first one where it is missing."""

    def __init__(self, tasks: Tasks, primary: str | None, **numbers: float) -> None:
        super().__init__(**numbers)
        first = tasks.index(primary) if primary in tasks else 0
        self.order = [first, *(n for n in range(len(tasks)) if n != first)]

    def forward(self, gramian: Tensor) -> Tensor:
        weights = torch.empty(len(self.order), dtype=gramian.dtype)
        weights[self.order] = super().forward(gramian[self.order][:, self.order])
        return weights


_SMOOTHED: Mapping[str, Callable[[], Any]] = {
    "upgrad": aggregation.UPGradWeighting,
    "mgda": aggregation.MGDAWeighting,
    "pcgrad": aggregation.PCGradWeighting,
    "imtl_g": aggregation.IMTLGWeighting,
    "dualproj": aggregation.DualProjWeighting,
}


def _weighted(make: Callable[[], Any]) -> Callable[[Any], Method]:
    """A method without settings and without memory."""
    return lambda _: Weighted(lambda _: make())


def _krum(config: Any) -> Method:
    def make(tasks: Tasks) -> Any:
        if len(tasks) < config.n_byzantine + 3:
            return aggregation.MeanWeighting()
        selected = min(config.n_selected, len(tasks))
        return aggregation.KrumWeighting(config.n_byzantine, selected)

    return Weighted(make)


def _pcd(config: Any) -> Method:
    # The moving average needs norms as they are; without eps their size does not matter.
    return Weighted(
        lambda tasks: _PrimaryFirst(
            tasks, config.primary, tau=config.tau, beta=config.beta, eps=0.0
        ),
        statistic="raw_gramian",
        memory=("_sq_norm_ema", "_n_steps", "_state_key"),
    )


def _cr_mogm(config: Any) -> Method:
    return Weighted(
        lambda _: aggregation.CRMOGMWeighting(_SMOOTHED[config.method](), config.alpha),
        memory=("_lambda",),
    )


def _excess_mtl(config: Any) -> Method:
    return Weighted(
        lambda _: aggregation.ExcessMTLWeighting(config.robust_step_size, config.warmup_batches),
        statistic="matrix",
        memory=(
            "_weights",
            "_sq_grad_sum",
            "_initial_w",
            "_warmup_w_sum",
            "_n_steps",
            "_state_key",
        ),
    )


def _graddrop(config: Any) -> Method:
    def make(tasks: Tasks) -> Any:
        return aggregation.GradDrop(
            leak=torch.tensor([config.leak.get(task, 0.0) for task in tasks])
        )

    return Elementwise(make)


METHODS: Mapping[str, Callable[[Any], Method]] = {
    "pcgrad": _weighted(aggregation.PCGradWeighting),
    "imtl_g": _weighted(aggregation.IMTLGWeighting),
    "upgrad": _weighted(aggregation.UPGradWeighting),
    "dualproj": _weighted(aggregation.DualProjWeighting),
    "mgda": lambda c: Weighted(lambda _: aggregation.MGDAWeighting(c.epsilon, c.max_iters)),
    "cagrad": lambda c: Weighted(lambda _: aggregation.CAGradWeighting(c.c)),
    "gradvac": lambda c: Weighted(
        lambda _: aggregation.GradVacWeighting(c.beta), memory=("_phi_t", "_state_key")
    ),
    "aligned_mtl": lambda c: Weighted(
        lambda _: aggregation.AlignedMTLWeighting(scale_mode=c.scale_mode)
    ),
    "fairgrad": lambda c: Weighted(lambda _: aggregation.FairGradWeighting(c.alpha)),
    "config": lambda _: Weighted(lambda _: _ConFIGWeighting(), statistic="factor"),
    "nash_mtl": lambda c: Weighted(lambda _: NashWeighting(c.max_norm)),
    "krum": _krum,
    "pcd": _pcd,
    "cr_mogm": _cr_mogm,
    "excess_mtl": _excess_mtl,
    "graddrop": _graddrop,
    "trimmed_mean": lambda c: Elementwise(
        lambda _: aggregation.TrimmedMean(c.trim_number), min_tasks=2 * c.trim_number + 1
    ),
}
"""Settings to a method."""

MIN_TASKS: Mapping[str, Callable[[Any], int]] = {
    "krum": lambda c: c.n_byzantine + 3,
    "trimmed_mean": lambda c: 2 * c.trim_number + 1,
}
"""Fewest tasks of a run; with fewer present in a batch the mean is taken."""
