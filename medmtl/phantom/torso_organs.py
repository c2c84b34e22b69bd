"""Body wall, chest, abdomen and skeleton of the standard body, as implicit shapes in mm.

x points to the left, y to the back, z to the head; z = 0 is near the top of the diaphragm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.phantom.fields import ellipsoid, rotation, smallest, smooth_noise, tube

if TYPE_CHECKING:
    from medmtl.phantom.fields import Field, Mask
    from medmtl.phantom.torso_canvas import Canvas

__all__ = [
    "paint_abdomen",
    "paint_body_wall",
    "paint_chest",
    "paint_heart",
    "paint_skeleton",
    "paint_table",
]

CAVITY_RX_MM, CAVITY_RY_MM = 136.0, 92.0
_MUSCLE_MM, _SKIN_MM = 15.0, 3.0
_BONE_GAP_MM = 26.0


def _ray_excess(canvas: Canvas, *, rx_mm: float, ry_mm: float, power: float) -> Field:
    """Distance in mm along the ray from the body axis beyond a superellipse (negative inside)."""
    x, y = canvas.points.x, canvas.points.y
    exponent = np.float32(power)
    level = np.abs(x / rx_mm) ** exponent + np.abs(y / ry_mm) ** exponent
    level = np.maximum(level ** (np.float32(1) / exponent), np.float32(1e-3))
    return np.asarray(np.hypot(x, y) * (1 - 1 / level))


def paint_table(canvas: Canvas) -> None:
    """A curved carbon plate under the back; it does not move with the body's pose."""
    if not canvas.plan.has_table:
        return
    geometry = canvas.geometry
    x = geometry.origin_lps[0] + np.arange(geometry.shape[0]) * geometry.spacing_mm[0]
    y = geometry.origin_lps[1] + np.arange(geometry.shape[1]) * geometry.spacing_mm[1]
    top = np.flatnonzero(np.asarray(canvas.regions["body"].any(axis=(0, 2)))).max()
    depth = y[None, :] - (y[top] + 4.0 - 0.0006 * x[:, None] ** 2)
    plate = (depth > 0) & (depth < 24) & (np.abs(x[:, None]) < 185)
    edge = plate & ((depth < 4) | (depth > 20))
    free = ~canvas.regions["body"]
    canvas.paint(plate[:, :, None] & free, -870.0)
    canvas.paint(edge[:, :, None] & free, -150.0)


def paint_body_wall(canvas: Canvas) -> None:
    """Skin, fat, muscle, and the cavity of chest and abdomen filled with fat."""
    plan, points = canvas.plan, canvas.points
    outside = _ray_excess(canvas, rx_mm=CAVITY_RX_MM, ry_mm=CAVITY_RY_MM, power=2.5)
    outside += np.float32(1.5) * canvas.wobbles[0]
    # More fat in front and at the sides of the belly than over the ribs and the back.
    belly = np.clip(-points.z / 120, 0, 1) * np.clip(0.7 - points.y / 90, 0.2, 1.5)
    fat_mm = np.float32(plan.fat_mm) * (np.float32(0.65) + np.float32(0.5) * belly)
    skin = outside < _MUSCLE_MM + fat_mm + _SKIN_MM
    muscle = outside < _MUSCLE_MM
    canvas.regions["body"] = skin
    canvas.paint(skin, 20.0)
    canvas.paint(outside < _MUSCLE_MM + fat_mm, canvas.textured(plan.hu["fat"], spread_hu=5))
    canvas.paint(muscle, canvas.textured(plan.hu["muscle"], spread_hu=6))
    # Fat planes between the muscle layers.
    layer = np.abs(outside - 0.5 * _MUSCLE_MM + 2 * canvas.wobbles[1])
    canvas.paint(muscle & (outside > 2) & (layer < 1.5), plan.hu["fat"])
    _paint_cavity(canvas, outside)


