"""The largest class of each voxel of the network grid, and whether rounding could change it.

Axes: C class, K J I axes of the target grid, on the voxels of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Winners"]

TOLERANCE = 2.0**-18
"""Two classes closer than this share of the largest magnitude are not told apart here.

A linear interpolation low + w (high - low) in float32 is off by at most 5 u M, where u = 2^-24 and
M is the largest magnitude; the errors of its two inputs enter as a weighted mean. Over three axes
that is 15 u M for each of two classes: below 2^-19 M.
"""


@dataclass(frozen=True, eq=False)
class Winners:
    """What wins where, before any interpolation.

    Attributes:
        best: (K, J, I), index of the largest class, the first of equals.
        is_clear: (K, J, I), whether it leads by more than `tolerance`.
        tolerance: `TOLERANCE` in units of the values.
    """

    best: NDArray[Any]
    is_clear: NDArray[np.bool_]
    tolerance: np.float32

    @classmethod
    def empty(cls, values_ckji: NDArray[Any]) -> Winners:
        """Room for the winners of `values_ckji`, to be filled plane by plane."""
        shape = values_ckji.shape[1:]
        low, high = float(values_ckji.min()), float(values_ckji.max())
        dtype = np.uint8 if values_ckji.shape[0] <= 256 else np.uint16
        tolerance = np.float32(TOLERANCE * max(abs(low), abs(high)))
        return cls(np.zeros(shape, dtype), np.zeros(shape, bool), tolerance)

    def fill(self, values_ckji: NDArray[Any], k: int) -> None:
        """Find the winners of one plane: a running first and second place over the classes."""
        first = np.array(values_ckji[0, k], dtype=np.float32)
        second = np.full_like(first, -np.inf)
        best, aside = self.best[k], np.empty_like(first)
        wins = np.empty(first.shape, bool)
        for c in range(1, values_ckji.shape[0]):
            plane = values_ckji[c, k].astype(np.float32, copy=False)
            np.greater(plane, first, out=wins)
            np.minimum(first, plane, out=aside)
            np.maximum(second, aside, out=second)
            np.maximum(first, plane, out=first)
            # Later winners have larger numbers, so the largest winner is the last one.
            np.maximum(best, wins.view(np.uint8) * best.dtype.type(c), out=best)
        np.greater(first - second, self.tolerance, out=self.is_clear[k])

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

    def _is_flat_uniform(self, k: int) -> NDArray[np.bool_]:
        best = self.best[k]
        same: NDArray[np.bool_] = self.is_clear[k].copy()
        same[:, :-1] &= self.is_clear[k][:, 1:] & (best[:, :-1] == best[:, 1:])
        same[:-1] &= same[1:] & (best[:-1] == best[1:])
        return same
