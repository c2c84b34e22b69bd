"""Inner products of the tasks' gradients: all that most methods need, and what a run reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medmtl.balancing.balancer import BalanceReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.balancing.graph import Row

__all__ = ["combine", "factor", "gramian_of", "report"]


def gramian_of(rows: Sequence[Row], device: torch.device) -> Tensor:
    """(P, P) inner products of the rows in float64 on `device`, zero where a row is zero."""
    gramian = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=device)
    with torch.autocast(device.type, enabled=False):
        for a, first in enumerate(rows):
            for b, second in enumerate(rows[: a + 1]):
                for x, y in zip(first, second, strict=True):
                    if x is not None and y is not None:
                        gramian[a, b] += torch.dot(x.reshape(-1).float(), y.reshape(-1).float())
                gramian[b, a] = gramian[a, b]
    return gramian


def factor(gramian: Tensor) -> Tensor:
    """(P, P) matrix whose rows have these inner products: the gradients, turned into P dimensions.

    A method that commutes with rotations gives the same weights on it as on the gradients.
    """
    values, vectors = torch.linalg.eigh(gramian)
    rotated: Tensor = vectors * values.clamp_min(0).sqrt()
    return rotated


def combine(rows: Sequence[Row], weights: Sequence[float]) -> Row:
    """Weighted sum of the rows, point by point."""
    combined: Row = []
    for gradients in zip(*rows, strict=True):
        terms = [
            gradient * weight
            for gradient, weight in zip(gradients, weights, strict=True)
            if gradient is not None
        ]
        combined.append(sum(terms[1:], start=terms[0]) if terms else None)
    return combined


def report(tasks: Sequence[str], weights: dict[str, float], gramian: Tensor) -> BalanceReport:
    """Norms and cosines of a Gramian in units of the losses, beside the weights."""
    norms = gramian.diagonal().clamp_min(0).sqrt().tolist()
    cosines = {
        f"{tasks[a]}:{tasks[b]}": float(gramian[a, b]) / (norms[a] * norms[b])
        for a in range(len(tasks))
        for b in range(a + 1, len(tasks))
        if norms[a] > 0 and norms[b] > 0
    }
    return BalanceReport(weights, dict(zip(tasks, norms, strict=True)), cosines)
