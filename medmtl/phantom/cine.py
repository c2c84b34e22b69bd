"""Short-axis cardiac cine MR with known truth, from a seed: `generate_cine`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medmtl.core.errors import ConfigError
from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.volume import Volume
from medmtl.phantom.cine_scene import Scene, Tissue, draw_tissue, paint_scene
from medmtl.phantom.fields import smooth_noise
from medmtl.phantom.heart_plan import HeartPlan, plan_heart
from medmtl.phantom.heart_shape import Chambers, HeartShape, fit_heart, squeeze_over_beat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

__all__ = ["CINE_SCHEMA", "CinePhantom", "generate_cine"]

CINE_SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "right_ventricle_cavity"),
        SegmentSpec(2, "myocardium"),
        SegmentSpec(3, "left_ventricle_cavity"),
    )
)
"""Segments of the truth masks, as ACDC numbers them."""

_RV, _MYOCARDIUM, _LV = 1, 2, 3
_COLUMNS, _ROWS = 208, 240
_SUBSLICES = (-0.33, 0.0, 0.33)  # of the slice thickness: partial volume across the slice


@dataclass(frozen=True, eq=False)
class CinePhantom:
    """One generated cine examination and everything that is true of it.

    Attributes:
        volumes: One image per phase, uint16 of shape (i, j, k), k from base to apex or back as
            the geometry says; `time_ms` is the trigger time.
        label_maps: uint8 masks of each phase: 1 RV cavity, 2 myocardium, 3 LV cavity.
        ed_phase: Phase with the largest LV cavity.
        es_phase: Phase with the smallest LV cavity.
        slice_thickness_mm: Slice thickness (the spacing between slices may be larger).
        plan: Group, body size, wanted volumes.
    """

    volumes: tuple[Volume, ...]
    label_maps: tuple[NDArray[np.uint8], ...]
    ed_phase: int
    es_phase: int
    slice_thickness_mm: float
    plan: HeartPlan


@dataclass(frozen=True, eq=False)
class _Setting:
    """Everything that does not change over the beat.

    `x`, `y`, `w` and `scene` cover only `box`, the part of the image that the heart can reach.
    """

    shape: HeartShape
    geometry: Geometry
    box: tuple[slice, slice]
    surroundings: Array
    scene: Scene
    tissue: Tissue
    x: Array
    y: Array
    w: Array
    thickness_mm: float
    gain: Array


def _orientation(rng: np.random.Generator) -> NDArray[np.float64]:
    """Row, column and normal directions of a short-axis stack, tilted a little at random.

    Image left is the patient's right and front, image bottom towards the diaphragm; the normal
    (row x column) points from the apex to the base.
    """
    normal = np.array([-0.62, 0.62, 0.48]) + rng.normal(0, 0.06, 3)
    normal /= np.linalg.norm(normal)
    down = np.array([0.05, 0.45, -0.9]) + rng.normal(0, 0.06, 3)
    down -= normal * (down @ normal)
    down /= np.linalg.norm(down)
    return np.stack([np.cross(down, normal), down, normal], axis=1)


def _geometry(shape: HeartShape, rng: np.random.Generator) -> tuple[Geometry, float, float]:
    """Grid, slice thickness and depth of the most basal slice."""
    step = float(rng.choice([1.3, 1.4, 1.5, 1.5625]))
    spacing = float(rng.choice([8.0, 9.0, 10.0]))
    thickness = spacing - float(rng.choice([0.0, 1.0, 2.0]))
    first = float(rng.uniform(-3, 6))
    slices = int(np.ceil((shape.length_mm + shape.plan.wall_mm + 2 - first) / spacing)) + 1
    direction = _orientation(rng)
    middle = np.array([_COLUMNS / 2 * step, _ROWS / 2 * step, slices / 2 * spacing])
    origin = np.array([35.0, -20.0, 10.0]) + rng.normal(0, 10, 3) - direction @ middle
    grid = Geometry.from_parts(
        shape=(_COLUMNS, _ROWS, slices),
        spacing_mm=(step, step, spacing),
        origin_lps=origin.tolist(),
        direction=direction,
    )
    return grid, thickness, first


def _setting(shape: HeartShape, *, seed: int) -> _Setting:
    rng = np.random.default_rng([seed, 12])
    geometry, thickness, first = _geometry(shape, rng)
    di, dj, dk = (np.float32(value) for value in geometry.spacing_mm)
    columns, rows, slices = geometry.shape
    centre = (columns / 2 + rng.uniform(-14, 10), rows / 2 + rng.uniform(-18, 10))
    i, j = np.ogrid[:columns, :rows]
    # The normal points to the base, so the last slice is the most basal one.
    w = (np.float32(first) + dk * np.arange(slices - 1, -1, -1, dtype=np.float32))[None, None, :]
    drift = np.deg2rad(rng.normal(0, 4, 2))
    u = (di * (i - centre[0]))[:, :, None] - np.tan(drift[0]) * (w - 40)
    v = (dj * (j - centre[1]))[:, :, None] - np.tan(drift[1]) * (w - 40)
    tissue = draw_tissue(rng)
    reach = shape.radius_mm + shape.plan.wall_mm
    scene = paint_scene(
        geometry, u, v, w, tissue=tissue,
        left_mm=reach * 0.9 + shape.rv_width_mm[0], below_mm=reach + 9, rng=rng,
    )  # fmt: skip
    turn = shape.plan.rv_angle_rad - np.pi
    x = u * np.cos(turn) + v * np.sin(turn)
    y = -u * np.sin(turn) + v * np.cos(turn)
    bias = smooth_noise(geometry, step_mm=110.0, rng=rng)
    # Surface coils lie in front: the image fades to the back.
    gain = np.exp(0.10 * bias - (0.0022 * u + 0.0016 * v)) * rng.uniform(150, 320)
    box = _reachable(x, y, shape)
    x, y, w = (
        np.ascontiguousarray(part[box], dtype=np.float32) for part in np.broadcast_arrays(x, y, w)
    )
    near = Scene(scene.image[box], scene.fat_pad[box], scene.wobbles_in(box))
    return _Setting(
        shape, geometry, box, scene.image, near, tissue, x, y, w, thickness,
        gain.astype(np.float32),
    )  # fmt: skip


def _reachable(x: Array, y: Array, shape: HeartShape) -> tuple[slice, slice]:
    """Columns and rows within reach of heart, atria and great vessels."""
    reach = np.float32(shape.radius_mm + shape.plan.wall_mm + 30)
    width = np.float32(shape.rv_width_mm[0])
    near = (x > -reach - width) & (x < reach) & (np.abs(y) < reach + 0.25 * width)
    columns = np.flatnonzero(np.asarray(near.any(axis=(1, 2))))
    rows = np.flatnonzero(np.asarray(near.any(axis=(0, 2))))
    return slice(int(columns[0]), int(columns[-1]) + 1), slice(int(rows[0]), int(rows[-1]) + 1)


def _labels(chambers: Chambers) -> NDArray[np.uint8]:
    """Masks as ACDC draws them: papillary muscles belong to the cavity, the RV wall to nothing."""
    labels = np.zeros(chambers.depth.shape, dtype=np.uint8)
    below_base = chambers.depth >= 0
    labels[below_base & (chambers.rv_cavity < 0)] = _RV
    labels[below_base & (chambers.lv_wall < 0)] = _MYOCARDIUM
    labels[below_base & (chambers.lv_cavity < 0)] = _LV
    return labels


def _papillary(setting: _Setting, chambers: Chambers, x: Array, y: Array) -> NDArray[np.bool_]:
    """Two muscles that stand off the free wall in the middle third."""
    inner = np.hypot(x, y) - chambers.lv_cavity
    found = np.zeros(x.shape, dtype=bool)
    for angle in (1.05, -1.15):
        centre_x, centre_y = 0.68 * inner * np.cos(angle), 0.68 * inner * np.sin(angle)
        size = np.float32(0.19) * inner * (1 + 0.2 * setting.scene.wobbles[2])
        found |= np.hypot(x - centre_x, y - centre_y) < size
    return found & (chambers.depth > 0.28) & (chambers.depth < 0.82)


def _paint_heart(setting: _Setting, chambers: Chambers, *, x: Array, y: Array) -> Array:
    """Brightness of one sub-slice at one moment."""
    tissue, wobbles = setting.tissue, setting.scene.wobbles
    image = setting.scene.image.copy()
    rv_wall_mm = np.float32(3.0)
    below = chambers.depth >= 0
    hull = np.minimum(chambers.lv_wall, chambers.rv_cavity - rv_wall_mm)
    pad = 3.5 + 5 * np.clip(setting.scene.fat_pad, -0.6, 1.6)
    image[(hull < pad) & (setting.scene.fat_pad > -0.2)] = np.float32(tissue.fat * 0.9)
    image[(hull < 1.2) & (hull >= 0)] = np.float32(0.5 * (tissue.muscle + tissue.fat * 0.5))
    muscle = np.float32(tissue.myocardium) * (1 + 0.06 * wobbles[2])
    in_hull = below & (hull < 0)
    image[in_hull] = muscle[in_hull]
    rv = below & (chambers.rv_cavity < 0) & (chambers.lv_wall > 0)
    image[rv] = (np.float32(tissue.rv_blood) * (1 + 0.07 * wobbles[1]))[rv]
    cords = rv & (chambers.rv_cavity > -7) & (wobbles[2] + 0.5 * wobbles[1] > 0.9)
    image[cords] = np.float32(tissue.myocardium * 1.35)
    lv = below & (chambers.lv_cavity < 0)
    image[lv] = (1 + 0.06 * wobbles[1])[lv]
    fringe = lv & (chambers.lv_cavity > -3) & (wobbles[2] > 0.8) & (chambers.depth > 0.3)
    image[fringe | (lv & _papillary(setting, chambers, x, y))] = np.float32(tissue.myocardium * 1.1)
    return _paint_above_base(setting, image, chambers, x=x, y=y)


def _paint_above_base(
    setting: _Setting, image: Array, chambers: Chambers, *, x: Array, y: Array
) -> Array:
    """Atria and great vessels: bright, with a thin wall."""
    tissue, wobbles = setting.tissue, setting.scene.wobbles
    radius = np.float32(setting.shape.radius_mm)
    width = np.float32(setting.shape.rv_width_mm[0])
    above = chambers.depth < 0
    left_atrium = np.hypot((x + 4) / 1.15, (y - 12) / 0.8) - radius * 0.95
    right_atrium = np.hypot(x + radius + 0.5 * width, y - 12) - 0.55 * width
    outflow = np.hypot(x + radius + 0.25 * width, y + 0.8 * radius) - 15
    aorta = np.hypot(x + 0.75 * radius, y + 0.1 * radius) - 13
    around = np.minimum(np.minimum(left_atrium, right_atrium), np.minimum(outflow, aorta))
    image[above & (around < 6) & (wobbles[2] > -0.3)] = np.float32(tissue.fat * 0.7)
    for distance, blood in (
        (left_atrium, 0.85),
        (right_atrium, 0.85 * tissue.rv_blood),
        (outflow, tissue.rv_blood),
        (aorta, 0.95),
    ):
        image[above & (distance < 1.1)] = np.float32(0.6)
        image[above & (distance < 0)] = np.float32(blood)
    return image


def _acquire(setting: _Setting, image: Array, rng: np.random.Generator) -> NDArray[np.uint16]:
    """In-plane resolution, coil shading and Rician noise."""
    blurred = ndimage.gaussian_filter(image, (0.6, 0.6, 0)) * setting.gain
    spread = np.float32(0.017 * float(np.median(setting.gain)))
    real, imaginary = (
        ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0.5, 0.5, 0))
        * (spread * np.float32(1.8))
        for _ in "ri"
    )
    magnitude = np.hypot(blurred + real, imaginary)
    return np.asarray(np.clip(np.round(magnitude), 0, 4095), dtype=np.uint16)


def _phase(
    setting: _Setting, *, squeeze: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Image and masks at one moment."""
    x, y = setting.x, setting.y
    total = np.zeros(x.shape, dtype=np.float32)
    labels = np.zeros(setting.geometry.shape, dtype=np.uint8)
    for share in _SUBSLICES:
        w = setting.w + np.float32(share * setting.thickness_mm)
        chambers = setting.shape.chambers(x, y, w, squeeze=squeeze)
        total += _paint_heart(setting, chambers, x=x, y=y)
        if share == 0.0:
            labels[setting.box] = _labels(chambers)
    image = setting.surroundings.copy()
    image[setting.box] = total / np.float32(len(_SUBSLICES))
    return _acquire(setting, image, rng), labels


