"""Share of each cell of an activation map's grid that each segment covers.

Only the ends of runs of voxels are counted: a torso has a hundred times fewer of them than voxels,
and no matrix product sets threads spinning beside those of the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.resample import parallel_axes
from medmtl.core.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["segment_fractions"]


def segment_fractions(
    label_map: NDArray[Any],
    geometry: Geometry,
    grid: Geometry,
    *,
    labels: Sequence[int],
    runs: Runs | None = None,
) -> NDArray[np.float32]:
    """Share of each cell of an activation map's grid that each label covers, exactly.

    One pass over the runs of the label map serves the maps of all findings; memory is that of the
    answer. Where a cell reaches beyond the image, the share is that of its part inside.

    Args:
        label_map: Shape (i, j, k) on `geometry`.
        geometry: Grid of the label map.
        grid: Grid of the activation map, its axes parallel to those of `geometry`.
        labels: Voxel values wanted, each once.
        runs: Of the label map, where they are known.

    Returns:
        (len(labels), *grid.shape) in 0..1; 0 where the cell lies outside of the label map.

    Raises:
        ValueError: If the grids are oblique to each other.
    """
    along = parallel_axes(grid, geometry)  # axis of `grid` along each axis of `geometry`
    matrix = np.linalg.inv(grid.affine_lps) @ geometry.affine_lps
    on_i, on_j, on_k = (
        _overlap(matrix[along[axis], axis], matrix[along[axis], 3], size, grid.shape[along[axis]])
        for axis, size in enumerate(geometry.shape)
    )
    runs = runs or Runs.of_volume(label_map)
    rows = np.full(max([*labels, int(runs.label.max(initial=0))]) + 1, -1)
    rows[list(labels)] = np.arange(len(labels))
    ends = _Ends(runs, rows, _Spread.of(_steps(on_i)), _Spread.of(on_j))
    covered = np.zeros((len(labels), len(on_k), len(on_j), len(on_i)), dtype=np.float32)
    for k, here in enumerate(runs.planes()):
        cells = np.flatnonzero(on_k[:, k])
        if here.start < here.stop and cells.size:
            plane = ends.cover(here, (len(labels), len(on_j), len(on_i)))
            for cell in cells:
                covered[:, cell] += on_k[cell, k] * plane
    return covered.T.transpose(3, *np.argsort(along))


def _overlap(step: float, start: float, size: int, cells: int) -> NDArray[np.float64]:
    """How much of each cell each voxel fills along one axis, (cells, size); rows sum to 1 or 0.

    Args:
        step: Cells from one voxel to the next, negative where the axes are opposed.
        start: Position of the first voxel's centre in cells.
        size: Number of voxels.
        cells: Number of cells.
    """
    centre = start + step * np.arange(size)
    edge = np.arange(cells)[:, None]
    low = np.maximum(centre - abs(step) / 2, edge - 0.5)
    high = np.minimum(centre + abs(step) / 2, edge + 0.5)
    length = np.clip(high - low, 0, None)
    length[length < 1e-6] = 0
    return np.asarray(length / np.maximum(length.sum(axis=1, keepdims=True), 1e-6), np.float64)


def _steps(overlap: NDArray[np.float64]) -> NDArray[np.float64]:
    """What ends before each voxel, (cells, size + 1), as steps from a cell to the one before it.

    Before a voxel in the middle all cells on one side are full: as a step, that is one number.
    """
    filled = np.pad(overlap.cumsum(axis=1), ((0, 1), (1, 0)))
    steps: NDArray[np.float64] = filled[:-1] - filled[1:]
    steps[np.abs(steps) < 1e-9] = 0  # of rounding
    return steps


@dataclass(frozen=True, eq=False)
class _Spread:
    """The few cells that each voxel (or edge between voxels) of one axis touches.

    Attributes:
        first: (size + 1,) where those of each begin.
        cell: Their numbers.
        weight: Their shares.
    """

    first: NDArray[np.intp]
    cell: NDArray[np.intp]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, shares: NDArray[np.float64]) -> _Spread:
        """Of (cells, size)."""
        voxel, cell = shares.T.nonzero()
        first = np.searchsorted(voxel, np.arange(shares.shape[1] + 1))
        return cls(first, cell, shares[cell, voxel])

    def of_each(
        self, voxels: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """For each cell that the voxels touch: which of them it is, the cell, the share."""
        counts = self.first[voxels + 1] - self.first[voxels]
        which = np.repeat(np.arange(voxels.size), counts)
        place = np.arange(which.size) + np.repeat(
            self.first[voxels] - np.cumsum(counts) + counts, counts
        )
        return which, self.cell[place], self.weight[place]


@dataclass(frozen=True, eq=False)
class _Ends:
    """The ends of runs, from which the share that they cover of each cell follows.

    Attributes:
        runs: Of the label map.
        rows: The answer's row of each label, -1 where it is not wanted.
        on_i: Of `_steps`, of the edges between voxels.
        on_j: Of the lines.
    """

    runs: Runs
    rows: NDArray[np.intp]
    on_i: _Spread
    on_j: _Spread

    def cover(self, here: slice, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """(labels, cells along j, cells along i): what the runs of one plane cover."""
        _, lines, columns = self.runs.shape
        row = self.rows[self.runs.label[here]]
        wanted = np.flatnonzero(row >= 0)
        line, start = np.divmod(self.runs.start[here][wanted], columns)
        length = self.runs.stop[here][wanted] - self.runs.start[here][wanted]
        run, cell_j, share = self.on_j.of_each(line % lines)
        target = (row[wanted][run] * shape[1] + cell_j) * shape[2]
        found = np.zeros(math.prod(shape))
        for edge, sign in ((start + length, 1.0), (start, -1.0)):
            which, cell_i, step = self.on_i.of_each(edge[run])
            found += np.bincount(
                target[which] + cell_i, weights=sign * share[which] * step, minlength=found.size
            )
        return found.reshape(shape)[..., ::-1].cumsum(axis=-1)[..., ::-1]
