"""The largest interpolated class inside cells of the network grid where more than one may win."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from medmtl.postprocess.class_values import ClassValues
    from medmtl.postprocess.reach import Reach
    from medmtl.postprocess.winners import Winners

__all__ = ["CellBlock", "blocks_of_cells"]

_BLOCK_VALUES = 2**20
"""Corner values of all classes held at a time."""


@dataclass(frozen=True, eq=False)
class CellBlock:
    """Some cells of one layer, with the values at their corners.

    Attributes:
        numbers: Which of the layer's cells these are, a run.
        classes: (R,) those that may win in some of the cells, ascending.
        corners: (R, 8, M) float32; corner number is 4 k + 2 j + i.
        candidates: (M, D) rows of `classes` that may win in each cell, ascending, -1 beyond the
            last; D is at least 1.
    """

    numbers: slice
    classes: NDArray[np.intp]
    corners: NDArray[np.float32]
    candidates: NDArray[np.intp]


def blocks_of_cells(
    values: ClassValues, winners: Winners, reach: Reach, k: int, cells_ji: NDArray[np.intp]
) -> Iterator[CellBlock]:
    """The cells of one layer, as many at a time as keep the memory bounded.

    Args:
        values: On the network grid.
        winners: Of `values`, filled for `k` and the next plane.
        reach: Of `values`, filled for `k` and the next plane.
        k: Layer.
        cells_ji: (2, M), lower corner of each cell, in the order of rows.
    """
    for band, rows in enumerate(reach.bands()):
        first, last = np.searchsorted(cells_ji[0], [rows.start, rows.stop])
        if first == last:
            continue
        places = values.corner_places(k, cells_ji[:, first:last])
        bar = _lower_bar(values, winners.corners(k, cells_ji[:, first:last]), places)
        classes = reach.reaching(k, band, bar.min() - winners.tolerance)
        step = max(1, _BLOCK_VALUES // (8 * len(classes)))
        for start in range(0, places.shape[1], step):
            corners = values.at(places[:, start : start + step], classes)
            numbers = slice(int(first) + start, int(first) + start + corners.shape[2])
            yield CellBlock(numbers, classes, corners, _candidates(corners, winners.tolerance))


def _lower_bar(
    values: ClassValues, best: NDArray[Any], places: NDArray[np.intp]
) -> NDArray[np.float32]:
    """What the winner inside each cell surely reaches: the smallest corner of one class.

    Two classes are tried, the first and the last of those that win at a corner.
    """
    first, last = (
        values.of_each(places, classes).min(axis=0)
        for classes in (best.min(axis=0), best.max(axis=0))
    )
    higher: NDArray[np.float32] = np.maximum(first, last)
    return higher


def _candidates(corners: NDArray[np.float32], tolerance: np.float32) -> NDArray[np.intp]:
    """Classes whose largest corner reaches the best smallest corner: only they can win inside."""
    reach = corners.max(axis=1)
    bar = corners.min(axis=1).max(axis=0) - tolerance
    may_win = ~(reach < bar).T  # (M, R); a NaN excludes nothing
    cell, row = np.nonzero(may_win)
    counts = may_win.sum(axis=1)
    rank = np.arange(cell.size) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.full((corners.shape[2], int(counts.max(initial=1))), -1, dtype=np.intp)
    out[cell, rank] = row
    return out
