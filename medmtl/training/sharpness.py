"""Sharpness-aware minimisation: the gradient of the worst point nearby (arXiv:2010.01412)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn

__all__ = ["at_worst_neighbour"]


@contextmanager
def at_worst_neighbour(parameters: Sequence[nn.Parameter], *, rho: float) -> Iterator[None]:
    """Inside the block the parameters stand `rho` uphill along `.grad`; after it, where they were.

    The gradients are cleared on entry, for those computed inside the block.

    Args:
        parameters: With the gradient of the loss in `.grad`.
        rho: Distance.
    """
    moved = [p for p in parameters if p.grad is not None]
    norm = torch.stack([p.grad.norm() for p in moved if p.grad is not None]).norm()
    before = [p.detach().clone() for p in moved]
    with torch.no_grad():
        for p in moved:
            p.add_(p.grad if p.grad is not None else 0, alpha=float(rho / (norm + 1e-12)))
    for p in parameters:
        p.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for p, old in zip(moved, before, strict=True):
                p.copy_(old)