def _paint_cavity(canvas: Canvas, outside: Field) -> None:
    """Inside of ribs and belly wall: narrows to the neck; filled with fat."""
    points = canvas.points
    up = np.clip((points.z - 20) / 160, 0, 0.999)
    narrowing = np.float32(CAVITY_RX_MM) * (1 - np.sqrt(1 - up**2.6))
    cavity = outside < -narrowing * np.float32(0.8)
    canvas.regions["cavity"] = cavity
    canvas.regions["rib_shell"] = ~cavity & (outside < 7.5 - narrowing * np.float32(0.8))
    canvas.paint(cavity, canvas.textured(canvas.plan.hu["fat"], spread_hu=8))


def _above_diaphragm(canvas: Canvas) -> Field:
    """Height in mm above the two domes of the diaphragm (right one higher)."""
    points = canvas.points
    y = (points.y + 10) / 95
    right = 8 - 78 * (((points.x + 66) / 86) ** 2 + y * y)
    left = -4 - 78 * (((points.x - 68) / 84) ** 2 + y * y)
    return np.asarray(points.z - np.maximum(right, left) + np.float32(2) * canvas.wobbles[0])


def paint_heart(canvas: Canvas) -> None:
    """The heart, stretched until it is as wide as the plan's cardiothoracic ratio asks for."""
    plan = canvas.plan
    radii, angles = (56.0, 43.0, 42.0), (0.0, 33.0, -35.0)
    turn = rotation(angles)
    # Half width of a turned ellipsoid along x: sqrt(sum (radius * cosine)^2).
    half_width = float(np.sqrt(((turn[0] * radii) ** 2).sum()))
    wanted = plan.cardiothoracic_ratio * (CAVITY_RX_MM - 4.0)
    stretch = wanted / half_width
    grown = [radius * stretch**0.75 for radius in radii]
    wider = stretch**0.25
    points = canvas.points
    squeezed = type(points)((points.x - 24) / np.float32(wider), points.y + 26, points.z - 34)
    shape = ellipsoid(squeezed, centre_mm=(0, 0, 0), radii_mm=grown, angles_deg=angles, power=2.2)
    shape = canvas.rough(shape, amount=0.012)
    heart = (shape < 1) & canvas.regions["cavity"] & (points.y > -86) & (points.y < 60)
    canvas.paint(heart, canvas.textured(plan.hu["myocardium"], spread_hu=4), "heart")
    chambers = heart & (shape < 0.86) & (np.abs(canvas.wobbles[1] + 0.4) > 0.22)
    canvas.paint(chambers, canvas.textured(plan.hu["blood"], spread_hu=4), "heart")
    canvas.regions["heart"] = heart
    canvas.regions["heart_fat"] = (shape < 1.07) & canvas.regions["cavity"] & ~heart


def paint_chest(canvas: Canvas) -> None:
    """Lungs with vessels, airways and the great vessels in the mediastinum."""
    plan, points = canvas.plan, canvas.points
    height = _above_diaphragm(canvas)
    middle = 24 - 10 * np.clip(points.z / 150, -1, 1) + 8 * np.clip(points.y / 80, -1, 1)
    off_axis = np.abs(points.x - 3 + 3 * canvas.wobbles[1])
    spine = np.hypot(points.x, points.y - 74) < 30
    lung = canvas.regions["cavity"] & (off_axis > middle) & (height > 4) & ~spine
    lung &= ~canvas.regions["heart"] & ~canvas.regions["heart_fat"]
    canvas.regions["below_diaphragm"] = canvas.regions["cavity"] & (height < 0)
    mediastinum = canvas.regions["cavity"] & (height > 0) & ~lung & ~canvas.regions["heart"]
    canvas.paint(mediastinum & (canvas.wobbles[2] > 0.5), 35.0)
    canvas.paint(canvas.regions["cavity"] & (height >= 0) & (height <= 4), plan.hu["muscle"])
    density = np.float32(plan.hu["lung"]) + np.float32(0.35) * points.y  # denser where it hangs
    canvas.paint(lung, density + 14 * canvas.wobbles[1], "lung")
    _paint_lung_vessels(canvas)
    _paint_great_vessels(canvas)


