"""Permuting and mirroring axes: exact, without interpolation, as views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmtl.core.geometry import Geometry, closest_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AxisPlan", "display_plan", "lps_plan", "plan_axes", "plan_onto", "ras_plan"]

_LEFT, _POSTERIOR, _SUPERIOR = range(3)


@dataclass(frozen=True)
class AxisPlan:
    """How source axes become oriented axes.

    Attributes:
        order: Source axis of each oriented axis (i, j, k).
        is_flipped: Whether the oriented axis (i, j, k) runs against its source axis.
    """

    order: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Any]) -> NDArray[Any]:
        """The oriented array, a view of `array`."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.is_flipped)
        return array.transpose(self.order)[steps]

    def apply_geometry(self, geometry: Geometry) -> Geometry:
        """The grid of the oriented array."""
        to_source = np.zeros((4, 4))
        to_source[3, 3] = 1.0
        for axis, (source, flip) in enumerate(zip(self.order, self.is_flipped, strict=True)):
            to_source[source, axis] = -1.0 if flip else 1.0
            to_source[source, 3] = geometry.shape[source] - 1 if flip else 0.0
        i, j, k = (geometry.shape[source] for source in self.order)
        return Geometry(shape=(i, j, k), affine_lps=geometry.affine_lps @ to_source)


def plan_axes(geometry: Geometry, orientation: Literal["LPS", "display"]) -> AxisPlan:
    """The plan for a grid and an orientation of the settings."""
    return lps_plan(geometry) if orientation == "LPS" else display_plan(geometry)


def lps_plan(geometry: Geometry) -> AxisPlan:
    """Axes as close as possible to left, posterior, superior."""
    patient_axes, signs = closest_axes(geometry.affine_lps)
    order = tuple(patient_axes.index(axis) for axis in range(3))
    return _plan(order, tuple(signs[axis] < 0 for axis in order))


def ras_plan(geometry: Geometry) -> AxisPlan:
    """Axes as close as possible to right, anterior, superior."""
    plan = lps_plan(geometry)
    i, j, k = plan.is_flipped
    return _plan(plan.order, (not i, not j, k))


def display_plan(geometry: Geometry) -> AxisPlan:
    """Axes as slices are displayed: i runs to the right of the screen, j down, k right-handed.

    The right of the screen is the patient's left (or posterior in a sagittal slice), down is
    posterior or inferior. So mirrored or transposed storage of one acquisition looks the same,
    while an oblique stack (short-axis cine MR) keeps its own planes.
    """
    k = geometry.slice_axis
    first, second = (axis for axis in range(3) if axis != k)
    direction = geometry.direction
    i, j = (first, second) if _is_horizontal(direction, first, second) else (second, first)
    i_sign, j_sign = _display_sign(direction[:, i]), _display_sign(direction[:, j])
    normal = np.cross(i_sign * direction[:, i], j_sign * direction[:, j])
    return _plan((i, j, k), (i_sign < 0, j_sign < 0, bool(normal @ direction[:, k] < 0)))


def plan_onto(
    geometry: Geometry, target: Geometry, *, tolerance_voxel: float = 0.1
) -> AxisPlan | None:
    """The plan that makes a grid the target, where both hold the same voxels; None elsewhere."""
    matrix = np.linalg.inv(geometry.affine_lps) @ target.affine_lps
    order = tuple(int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=0))
    if sorted(order) != [0, 1, 2]:
        return None
    plan = _plan(order, tuple(bool(matrix[source, axis] < 0) for axis, source in enumerate(order)))
    turned = plan.apply_geometry(geometry)
    return plan if turned.is_close(target, tolerance_voxel=tolerance_voxel) else None


def _plan(order: tuple[int, ...], is_flipped: tuple[bool, ...]) -> AxisPlan:
    (a, b, c), (x, y, z) = order, is_flipped
    return AxisPlan(order=(a, b, c), is_flipped=(x, y, z))


def _is_horizontal(direction: NDArray[np.float64], first: int, second: int) -> bool:
    """Whether `first` rather than `second` is displayed from left to right."""
    pair = np.abs(direction[:, [first, second]])
    has_left_axis = bool((pair.argmax(axis=0) == _LEFT).any())
    row = pair[_LEFT if has_left_axis else _POSTERIOR]
    return bool(row[0] >= row[1])


def _display_sign(axis_lps: NDArray[np.float64]) -> int:
    dominant = int(np.abs(axis_lps).argmax())
    sign = 1 if axis_lps[dominant] >= 0 else -1
    return -sign if dominant == _SUPERIOR else sign
