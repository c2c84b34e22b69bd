"""Closed contours as frames of pixels, which go onto a grid like those of a segmentation.

Where a contour's plane is parallel to slices of the grid, the pixels are that grid's voxels, so no
second rounding happens; elsewhere they are finer than its voxels by half.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medmtl.dicom.seg_placing import Frames, Placed, place, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["FlatContour", "fill", "place_contours"]

_PARALLEL = 1e-3
"""Sine of the largest angle between planes that count as parallel."""
_SAME_PLANE_MM = 0.05
"""Programs round the points of one plane differently; no slice is this thin."""
_FLAT_MM = 0.5
"""How far a point may lie from its contour's plane."""
_NOTHING_MM2 = 1e-6
_FARTHEST_MM = 1e5
_MOST_PIXELS = 2**31


def fill(rings: Sequence[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centres lie inside of an odd number of rings, shape (rows, columns).

    Args:
        rings: Closed polygons, shape (N, 2) each, as (column, row) of pixel centres.
        shape: Rows and columns.
    """
    rows, columns = shape
    flips = np.zeros((rows, columns + 1), dtype=np.uint8)
    for ring in rings:
        start, stop = ring, np.roll(ring, -1, axis=0)
        low, high = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
        # Half open, so that a vertex on a row belongs to one of its two edges.
        first = np.clip(np.ceil(low), 0, rows).astype(np.intp)
        last = np.clip(np.ceil(high), 0, rows).astype(np.intp)
        counts = last - first
        edge = np.repeat(np.arange(len(ring)), counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row += first[edge]
        (x0, y0), (x1, y1) = start[edge].T, stop[edge].T
        crossing = x0 + (row - y0) * (x1 - x0) / (y1 - y0)
        column = np.clip(np.ceil(crossing), 0, columns).astype(np.intp)
        np.add.at(flips, (row, column), 1)
    return np.asarray(np.cumsum(flips[:, :-1], axis=1, dtype=np.uint8) % 2, dtype=bool)


@dataclass(frozen=True, eq=False)
class FlatContour:
    """A closed polygon in a plane.

    Attributes:
        points_lps: Shape (N, 3), in mm.
        normal: Unit normal of its plane.
        centre_lps: A point in that plane.
    """

    points_lps: NDArray[np.float64]
    normal: NDArray[np.float64]
    centre_lps: NDArray[np.float64]

    @classmethod
    def of(cls, points_lps: NDArray[np.float64]) -> FlatContour | None:
        """Find the plane by Newell's method: right for polygons that are not convex, too.

        Returns:
            None for a point or a line, which planning systems write as contours as well.

        Raises:
            ValueError: If the polygon is not flat, or lies in no room.
        """
        if not np.abs(points_lps).max(initial=0.0) <= _FARTHEST_MM:
            message = f"a contour beyond {_FARTHEST_MM / 1000:g} m"
            raise ValueError(message)
        if len(points_lps) < 3:
            return None
        centre = points_lps.mean(axis=0)
        centred = points_lps - centre
        area = np.cross(centred, np.roll(centred, -1, axis=0)).sum(axis=0)
        size = float(np.linalg.norm(area))
        if size < _NOTHING_MM2:
            return None
        off_mm = float(np.abs(centred @ area).max()) / size
        if off_mm > _FLAT_MM:
            message = f"a contour that leaves its plane by {off_mm:.2f} mm"
            raise ValueError(message)
        return cls(points_lps, area / size, centre)


def place_contours(
    contours: Sequence[FlatContour],
    geometry: Geometry,
    *,
    among: Sequence[FlatContour],
    is_own_series: bool = False,
) -> Placed:
    """Put the contours of one region onto a grid.

    Args:
        contours: Those in one plane exclude each other where they overlap: an inner one is a hole.
            The same one again changes nothing.
        geometry: The grid.
        among: All contours of the file: how far their planes are apart is how thick each is.
        is_own_series: Whether they were drawn on the slices of the grid, which are as thick as
            they are, whatever was left out between two contours.

    Raises:
        ValueError: If the planes lie so close together that they fill the memory.
    """
    directions: list[list[FlatContour]] = []
    for contour in {one.points_lps.tobytes(): one for one in contours}.values():
        for members in directions:
            if np.linalg.norm(np.cross(members[0].normal, contour.normal)) <= _PARALLEL:
                members.append(contour)
                break
        else:
            directions.append([contour])
    parts = []
    for members in directions:
        normal = members[0].normal
        own_mm = geometry.spacing_mm[int(np.abs(geometry.direction.T @ normal).argmax())]
        gap_mm = own_mm if is_own_series else _gap_mm(among, normal) or own_mm
        parts.append(_placed(members, geometry, gap_mm))
    return together(parts, geometry)


def _gap_mm(contours: Sequence[FlatContour], normal: NDArray[np.float64]) -> float | None:
    """Smallest distance between the planes that are parallel to this normal; None for one plane."""
    normals = np.array([contour.normal for contour in contours])
    centres = np.array([contour.centre_lps for contour in contours])
    is_parallel = np.linalg.norm(np.cross(normals, normal), axis=1) <= _PARALLEL
    gaps = np.diff(_levels(centres[is_parallel] @ normal))
    return float(gaps.min()) if gaps.size else None


def _placed(contours: list[FlatContour], geometry: Geometry, gap_mm: float) -> Placed:
    """Parallel contours; of what lies beyond the grid only that it does is kept."""
    normal, origin = contours[0].normal, geometry.origin_lps
    basis = np.stack([*_lattice(normal, geometry), normal * gap_mm], axis=1)
    low, high = _extent(geometry, basis)
    heights = np.array([float((one.centre_lps - origin) @ normal) for one in contours])
    is_near = (heights >= low[2] * gap_mm) & (heights <= high[2] * gap_mm)
    near = [one for one, is_one in zip(contours, is_near, strict=True) if is_one]
    index = [_in_lattice(one.points_lps - origin, basis) for one in near]
    lost = int((~is_near).sum())
    nothing = Placed(np.zeros(geometry.shape, dtype=bool), False, len(contours))
    if not index:
        return nothing
    flat = np.concatenate(index)
    corner = np.maximum(np.floor(flat.min(axis=0)), low[:2] - 1).astype(int)
    size = np.minimum(np.ceil(flat.max(axis=0)), high[:2] + 1).astype(int) - corner + 1
    if size.min() < 1:
        return nothing
    frames = _frames(index, heights[is_near], basis, normal, corner, size, origin)
    placed = place(frames, 1, geometry)
    return replace(placed, lost=placed.lost + lost)


def _in_lattice(points_lps: NDArray[np.float64], basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Column and row of each point, shape (N, 2)."""
    return np.asarray(np.linalg.solve(basis, points_lps.T).T[:, :2], dtype=np.float64)


def _extent(
    geometry: Geometry, basis: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest lattice index of the grid, from the outer faces of its voxels."""
    sides = [(-0.5, size - 0.5) for size in geometry.shape]
    corners = np.array(np.meshgrid(*sides)).reshape(3, -1)
    index = np.linalg.solve(basis, geometry.affine_lps[:3, :3] @ corners)
    half = np.array([0.0, 0.0, 0.5])  # a plane just beyond the grid may still fill its last slice
    return np.floor(index.min(axis=1) - half), np.ceil(index.max(axis=1) + half)


def _frames(
    index: list[NDArray[np.float64]],
    heights: NDArray[np.float64],
    basis: NDArray[np.float64],
    normal: NDArray[np.float64],
    corner: NDArray[np.intp],
    size: NDArray[np.intp],
    origin: NDArray[np.float64],
) -> Frames:
    """The planes, filled; `index` holds (column, row) of each contour in the lattice."""
    levels = _levels(heights)
    columns, rows = size.tolist()
    if len(levels) * rows * columns > _MOST_PIXELS:
        message = f"{len(levels)} planes of {rows} x {columns} pixels"
        raise ValueError(message)
    pixels, affines = [], []
    for level in levels:
        here = np.flatnonzero((heights >= level) & (heights <= level + _SAME_PLANE_MM))
        pixels.append(fill([index[n] - corner for n in here], (rows, columns)))
        affine = np.eye(4)
        affine[:3, :3] = basis
        start = np.linalg.solve(basis, normal * level)[:2]  # a lattice need not be square to it
        affine[:3, 3] = origin + basis[:, :2] @ (corner - start) + normal * level
        affines.append(affine)
    return Frames(
        kind="BINARY",
        shape=(rows, columns),
        numbers=np.ones(len(levels), dtype=np.int64),
        affines=np.array(affines),
        bits=8,
        maximum=1,
        pixels=np.concatenate(pixels).astype(np.uint8).ravel(),
    )


def _levels(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The planes: heights that differ by more than rounding."""
    levels: list[float] = []
    for height in np.sort(heights).tolist():
        if not levels or height - levels[-1] > _SAME_PLANE_MM:
            levels.append(height)
    return np.array(levels)


def _lattice(
    normal: NDArray[np.float64], geometry: Geometry
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps in mm along a column index and a row index."""
    steps = geometry.affine_lps[:3, :3]
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        across = np.cross(geometry.direction[:, first], geometry.direction[:, second])
        if np.linalg.norm(np.cross(across / np.linalg.norm(across), normal)) <= _PARALLEL:
            return steps[:, first], steps[:, second]
    size_mm = 0.5 * min(geometry.spacing_mm)
    first_axis = np.cross(normal, np.eye(3)[int(np.abs(normal).argmin())])
    first_axis /= np.linalg.norm(first_axis)
    return first_axis * size_mm, np.cross(normal, first_axis) * size_mm