def _paint_lung_vessels(canvas: Canvas) -> None:
    """Branches: where two smooth fields cross zero together; denser towards the hilum."""
    first, second = (smooth_noise(canvas.geometry, step_mm=19.0, rng=canvas.rng) for _ in "ab")
    points = canvas.points
    hilum = np.sqrt((np.abs(points.x) - 30) ** 2 + (points.y - 5) ** 2 + (points.z - 50) ** 2)
    width = 0.42 * np.exp(-hilum / 75) + 0.10
    near = np.hypot(first, second) < width
    canvas.paint(canvas.is_label("lung") & near, canvas.plan.hu["blood"] - 60, "lung")


def _paint_great_vessels(canvas: Canvas) -> None:
    blood = canvas.textured(canvas.plan.hu["blood"], spread_hu=2)
    arch = [(16, 44, -400), (18, 44, 60), (17, 38, 92), (8, 12, 106), (-8, -12, 92), (-8, -20, 60)]
    cava = [(-22, 24, -400), (-24, 20, -60), (-24, 2, -10), (-24, -4, 30), (-24, -10, 130)]
    lung_artery = [(10, -28, 66), (6, -4, 74), (-38, 2, 62)]
    left_artery = [(6, -4, 74), (44, 6, 66)]
    paths = ((arch, 12.5), (cava, 10.5), (lung_artery, 11.0), (left_artery, 9.5))
    free = canvas.regions["cavity"] & ~canvas.regions["heart"]
    for path, radius in paths:
        canvas.paint(free & (tube(canvas.points, path_mm=path, radius_mm=radius) < 1), blood)
    trachea = tube(canvas.points, path_mm=[(0, 12, 220), (0, 16, 84)], radius_mm=8.5)
    bronchi = tube(canvas.points, path_mm=[(-42, 8, 56), (0, 16, 84), (44, 8, 58)], radius_mm=6.0)
    airway = np.minimum(trachea, bronchi)
    free = canvas.regions["cavity"] & ~canvas.regions["heart"]
    canvas.paint(free & (airway < 1.3) & ~canvas.is_label("lung"), 30.0)
    canvas.paint(free & (airway < 1.0), -990.0)


def paint_abdomen(canvas: Canvas) -> None:
    """Bowel first, then stomach, liver, kidneys and spleen; vessels stay where they were."""
    canvas.regions["free"] = canvas.regions["below_diaphragm"] & ~canvas.regions["heart"]
    _paint_bowel(canvas)
    _paint_stomach(canvas)
    _paint_great_vessels_below(canvas)
    _paint_liver(canvas)
    _paint_kidneys(canvas)
    _paint_spleen(canvas)


def _paint_great_vessels_below(canvas: Canvas) -> None:
    blood = canvas.textured(canvas.plan.hu["blood"], spread_hu=2)
    aorta = tube(canvas.points, path_mm=[(16, 44, 0), (8, 40, -100), (6, 38, -400)], radius_mm=10)
    cava = tube(
        canvas.points, path_mm=[(-24, 22, 0), (-22, 30, -100), (-20, 34, -400)], radius_mm=11
    )
    canvas.paint(canvas.regions["free"] & (np.minimum(aorta, cava) < 1), blood)
    psoas = np.minimum(
        tube(canvas.points, path_mm=[(-34, 66, -90), (-46, 52, -400)], radius_mm=17),
        tube(canvas.points, path_mm=[(34, 66, -90), (46, 52, -400)], radius_mm=17),
    )
    canvas.paint(canvas.regions["free"] & (psoas < 1), canvas.plan.hu["muscle"])


