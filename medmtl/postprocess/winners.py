"""The largest class of each voxel of the network grid, and whether rounding could change it.

Axes: C class, K J I axes of the target grid, on the voxels of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.postprocess.class_values import single

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.postprocess.reach import Reach

__all__ = ["TOLERANCE", "Winners"]

TOLERANCE = 2.0**-18
"""Two classes closer than this share of the largest magnitude are not told apart here.

A linear interpolation low + w (high - low) in float32 is off by at most 5 u M, where u = 2^-24 and
M is the largest magnitude; the errors of its two inputs enter as a weighted mean. Over three axes
that is 15 u M for each of two classes: below 2^-19 M.
"""
_HALF = 2.0**-10
"""Two numbers further apart than this share of the larger are not equal in half precision."""


@dataclass(frozen=True, eq=False)
class Winners:
    """What wins where, before any interpolation.

    Attributes:
        best: (K, J, I), index of the largest class, any of equals.
        is_clear: (K, J, I), whether it leads by more than `tolerance`.
        tolerance: `TOLERANCE` in units of the values, and what rounding to half precision adds.
        is_rounded: Whether interpolated values are compared in half precision.
    """

    best: NDArray[Any]
    is_clear: NDArray[np.bool_]
    tolerance: np.float32
    is_rounded: bool = False

    @classmethod
    def empty(
        cls, reach: Reach, shape_kji: tuple[int, ...], *, is_rounded: bool = False
    ) -> Winners:
        """Room for the winners of values that reach so far, to be filled plane by plane."""
        dtype = np.uint8 if reach.highest.shape[2] <= 256 else np.uint16
        share = TOLERANCE + _HALF * is_rounded
        tolerance = np.float32(share * reach.magnitude())
        return cls(np.zeros(shape_kji, dtype), np.zeros(shape_kji, bool), tolerance, is_rounded)

    def fill(self, values_ckji: NDArray[Any], reach: Reach, k: int) -> None:
        """Find the winners of one plane, band by band."""
        for band, rows in enumerate(reach.bands()):
            values_cji = values_ckji[:, k, rows]
            highest = reach.highest[k, band]
            best, lead = _best(values_cji, highest, self.tolerance, self.best.dtype)
            self.best[k, rows] = best
            np.greater(lead, self.tolerance, out=self.is_clear[k, rows])

    def is_uniform(self, k: int) -> NDArray[np.bool_]:
        """Whether all corners of a cell of one layer have one clear winner, shape (J, I).

        Cell (k, j, i) lies between the voxels k, j, i and the next ones, or is flat at the end.

        There the interpolated winner is the same class. Its value is a mean of the corners with
        weights that are not negative and sum to one, and so is that of any other class; at each
        corner the first is larger, so its mean is larger. It leads by more than rounding can take.
        """
        upper = min(k + 1, self.best.shape[0] - 1)
        near, far = self._is_flat_uniform(k), self._is_flat_uniform(upper)
        near &= far
        near &= self.best[k] == self.best[upper]
        return near

    def corners(self, k: int, cells_ji: NDArray[np.intp]) -> NDArray[Any]:
        """The winners (8, M) at the corners of cells (2, M) of one layer."""
        planes = self.best[k], self.best[min(k + 1, len(self.best) - 1)]
        rows, columns = planes[0].shape
        j, i = cells_ji
        next_j, next_i = np.minimum(j + 1, rows - 1), np.minimum(i + 1, columns - 1)
        ends = ((j, i), (j, next_i), (next_j, i), (next_j, next_i))
        return np.stack([plane[end] for plane in planes for end in ends])

    def _is_flat_uniform(self, k: int) -> NDArray[np.bool_]:
        best = self.best[k]
        same: NDArray[np.bool_] = self.is_clear[k].copy()
        same[:, :-1] &= self.is_clear[k][:, 1:] & (best[:, :-1] == best[:, 1:])
        same[:-1] &= same[1:] & (best[:-1] == best[1:])
        return same


def _best(
    values_cji: NDArray[Any], highest: NDArray[np.float32], tolerance: np.float32, dtype: Any
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """The largest class of each voxel, and its lead: a running first and second place.

    The classes come in the order of the highest that they reach, until one cannot even come close
    to the first place anywhere. Which of equals is named stays open.
    """
    order = np.argsort(-highest, kind="stable")
    first = np.array(single(values_cji[order[0]]))
    second, aside = np.full_like(first, -np.inf), np.empty_like(first)
    rank, wins = np.zeros(first.shape, dtype), np.empty(first.shape, bool)
    for number, c in enumerate(order[1:], start=1):
        if highest[c] < first.min() - tolerance:
            break
        plane = single(values_cji[c])
        np.greater(plane, first, out=wins)
        np.minimum(first, plane, out=aside)
        np.maximum(second, aside, out=second)
        np.maximum(first, plane, out=first)
        # Later winners have larger numbers, so the largest winner is the last one.
        np.maximum(rank, wins.view(np.uint8) * rank.dtype.type(number), out=rank)
    return order.astype(dtype)[rank], np.subtract(first, second, out=first)
