"""How high and how low each class reaches in parts of the network grid.

Most classes are far from winning in most places. Where one cannot win is told from its largest
value in a band of rows, which is found in one pass over the values; only the others are read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Reach"]

_BAND_VOXELS = 2**15
"""What a few rows of float32 of one class may take, so that they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Reach:
    """Largest and smallest value of each class in each band; infinite where one is not a number.

    A band is a few rows of one plane and the first row of the next band, so that it holds all
    corners of the cells that start in it.

    Attributes:
        highest: (K, bands, C).
        lowest: (K, bands, C).
        rows: Rows of a band.
    """

    highest: NDArray[np.float32]
    lowest: NDArray[np.float32]
    rows: int

    @classmethod
    def empty(cls, values_ckji: NDArray[Any]) -> Reach:
        """Room for the bands of `values_ckji`, to be filled plane by plane."""
        classes, planes, rows, columns = values_ckji.shape
        step = min(rows, max(1, _BAND_VOXELS // columns))
        shape = planes, -(-rows // step), classes
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.float32), step)

    def fill(self, values_ckji: NDArray[Any], k: int) -> None:
        """Look through one plane."""
        for band, rows in enumerate(self.bands()):
            part = values_ckji[:, k, rows.start : rows.stop + 1]
            self.highest[k, band], self.lowest[k, band] = _extremes(part)

    def settle(self) -> None:
        """To be called when all planes are filled: what is not a number may be anything."""
        is_strange = np.isnan(self.highest) | np.isnan(self.lowest)
        self.highest[is_strange], self.lowest[is_strange] = np.inf, -np.inf

    def bands(self) -> Iterator[slice]:
        """The rows that start each band."""
        for band in range(self.highest.shape[1]):
            yield slice(band * self.rows, (band + 1) * self.rows)

    def magnitude(self) -> float:
        """The largest magnitude of all values."""
        return max(abs(float(self.highest.max())), abs(float(self.lowest.min())))

    def reaching(self, k: int, band: int, bar: np.float32) -> NDArray[np.intp]:
        """Classes that reach the bar somewhere in the band of plane `k` or of the next one."""
        upper = min(k + 1, len(self.highest) - 1)
        highest = np.maximum(self.highest[k, band], self.highest[upper, band])
        return np.flatnonzero(~(highest < bar))


def _extremes(part_cji: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The largest and the smallest value of each class, not a number where there is such a one."""
    if part_cji.dtype != np.float16:
        return part_cji.max(axis=(1, 2)), part_cji.min(axis=(1, 2))
    keys = _ordered(part_cji.view(np.int16))
    high, low = (_ordered(ends) for ends in (keys.max(axis=(1, 2)), keys.min(axis=(1, 2))))
    return high.view(np.float16), low.view(np.float16)


def _ordered(bits: NDArray[np.int16]) -> NDArray[np.int16]:
    """Half precision as integers in the same order, and back: NumPy compares those far faster.

    IEEE 754 numbers are sign and magnitude: the magnitude of negative ones is turned round.
    """
    return bits ^ ((bits >> 15) & np.int16(0x7FFF))