def _paint_bowel(canvas: Canvas) -> None:
    """Loops of bowel below the liver, some with gas above fluid."""
    points = canvas.points
    loops = smooth_noise(canvas.geometry, step_mm=26.0, rng=canvas.rng)
    content = smooth_noise(canvas.geometry, step_mm=30.0, rng=canvas.rng)
    where = canvas.regions["free"] & (points.z < -70) & (points.y < 34)
    canvas.paint(where & (loops > -0.25), 38.0)
    canvas.paint(where & (loops > 0.15), 18.0)
    gas = where & (loops > 0.15) & (content - points.y / 60 > 1.1)
    canvas.paint(gas, -880.0)


def _paint_stomach(canvas: Canvas) -> None:
    shape = ellipsoid(
        canvas.points, centre_mm=(52, -22, -42), radii_mm=(52, 42, 36), angles_deg=(10, 25, -20)
    )
    shape = canvas.rough(shape, amount=0.05)
    free = canvas.regions["free"]
    canvas.paint(free & (shape < 1), 42.0)
    canvas.paint(free & (shape < 0.9), canvas.textured(12.0, spread_hu=10))
    level = canvas.rng.uniform(-50, -25)
    canvas.paint(free & (shape < 0.9) & (canvas.points.y < level), -930.0)


def _paint_liver(canvas: Canvas) -> None:
    right = ellipsoid(
        canvas.points,
        centre_mm=(-66, 2, -48),
        radii_mm=(78, 84, canvas.rng.uniform(72, 98)),
        angles_deg=(0, -14, 0),
        power=2.5,
    )
    left = ellipsoid(
        canvas.points,
        centre_mm=(8, -38, -30),
        radii_mm=(canvas.rng.uniform(52, 82), 42, 36),
        angles_deg=(0, 12, 8),
    )
    shape = canvas.rough(np.minimum(right, left), amount=0.05)
    liver = canvas.regions["free"] & (shape < 1) & ~_retroperitoneum(canvas)
    canvas.paint(liver, canvas.textured(canvas.plan.hu["liver"], spread_hu=3), "liver")
    first, second = (smooth_noise(canvas.geometry, step_mm=34.0, rng=canvas.rng) for _ in "ab")
    veins = liver & (shape < 0.88) & (np.hypot(first, second) < 0.16)
    vein_hu = 0.4 * canvas.plan.hu["liver"] + 0.6 * canvas.plan.hu["blood"]
    canvas.paint(veins, vein_hu, "liver")


def _retroperitoneum(canvas: Canvas) -> Mask:
    """The space of spine and great vessels, which organs do not enter."""
    x, y = canvas.points.x, canvas.points.y
    return np.asarray((np.abs(x) < 36) & (y > 28 + 0.01 * x * x))


def _paint_kidneys(canvas: Canvas) -> None:
    drop = canvas.rng.uniform(-8, 8)
    for side in (-1, 1):
        centre = (side * 62.0, 46.0, -118.0 + drop + (6 if side > 0 else -6))
        radii = canvas.rng.uniform([25, 24, 48], [31, 29, 60]).tolist()
        tilt = (12.0, side * 14.0, -side * 25.0)
        shape = canvas.rough(
            ellipsoid(canvas.points, centre_mm=centre, radii_mm=radii, angles_deg=tilt),
            amount=0.03,
        )
        inside = canvas.regions["free"] & (shape < 1.22)
        canvas.paint(inside, canvas.plan.hu["fat"])
        kidney = canvas.regions["free"] & (shape < 1)
        canvas.paint(kidney, canvas.textured(canvas.plan.hu["kidney"], spread_hu=4), "kidney")
        sinus = ellipsoid(
            canvas.points,
            centre_mm=(centre[0] - side * 16, centre[1] - 8, centre[2]),
            radii_mm=(15, 10, 21),
            angles_deg=tilt,
        )
        canvas.paint(kidney & (sinus < 1), canvas.plan.hu["fat"])