def generate_cine(seed: int, *, group: str = "NOR", phases: int = 16) -> CinePhantom:
    """Make one short-axis cine with the masks of every phase.

    The picture is schematic, but chambers, wall, motion and contrast follow what balanced
    steady-state cine shows, and the volumes follow the criteria of the ACDC groups.

    Args:
        seed: Everything is drawn from it.
        group: "NOR", "DCM", "HCM", "MINF" or "RV".
        phases: Images per heart beat, at least 2.

    Raises:
        ConfigError: If there is no such group or there are too few phases.
    """
    if phases < 2:
        raise ConfigError(f"A cine needs at least 2 phases. Found phases={phases}.")
    plan = plan_heart(seed, group=group)
    setting = _setting(fit_heart(plan), seed=seed)
    volumes, label_maps = [], []
    for phase, squeeze in enumerate(squeeze_over_beat(phases)):
        rng = np.random.default_rng([seed, 13, phase])
        image, labels = _phase(setting, squeeze=float(squeeze), rng=rng)
        time_ms = phase * plan.beat_ms / phases
        volumes.append(Volume(image, setting.geometry, modality="MR", time_ms=time_ms))
        label_maps.append(labels)
    cavity = [int((labels == _LV).sum()) for labels in label_maps]
    return CinePhantom(
        volumes=tuple(volumes),
        label_maps=tuple(label_maps),
        ed_phase=int(np.argmax(cavity)),
        es_phase=int(np.argmin(cavity)),
        slice_thickness_mm=setting.thickness_mm,
        plan=plan,
    )
