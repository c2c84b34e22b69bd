"""The largest interpolated class inside cells of the network grid where more than one may win."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from medmtl.postprocess.class_values import ClassValues

__all__ = ["CellBlock", "blocks_of_cells"]

_BLOCK_VALUES = 2**20
"""Corner values of all classes held at a time."""


@dataclass(frozen=True, eq=False)
class CellBlock:
    """Some cells of one layer, with the values at their corners.

    Attributes:
        numbers: Which of the layer's cells these are, a run.
        corners: (C, 8, M) float32; corner number is 4 k + 2 j + i.
        candidates: (M, R) classes that may win, ascending, -1 beyond the last; R is at least 1.
    """

    numbers: slice
    corners: NDArray[np.float32]
    candidates: NDArray[np.intp]


def blocks_of_cells(
    values: ClassValues, k: int, cells_ji: NDArray[np.intp], *, tolerance: np.float32
) -> Iterator[CellBlock]:
    """The cells of one layer, as many at a time as keep the memory bounded.

    Args:
        values: On the network grid.
        k: Layer.
        cells_ji: (2, M), lower corner of each cell.
        tolerance: What rounding may change.
    """
    step = max(1, _BLOCK_VALUES // (8 * len(values.rows)))
    for start in range(0, cells_ji.shape[1], step):
        part = cells_ji[:, start : start + step]
        corners = values.corners(k, part)
        numbers = slice(start, start + part.shape[1])
        yield CellBlock(numbers, corners, _candidates(corners, tolerance))


def _candidates(corners: NDArray[np.float32], tolerance: np.float32) -> NDArray[np.intp]:
    """Classes whose largest corner reaches the best smallest corner: only they can win inside."""
    reach = corners.max(axis=1)
    bar = corners.min(axis=1).max(axis=0) - tolerance
    may_win = ~(reach < bar).T  # (M, C); a NaN excludes nothing
    cell, class_index = np.nonzero(may_win)
    counts = may_win.sum(axis=1)
    rank = np.arange(cell.size) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((corners.shape[2], int(counts.max(initial=1))), -1, dtype=np.intp)
    out[cell, rank] = class_index
    return out
