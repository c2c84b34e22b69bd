"""A mask of one plane as closed polygons without holes, through contourpy.

Vertices lie half way between the pixels inside and outside, so whoever asks for a pixel's centre
gets the mask back. A hole is joined to its outer border by a channel of no width (the "keyhole" of
PS3.3 C.8.8.6.3), which readers of every age understand.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from contourpy import FillType, contour_generator
from scipy.spatial import KDTree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["polygons"]

_CHANNELS = 64
"""Ways into a hole that are looked at, shortest first."""
_CLEAR = 0.1
"""Distance in pixels that a channel keeps from pixel centres."""


def polygons(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """The outlines of a mask.

    Args:
        mask: Shape (rows, columns).

    Yields:
        One polygon per piece, shape (N, 2), as (column, row) of pixel centres; the last vertex is
        not the first again.
    """
    padded = np.pad(mask, 1).astype(np.float64)
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    for points, offsets in zip(*generator.filled(0.5, 2.0), strict=True):
        rings = [_corners(points[start : stop - 1] - 1.0) for start, stop in pairwise(offsets)]
        yield _keyhole(rings[0], rings[1:])


def _corners(ring: NDArray[Any]) -> NDArray[np.float64]:
    """Without the vertices on straight lines."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.asarray(ring[turns != 0], dtype=np.float64)


def _keyhole(outer: NDArray[np.float64], holes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One ring of all: into each hole and out again on the same line, nearest hole first."""
    ring, left = outer, list(holes)
    while left:
        tree = KDTree(ring)
        nearest = int(np.argmin([tree.query(hole)[0].min() for hole in left]))
        ring = _joined(ring, left.pop(nearest))
    return ring


def _joined(ring: NDArray[np.float64], hole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Through the shortest channel that passes no pixel centre: there, readers differ."""
    (edges, doors), (hole_edges, hole_doors) = _doors(ring), _doors(hole)
    distance = np.linalg.norm(doors[:, None] - hole_doors[None], axis=2)
    shortest = np.argsort(distance, axis=None)[:_CHANNELS]
    pairs = [(int(n) // len(hole_doors), int(n) % len(hole_doors)) for n in shortest]
    free = [_clearance(doors[a], hole_doors[b]) for a, b in pairs]
    chosen = next((n for n, far in enumerate(free) if far >= _CLEAR), int(np.argmax(free)))
    door, start = pairs[chosen]
    inside = np.roll(hole, -int(hole_edges[start]) - 1, axis=0)
    there = hole_doors[start : start + 1]
    here, stop = doors[door : door + 1], int(edges[door]) + 1
    return np.concatenate([ring[:stop], here, there, inside, there, here, ring[stop:]])


def _doors(ring: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Edges that cut a corner, and a point on each that has a quarter in both coordinates."""
    steps = np.roll(ring, -1, axis=0) - ring
    edges = np.flatnonzero(np.abs(steps[:, 0]) == np.abs(steps[:, 1]))
    return edges, ring[edges] + 0.25 * np.sign(steps[edges])


def _clearance(start: NDArray[np.float64], stop: NDArray[np.float64]) -> float:
    """Distance of a line to the nearest pixel centre, in pixels."""
    low, high = np.floor(np.minimum(start, stop)), np.ceil(np.maximum(start, stop))
    x, y = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    along = stop - start
    share = np.clip((centres - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    return float(np.linalg.norm(centres - start - share[:, None] * along, axis=1).min())
