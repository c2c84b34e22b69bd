"""Gradients as vectors in the order in which they lie in memory, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["flat_column", "unflat"]


def flat_column(column: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients at one point as vectors, their elements in one and the same order.

    That of the memory of the first: a gradient of folded slices or channels-last volumes is
    several times slower to read in the order of its axes.
    """
    known = next((gradient for gradient in column if gradient is not None), None)
    if known is None:
        return list(column)
    order = _memory_order(known)
    return [None if x is None else x.permute(order).reshape(-1) for x in column]


def unflat(vector: Tensor, like: Tensor) -> Tensor:
    """A vector of `flat_column` in the shape of the first gradient of its column."""
    order = _memory_order(like)
    shape = [like.shape[axis] for axis in order]
    back = sorted(range(like.dim()), key=order.__getitem__)
    return vector.reshape(shape).permute(back)


def _memory_order(x: Tensor) -> list[int]:
    """Axes from the widest stride to the narrowest."""
    return sorted(range(x.dim()), key=x.stride, reverse=True)
