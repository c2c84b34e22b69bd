"""A beating heart as two cavities and a wall, in closed form.

Heart coordinates in mm: x from the RV to the LV free wall, y at right angles to it, w from the
base at rest (w = 0) to the apex. `squeeze` is 0 at end-diastole and 1 at end-systole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from medmtl.phantom.heart_plan import HeartPlan

    Array = NDArray[np.float32]

__all__ = ["Chambers", "HeartShape", "fit_heart", "squeeze_over_beat"]

_RV_DEPTH = 0.93  # the RV ends before the LV apex


@dataclass(frozen=True, eq=False)
class Chambers:
    """Where points lie relative to the walls; every field is negative inside, in about mm.

    Attributes:
        lv_cavity: Distance from the inner LV wall.
        lv_wall: Distance from the outer LV wall.
        rv_cavity: Distance from the inner RV wall (the LV not taken off).
        depth: 0 at the base, 1 at the apex of the LV cavity.
    """

    lv_cavity: Array
    lv_wall: Array
    rv_cavity: Array
    depth: Array


@dataclass(frozen=True)
class HeartShape:
    """A heart plan with the sizes that give its volumes.

    Attributes:
        plan: What was asked for.
        radius_mm: Largest radius of the LV cavity at end-diastole.
        length_mm: Length of the LV cavity at end-diastole.
        squeeze_gain: Share by which the radius shrinks at end-systole.
        rv_width_mm: Distance from septum to RV free wall at end-diastole and end-systole.
    """

    plan: HeartPlan
    radius_mm: float
    length_mm: float
    squeeze_gain: float = 0.0
    rv_width_mm: tuple[float, float] = (30.0, 30.0)

    def base_mm(self, squeeze: float) -> float:
        """Where the base lies on the long axis."""
        return self.plan.base_shift_mm * squeeze

    def chambers(self, x: Array, y: Array, w: Array, *, squeeze: float) -> Chambers:
        """Place points in the heart at one moment of the beat."""
        base = self.base_mm(squeeze)
        depth = (w - np.float32(base)) / np.float32(self.length_mm - base)
        rho, angle = np.hypot(x, y), np.arctan2(y, x)
        inner, outer = self.walls(angle, depth, squeeze=squeeze)
        return Chambers(rho - inner, rho - outer, self._rv(x, y, depth, squeeze=squeeze), depth)

    def walls(self, angle: Array, depth: Array, *, squeeze: float) -> tuple[Array, Array]:
        """Inner and outer LV radius in every direction and depth."""
        plan = self.plan
        septal = np.exp(-((np.abs(np.abs(angle) - np.pi) / 0.9) ** 2))
        base_taper = 0.92 + 0.08 * np.clip(depth / 0.25, 0, 1)
        round_tip = np.sqrt(np.clip(1 - np.clip(depth, 0, None) ** 2.4, 0, None))
        inner = self.radius_mm * base_taper * round_tip * (1 - plan.septum_flattening * septal)
        wall = (plan.wall_mm + plan.septum_extra_mm * septal) * (1 - 0.25 * np.clip(depth, 0, 1))
        active = np.ones_like(inner)
        if plan.infarct_rad is not None:
            turn = np.angle(np.exp(1j * (angle - plan.infarct_rad)))
            scar = np.exp(-((turn / 0.95) ** 2)) / (1 + np.exp(-12 * (depth - 0.25)))
            wall = wall * (1 - 0.38 * scar)
            active = 1 - 0.97 * scar
        outer_tip = np.sqrt(
            np.clip(1 - np.clip(depth / self._outer_depth, 0, None) ** 2.4, 0, None)
        )
        outer = (
            self.radius_mm * base_taper * (1 - plan.septum_flattening * septal) + wall
        ) * outer_tip
        area = np.clip(outer**2 - inner**2, 0, None)
        moved = inner * (1 - squeeze * self.squeeze_gain * active)
        # Muscle keeps its volume: what the ventricle loses in length its wall gains in area.
        grown = area * (self.length_mm / (self.length_mm - self.base_mm(squeeze)))
        return moved.astype(np.float32), np.sqrt(moved**2 + grown).astype(np.float32)

    @property
    def _outer_depth(self) -> float:
        return 1.0 + 0.75 * self.plan.wall_mm / self.length_mm

    def _rv(self, x: Array, y: Array, depth: Array, *, squeeze: float) -> Array:
        """An ellipse beside the LV; its part outside the LV wall is the crescent of the RV."""
        start, end = self.rv_width_mm
        width = start + (end - start) * squeeze
        tip = np.sqrt(np.clip(1 - np.clip(depth / _RV_DEPTH, 0, None) ** 2.0, 0, None))
        outer = (
            self.radius_mm * (1 - 0.25 * squeeze * self.squeeze_gain) + self.plan.wall_mm
        ) * np.sqrt(np.clip(1 - np.clip(depth / self._outer_depth, 0, None) ** 2.4, 0, None))
        half_x = 0.45 * outer + width * tip
        half_y = (0.72 * outer + 0.36 * width) * (0.25 + 0.75 * tip)
        level = np.hypot((x + 0.55 * outer) / np.maximum(half_x, 1), y / np.maximum(half_y, 1))
        distance = (level - 1) * np.minimum(half_x, half_y)
        return np.where(depth < _RV_DEPTH, distance, np.float32(99)).astype(np.float32)


def _volumes_ml(shape: HeartShape, *, squeeze: float) -> tuple[float, float]:
    """LV and RV cavity volume by sums over a 3 mm grid."""
    step = 3.0
    side = np.arange(-150, 110, step, dtype=np.float32)
    depth = np.linspace(0.02, 0.98, 25, dtype=np.float32)
    height = (shape.length_mm - shape.base_mm(squeeze)) * 0.04
    x, y, d = np.meshgrid(side, side[side > -90], depth, indexing="ij")
    w = d * (shape.length_mm - shape.base_mm(squeeze)) + shape.base_mm(squeeze)
    parts = shape.chambers(x, y, w.astype(np.float32), squeeze=squeeze)
    voxel_ml = step * step * height / 1000.0
    lv = float((parts.lv_cavity < 0).sum()) * voxel_ml
    rv = float(((parts.rv_cavity < 0) & (parts.lv_wall > 0)).sum()) * voxel_ml
    return lv, rv


def _solve(miss: Callable[[float], float], low: float, high: float, *, tolerance: float) -> float:
    """Root inside the bracket, or the better end where the target cannot be reached."""
    at_low, at_high = miss(low), miss(high)
    if at_low * at_high > 0:
        return low if abs(at_low) < abs(at_high) else high
    return float(optimize.brentq(miss, low, high, xtol=tolerance))


def _lv_ml(shape: HeartShape, *, squeeze: float) -> float:
    """LV cavity volume by integration over directions and depth."""
    angle = np.linspace(-np.pi, np.pi, 96, endpoint=False, dtype=np.float32)
    depth = np.linspace(1 / 128, 127 / 128, 64, dtype=np.float32)
    inner, _ = shape.walls(angle[:, None], depth[None, :], squeeze=squeeze)
    length = shape.length_mm - shape.base_mm(squeeze)
    return float((0.5 * inner**2).sum() * (2 * np.pi / 96) * (length / 64) / 1000.0)


def fit_heart(plan: HeartPlan) -> HeartShape:
    """Choose the sizes that give the volumes of the plan."""

    def lv_at_rest(radius: float) -> HeartShape:
        return HeartShape(plan, radius_mm=radius, length_mm=plan.slenderness * radius)

    radius = _solve(
        lambda r: _lv_ml(lv_at_rest(r), squeeze=0) - plan.lv_ml[0], 12, 50, tolerance=0.02
    )
    rest = lv_at_rest(radius)

    def squeezed(gain: float) -> HeartShape:
        return HeartShape(plan, radius_mm=radius, length_mm=rest.length_mm, squeeze_gain=gain)

    gain = _solve(lambda g: _lv_ml(squeezed(g), squeeze=1) - plan.lv_ml[1], 0, 0.97, tolerance=2e-3)

    def with_rv(width: float) -> HeartShape:
        return HeartShape(plan, radius, rest.length_mm, gain, (width, width))

    widths = [
        _solve(
            lambda v, s=squeeze: _volumes_ml(with_rv(v), squeeze=s)[1] - plan.rv_ml[s],  # type: ignore[misc]
            4,
            95,
            tolerance=0.2,
        )
        for squeeze in (0, 1)
    ]
    return HeartShape(plan, radius, rest.length_mm, gain, (widths[0], widths[1]))


def squeeze_over_beat(phases: int) -> Array:
    """Squeeze at evenly spaced moments: contraction, early filling, rest, atrial filling."""
    moments = np.arange(phases) / phases
    knots = (0.0, 0.1, 0.22, 0.34, 0.40, 0.50, 0.58, 0.70, 0.84, 0.93, 1.0)
    values = (0.0, 0.30, 0.80, 1.0, 0.97, 0.60, 0.32, 0.22, 0.18, 0.05, 0.0)
    return np.interp(moments, knots, values).astype(np.float32)
