"""Connected pieces of all segments of a label map at once, by runs of equal voxels.

A run is an unbroken stretch of one label along a line of the memory. A CT has a hundred times fewer
runs than voxels, so joining them takes a fraction of the time of numbering the voxels of one
segment after the other, and there is never a volume of piece numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Runs", "run_starts"]

_BEFORE = ((-1, -1), (-1, 0), (-1, 1), (0, -1))
"""Neighbouring lines (k, j) of a line; the other four see it from their side."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of a label map (K, J, I) without background, in the order of the memory.

    Attributes:
        shape: (K, J, I).
        start: (N,) first voxel, counted through the whole map.
        stop: (N,) one past the last voxel, in the same line.
        label: (N,).
    """

    shape: tuple[int, int, int]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    label: NDArray[Any]

    @classmethod
    def of(cls, label_map: NDArray[Any]) -> Runs:
        """The runs of a C-contiguous map (K, J, I)."""
        k, j, i = label_map.shape
        begins = [run_starts(plane) + number * j * i for number, plane in enumerate(label_map)]
        start = np.concatenate([*begins, [label_map.size]])
        label = label_map.reshape(-1)[start[:-1]]
        inside = label > 0
        return cls((k, j, i), start[:-1][inside], start[1:][inside], label[inside])

    def pieces(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The piece (N,) of each run, numbered as they begin, and the voxels (P,) of each piece.

        Voxels of one label that share a side, an edge or a corner are connected.
        """
        size = len(self.start)
        near, far = (np.concatenate(side) for side in zip(*self._touching(), strict=True))
        graph = coo_array((np.ones(near.size, dtype=bool), (near, far)), shape=(size, size))
        count, piece = connected_components(graph, directed=False)
        voxels = np.bincount(piece, weights=self.stop - self.start, minlength=count)
        return piece, voxels.astype(np.int64)

    def clear(self, label_map: NDArray[Any], chosen: NDArray[np.bool_]) -> None:
        """Make the voxels of chosen runs background, in the map that they are of."""
        flat = label_map.reshape(-1)
        ends = zip(self.start[chosen].tolist(), self.stop[chosen].tolist(), strict=True)
        for start, stop in ends:
            flat[start:stop] = 0

    def _touching(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Pairs of connected runs, plane by plane."""
        depth, rows, columns = self.shape
        bounds = np.searchsorted(self.start, np.arange(depth + 1) * rows * columns).tolist()
        yield np.empty(0, np.int32), np.empty(0, np.int32)
        for k in range(depth):
            for planes, lines in _BEFORE if k else _BEFORE[-1:]:
                near = slice(*bounds[k : k + 2])
                far = slice(*bounds[k + planes : k + planes + 2])
                if near.start < near.stop and far.start < far.stop:
                    yield self._neighbours(near, far, planes, lines)

    def _neighbours(
        self, near: slice, far: slice, planes: int, lines: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Connected pairs of the runs of one plane and of another, so many planes and lines off."""
        _, rows, columns = self.shape
        line = self.start[near] // columns
        row = line % rows + lines
        own = np.flatnonzero((row >= 0) & (row < rows))
        moved = (planes * rows + lines) * columns
        begin = line[own] * columns + moved
        # One voxel further at both ends, for the corners, but not into another line.
        low = np.maximum(self.start[near][own] + moved - 1, begin)
        high = np.minimum(self.stop[near][own] + moved + 1, begin + columns)
        first = np.searchsorted(self.stop[far], low, side="right")
        found = np.searchsorted(self.start[far], high, side="left") - first
        here = np.repeat(own, found)
        there = np.repeat(first - np.cumsum(found) + found, found) + np.arange(here.size)
        same = self.label[near][here] == self.label[far][there]
        here, there = here[same] + near.start, there[same] + far.start
        return here.astype(np.int32), there.astype(np.int32)


def run_starts(plane: NDArray[Any]) -> NDArray[np.int64]:
    """Where runs of (J, I) begin, those of background too, each line anew."""
    is_new = np.ones(plane.shape, dtype=bool)
    np.not_equal(plane[:, 1:], plane[:, :-1], out=is_new[:, 1:])
    return np.flatnonzero(is_new)