def _paint_spleen(canvas: Canvas) -> None:
    """The plan's volume exactly: the voxels of the smallest normalised radius, as many as asked."""
    size = (canvas.plan.spleen_ml / 200.0) ** (1 / 3)
    centre = (98 - 10 * (size - 1), 36 - 14 * (size - 1), -52 - 30 * (size - 1))
    shape = ellipsoid(
        canvas.points, centre_mm=centre, radii_mm=(24, 38, 52), angles_deg=(-20, 12, -22)
    )
    # The wobble scales with the radius, so that one level set stays one piece.
    shape = shape * (1 + np.float32(0.05) * canvas.wobbles[0])
    inside = canvas.regions["free"] & ~canvas.is_label("kidney") & ~canvas.is_label("liver")
    inside &= ~_retroperitoneum(canvas)
    spleen = smallest(shape, inside=inside, count=canvas.count_of_ml(canvas.plan.spleen_ml))
    canvas.paint(spleen, canvas.textured(canvas.plan.hu["spleen"], spread_hu=3), "spleen")


def paint_skeleton(canvas: Canvas) -> None:
    """Vertebrae with discs and canal, ribs in the chest wall, sternum."""
    _paint_spine(canvas)
    _paint_ribs(canvas)


def _bone(canvas: Canvas, shape: Field, *, allowed: Mask | None = None) -> None:
    """Paint spongy bone inside a harder shell where `shape` is below 1."""
    inside = shape < 1
    if allowed is not None:
        inside &= allowed
    canvas.paint(inside, canvas.textured(canvas.plan.hu["bone"], spread_hu=25), "bone")
    canvas.paint(inside & (shape > 0.82), canvas.plan.hu["cortex"], "bone")


def _paint_spine(canvas: Canvas) -> None:
    x, y, z = canvas.points.x, canvas.points.y, canvas.points.z
    period_mm = 28.0
    level = np.abs((z / period_mm) - np.round(z / period_mm))  # 0 mid vertebra, 0.5 in the disc
    body = np.sqrt((x / 20) ** 2 + ((y - 72) / 16) ** 2)
    canvas.paint(body < 1, 75.0)
    _bone(canvas, body, allowed=level < 0.40)
    canal = np.hypot(x / 11, (y - 97) / 9)
    arch = (canal < 1.75) & (y < 118) & (level < 0.36)
    transverse = (np.abs(x) < 34) & (np.abs(y - 94) < 5) & (level < 0.2)
    spinous = (np.abs(x) < 3.5) & (y > 100) & (y < 124) & (level < 0.3)
    posterior = (arch | transverse | spinous) & canvas.regions["body"]
    canvas.paint(posterior, canvas.plan.hu["cortex"] * 0.7, "bone")
    canvas.paint(canal < 1, 30.0)


def _paint_ribs(canvas: Canvas) -> None:
    """Ribs run down from back to front: a periodic band of the chest wall."""
    x, y, z = canvas.points.x, canvas.points.y, canvas.points.z
    shell = canvas.regions["rib_shell"]
    slope = z + 0.55 * (92 - y)  # constant along one rib
    band = np.abs(slope / _BONE_GAP_MM - np.round(slope / _BONE_GAP_MM)) * _BONE_GAP_MM
    chest = (z > -75 - 25 * (y / 90)) & (z < 172)
    ribs = shell & chest & (band < 5.0) & (np.abs(x) > 20)
    cartilage = ribs & (y < -70)
    canvas.paint(ribs, canvas.plan.hu["cortex"] * 0.75, "bone")
    canvas.paint(cartilage, 110.0)
    flat = np.maximum(np.abs(x) / 17, np.maximum(np.abs(y + 97) / 6.0, np.abs(z - 66) / 72))
    _bone(canvas, flat.astype(np.float32), allowed=~canvas.regions["cavity"])
