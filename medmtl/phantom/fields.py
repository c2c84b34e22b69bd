"""Implicit shapes and smooth random fields in body millimetres, float32, evaluated on a grid.

A *shape field* is a normalised radius: below 1 inside, above 1 outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

    Field = NDArray[np.float32]
    Mask = NDArray[np.bool_]

__all__ = ["Points", "body_points", "ellipsoid", "rotation", "smallest", "smooth_noise", "tube"]


@dataclass(frozen=True, eq=False)
class Points:
    """Body coordinates of every voxel in mm: x to the left, y to the back, z to the head."""

    x: Field
    y: Field
    z: Field


def rotation(angles_deg: Sequence[float]) -> NDArray[np.float64]:
    """Rotation matrix of turns about x, then y, then z, in degrees."""
    a, b, c = np.deg2rad(np.asarray(angles_deg, dtype=np.float64))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)


def _spline_basis(positions_mm: NDArray[np.float64], *, step_mm: float, start_mm: float) -> Field:
    """Uniform cubic B-spline basis, shape (positions, control points)."""
    where = (positions_mm - start_mm) / step_mm + 1.0
    first = np.floor(where).astype(int) - 1
    t = where - np.floor(where)
    weights = (
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    )
    basis = np.zeros((len(positions_mm), int(first.max()) + 4), dtype=np.float32)
    for offset, weight in enumerate(weights):
        basis[np.arange(len(positions_mm)), first + offset] = weight
    return basis


def smooth_noise(geometry: Geometry, *, step_mm: float, rng: np.random.Generator) -> Field:
    """A smooth random field of about unit spread whose bumps are `step_mm` wide.

    The control points lie at fixed millimetres of the grid's field of view, so that the same
    generator state gives the same anatomy at every spacing. Shape (i, j, k).
    """
    bases = []
    for size, spacing in zip(geometry.shape, geometry.spacing_mm, strict=True):
        extent = size * spacing
        positions = (np.arange(size, dtype=np.float64) + 0.5) * spacing - extent / 2
        knots = int(np.ceil((extent / 2 + 8.0) / step_mm))
        basis = _spline_basis(positions, step_mm=step_mm, start_mm=-knots * step_mm)
        full = np.zeros((size, 2 * knots + 3), dtype=np.float32)
        full[:, : basis.shape[1]] = basis
        bases.append(full)
    control = rng.standard_normal([basis.shape[1] for basis in bases], dtype=np.float32)
    field = np.tensordot(bases[0], control, axes=(1, 0))  # (i, b, c)
    field = np.matmul(bases[1], field)  # (i, j, c)
    # A cubic B-spline of white noise has spread 0.33; bring it to about one.
    return np.asarray(np.matmul(field, bases[2].T * np.float32(3.0)))  # (i, j, k)


def body_points(
    geometry: Geometry,
    *,
    angles_deg: Sequence[float],
    shift_mm: Sequence[float],
    scale: Sequence[float],
    wobble_mm: float,
    rng: np.random.Generator,
) -> Points:
    """Coordinates of every voxel in the standing-still, standard-sized body.

    Args:
        geometry: The grid, in LPS millimetres.
        angles_deg: Pose of the body about x, y, z.
        shift_mm: Position of the body centre in LPS.
        scale: Size of this body relative to the standard one, along x, y, z.
        wobble_mm: Spread of the smooth deformation.
        rng: Where the deformation is drawn from.
    """
    to_body = rotation(angles_deg).T / np.asarray(scale)[:, None]
    matrix = to_body @ geometry.affine_lps[:3, :3]
    origin = to_body @ (geometry.origin_lps - np.asarray(shift_mm))
    i, j, k = (np.arange(size, dtype=np.float32) for size in geometry.shape)
    axes = []
    for row in range(3):
        along = [np.float32(value) for value in matrix[row]]
        plane = (
            along[0] * i[:, None, None]
            + along[1] * j[None, :, None]
            + (along[2] * k + np.float32(origin[row]))[None, None, :]
        )
        wobble = smooth_noise(geometry, step_mm=70.0, rng=rng)
        axes.append(plane + np.float32(wobble_mm) * wobble)
    return Points(*axes)


def ellipsoid(
    points: Points,
    *,
    centre_mm: Sequence[float],
    radii_mm: Sequence[float],
    angles_deg: Sequence[float] = (0.0, 0.0, 0.0),
    power: float = 2.0,
) -> Field:
    """Shape field of a turned superellipsoid; `power` above 2 makes it boxier."""
    turn = rotation(angles_deg)
    x, y, z = (
        axis - np.float32(centre)
        for axis, centre in zip((points.x, points.y, points.z), centre_mm, strict=True)
    )
    total = np.zeros_like(x)
    for column, radius in enumerate(radii_mm):
        a, b, c = (np.float32(value / radius) for value in turn[:, column])
        along = a * x + b * y + c * z
        total += along * along if power == 2.0 else np.abs(along) ** np.float32(power)
    return np.asarray(total ** np.float32(1.0 / power))


def tube(
    points: Points, *, path_mm: Sequence[tuple[float, float, float]], radius_mm: float
) -> Field:
    """Shape field of a round tube along a polyline of (x, y, z) points."""
    best = np.full_like(points.x, np.inf)
    for start, end in pairwise(path_mm):
        step = np.subtract(end, start)
        length2 = float(step @ step)
        x, y, z = (
            axis - np.float32(value)
            for axis, value in zip((points.x, points.y, points.z), start, strict=True)
        )
        a, b, c = (np.float32(value) for value in step)
        t = np.clip((x * a + y * b + z * c) / np.float32(length2), 0, 1)
        distance2 = (x - t * a) ** 2 + (y - t * b) ** 2 + (z - t * c) ** 2
        np.minimum(best, distance2, out=best)
    return np.asarray(np.sqrt(best) / np.float32(radius_mm))


def smallest(field: Field, *, inside: Mask, count: int) -> Mask:
    """The `count` voxels of `inside` with the smallest field: a shape of an exact volume."""
    values = field[inside]
    if count <= 0 or values.size == 0:
        return np.zeros_like(inside)
    level = np.partition(values, min(count, values.size) - 1)[min(count, values.size) - 1]
    return np.asarray(inside & (field <= level))
