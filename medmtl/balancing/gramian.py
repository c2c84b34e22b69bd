"""Inner products of the tasks' gradients: all that most methods need, and what a run reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medmtl.balancing.balancer import BalanceReport
from medmtl.balancing.memory_order import flat_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.balancing.graph import Row

__all__ = ["combine", "factor", "gramian_of", "report"]

_PIECE = 2**17
"""Elements that are taken to float32 at a time: they stay in the cache, and need no new memory."""


def gramian_of(rows: Sequence[Row], device: torch.device) -> Tensor:
    """(P, P) inner products of the rows in float64 on `device`, zero where a row is zero."""
    gramian = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=device)
    with torch.autocast(device.type, enabled=False):
        for column in zip(*rows, strict=True):
            found = [n for n, gradient in enumerate(column) if gradient is not None]
            vectors = [x for x in flat_column(column) if x is not None]
            for pieces in zip(*(torch.split(vector, _PIECE) for vector in vectors), strict=True):
                singles = [piece.float() for piece in pieces]
                for a, first in zip(found, singles, strict=True):
                    for b, second in zip(found, singles, strict=True):
                        if b <= a:
                            gramian[a, b] += torch.dot(first, second)
    return gramian.tril() + gramian.tril(-1).T


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
