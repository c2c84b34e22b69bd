"""What one heart will look like and how it beats: drawn by diagnostic group, before any voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmtl.core.errors import ConfigError

__all__ = ["CINE_GROUPS", "HeartPlan", "body_surface_area_m2", "plan_heart"]

CINE_GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
"""Groups of the ACDC challenge (Bernard et al., IEEE TMI 37(11), 2018)."""


@dataclass(frozen=True)
class _GroupRanges:
    """Uniform ranges of a group; volumes per square metre of body surface."""

    lv_ml_m2: tuple[float, float]
    lv_ejection: tuple[float, float]
    wall_mm: tuple[float, float]
    rv_ml_m2: tuple[float, float]
    rv_ejection: tuple[float, float]
    septum_extra_mm: tuple[float, float] = (0.5, 2.0)


# The experts' criteria of ACDC: DCM ejection < 40 % and LV > 100 ml/m2; MINF ejection < 40 % with
# regional loss; HCM wall > 15 mm and ejection > 55 %; RV > 110 ml/m2 or RV ejection < 40 %.
_GROUPS = {
    "NOR": _GroupRanges((62, 85), (0.57, 0.68), (7.5, 9.5), (65, 90), (0.50, 0.62)),
    "DCM": _GroupRanges((115, 165), (0.14, 0.33), (7.0, 9.0), (70, 100), (0.35, 0.50)),
    "HCM": _GroupRanges((52, 75), (0.62, 0.76), (11, 14), (60, 80), (0.52, 0.64), (5.0, 9.0)),
    "MINF": _GroupRanges((82, 115), (0.22, 0.36), (7.5, 9.5), (65, 85), (0.45, 0.58)),
    "RV": _GroupRanges((55, 75), (0.52, 0.62), (7.5, 9.5), (120, 165), (0.24, 0.38)),
}


@dataclass(frozen=True)
class HeartPlan:
    """One heart.

    Attributes:
        group: One of `CINE_GROUPS`.
        sex: "M" or "F".
        age_years: Age.
        height_cm: Body height.
        weight_kg: Body weight.
        lv_ml: LV cavity volume at end-diastole and end-systole.
        rv_ml: RV cavity volume at end-diastole and end-systole.
        wall_mm: Thickness of the free wall at end-diastole.
        septum_extra_mm: How much thicker the septum is than the free wall.
        infarct_rad: Direction of the scar around the LV (0 is away from the RV); None where none.
        slenderness: LV cavity length over its largest radius.
        base_shift_mm: How far the base moves to the apex in systole.
        rv_angle_rad: Direction of the RV as seen from the LV in the image (pi is to the left).
        septum_flattening: Share by which a loaded RV pushes the septum inwards.
        beat_ms: Length of one heart beat.
    """

    group: str
    sex: str
    age_years: int
    height_cm: float
    weight_kg: float
    lv_ml: tuple[float, float]
    rv_ml: tuple[float, float]
    wall_mm: float
    septum_extra_mm: float
    infarct_rad: float | None
    slenderness: float
    base_shift_mm: float
    rv_angle_rad: float
    septum_flattening: float
    beat_ms: float


def body_surface_area_m2(*, height_cm: float, weight_kg: float) -> float:
    """Mosteller's formula (N Engl J Med 317:1098, 1987)."""
    return float(np.sqrt(height_cm * weight_kg / 3600.0))


def plan_heart(seed: int, *, group: str) -> HeartPlan:
    """Draw one heart of a group.

    Raises:
        ConfigError: If there is no such group.
    """
    if group not in _GROUPS:
        raise ConfigError(f"Unknown cine group {group!r}. Expected one of {list(CINE_GROUPS)}.")
    ranges = _GROUPS[group]
    rng = np.random.default_rng([seed, 11, CINE_GROUPS.index(group)])
    sex = "F" if rng.random() < 0.4 else "M"
    height_cm = round(float(rng.normal(165 if sex == "F" else 177, 6)), 1)
    weight_kg = round(float(rng.uniform(20.5, 30.0) * (height_cm / 100) ** 2), 1)
    area_m2 = body_surface_area_m2(height_cm=height_cm, weight_kg=weight_kg)
    lv_ml = float(rng.uniform(*ranges.lv_ml_m2)) * area_m2
    rv_ml = float(rng.uniform(*ranges.rv_ml_m2)) * area_m2
    lv_ejection = float(rng.uniform(*ranges.lv_ejection))
    return HeartPlan(
        group=group,
        sex=sex,
        age_years=int(rng.integers(25, 80)),
        height_cm=height_cm,
        weight_kg=weight_kg,
        lv_ml=(lv_ml, lv_ml * (1 - lv_ejection)),
        rv_ml=(rv_ml, rv_ml * (1 - float(rng.uniform(*ranges.rv_ejection)))),
        wall_mm=float(rng.uniform(*ranges.wall_mm)),
        septum_extra_mm=float(rng.uniform(*ranges.septum_extra_mm)),
        infarct_rad=float(rng.uniform(-2.2, 2.2)) if group == "MINF" else None,
        slenderness=float(rng.uniform(2.6, 3.1) if group == "DCM" else rng.uniform(3.0, 3.7)),
        base_shift_mm=float(rng.uniform(10, 15)) * min(1.0, lv_ejection / 0.55),
        rv_angle_rad=float(np.pi + np.deg2rad(rng.uniform(-10, 32))),
        septum_flattening=float(rng.uniform(0.08, 0.18)) if group == "RV" else 0.0,
        beat_ms=float(rng.uniform(720, 1050)),
    )
