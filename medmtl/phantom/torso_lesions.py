"""The focal findings: nodules, effusion, liver lesions, renal cysts, each in its organ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medmtl.core.geometry import points_to_space
from medmtl.phantom.fields import smallest

if TYPE_CHECKING:
    from medmtl.phantom.fields import Field, Mask
    from medmtl.phantom.torso_canvas import Canvas

__all__ = ["Lesion", "paint_lesions"]

_COARSE_MM = 8.0


@dataclass(frozen=True)
class Lesion:
    """One focal lesion: which finding, where (LPS mm) and how large."""

    finding: str
    centre_lps_mm: tuple[float, float, float]
    radius_mm: float


def paint_lesions(canvas: Canvas) -> tuple[Lesion, ...]:
    """Plant every focal finding of the plan and say where."""
    present = canvas.plan.findings
    lesions: list[Lesion] = []
    if present["pleural_effusion"]:
        _paint_effusion(canvas)
    if present["lung_nodule"]:
        lesions += _plant(
            canvas, "lung_nodule", organ="lung", hu="nodule", radii_mm=(6, 14), most=3
        )
    if present["liver_lesion"]:
        lesions += _plant(
            canvas, "liver_lesion", organ="liver", hu="liver_lesion", radii_mm=(9, 22), most=3
        )
    if present["renal_cyst"]:
        lesions += _plant(canvas, "renal_cyst", organ="kidney", hu="cyst", radii_mm=(9, 20), most=2)
    return tuple(lesions)


def _paint_effusion(canvas: Canvas) -> None:
    """Fluid fills the back and base of one or both pleural spaces up to a curved level."""
    points, lung = canvas.points, canvas.is_label("lung")
    sides = [points.x < 0, points.x > 0]
    chosen = [sides[0]], [sides[1]], sides
    wall = np.hypot(points.x / 136, points.y / 92)
    height = -points.y - 30 * wall**4 + 0.22 * points.z
    for side in chosen[int(canvas.rng.integers(3))]:
        volume_ml = canvas.rng.uniform(180, 750)
        room = lung & side
        count = min(canvas.count_of_ml(volume_ml), int(0.45 * room.sum()))
        fluid = smallest(height, inside=room, count=count)
        canvas.paint(fluid, canvas.plan.hu["effusion"], "pleural_effusion")


def _plant(
    canvas: Canvas, finding: str, *, organ: str, hu: str, radii_mm: tuple[int, int], most: int
) -> list[Lesion]:
    lesions = []
    for _ in range(int(canvas.rng.integers(1, most + 1))):
        radius = float(canvas.rng.uniform(*radii_mm))
        is_cyst = finding == "renal_cyst"
        margin = 0.45 * radius if is_cyst else radius + 2.0
        centre, room_mm = _deep_place(canvas, canvas.is_label(organ), depth_mm=margin)
        if not is_cyst:
            radius = max(min(radius, room_mm), float(radii_mm[0]) * 0.8)
        _paint_ball(canvas, finding, centre, radius, organ=organ, hu=canvas.plan.hu[hu])
        lesions.append(Lesion(finding, centre, radius))
    return lesions


def _deep_place(
    canvas: Canvas, organ: Mask, *, depth_mm: float
) -> tuple[tuple[float, float, float], float]:
    """A random voxel centre at least `depth_mm` inside the organ, or else the deepest one."""
    spacing = canvas.geometry.spacing_mm
    strides = tuple(max(1, round(_COARSE_MM / mm)) for mm in spacing)
    coarse = organ[:: strides[0], :: strides[1], :: strides[2]]
    sampling = [mm * stride for mm, stride in zip(spacing, strides, strict=True)]
    depth = ndimage.distance_transform_edt(np.pad(coarse, 1), sampling=sampling)[1:-1, 1:-1, 1:-1]
    places = np.argwhere(depth >= depth_mm)
    if len(places):
        chosen = places[canvas.rng.integers(len(places))]
    else:
        chosen = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    index = chosen * np.array(strides)
    x, y, z = points_to_space(canvas.geometry.affine_lps, index[None])[0]
    return (float(x), float(y), float(z)), float(depth[tuple(chosen)])


def _paint_ball(
    canvas: Canvas,
    finding: str,
    centre_lps: tuple[float, float, float],
    radius_mm: float,
    *,
    organ: str,
    hu: float,
) -> None:
    """A slightly irregular ball; only a cyst may bulge out of its organ into the fat around it."""
    geometry = canvas.geometry
    axes = [
        (origin + np.arange(size) * mm - c).astype(np.float32)
        for origin, size, mm, c in zip(
            geometry.origin_lps, geometry.shape, geometry.spacing_mm, centre_lps, strict=True
        )
    ]
    box = tuple(slice(*_reach(axis, radius_mm * 1.3)) for axis in axes)
    x, y, z = np.ix_(*(axis[part] for axis, part in zip(axes, box, strict=True)))
    distance = np.sqrt(x * x + y * y + z * z) / np.float32(radius_mm)
    ball = np.zeros(geometry.shape, dtype=bool)
    ball[box] = distance * (1 + np.float32(0.07) * canvas.wobbles[2][box]) < 1
    allowed = canvas.is_label(organ) | canvas.is_label(finding)
    if finding == "renal_cyst":
        allowed |= canvas.regions["free"] & (canvas.label_map == 0)
    canvas.paint(ball & allowed, hu, finding)


def _reach(axis_mm: Field, radius_mm: float) -> tuple[int, int]:
    near = np.flatnonzero(np.abs(axis_mm) <= radius_mm)
    return (int(near[0]), int(near[-1]) + 1) if near.size else (0, 0)
