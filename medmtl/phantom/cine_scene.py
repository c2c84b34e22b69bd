"""What lies around the heart in a short-axis image: chest wall, lung, liver, stomach, aorta.

Image coordinates in mm from the middle of the LV: u to the right of the image, v down, w towards
the apex. Brightness as in balanced steady-state images: blood and fat bright, muscle grey, lung
and air dark; 1.0 is blood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import spatial

from medmtl.phantom.fields import smooth_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

    Array = NDArray[np.float32]

__all__ = ["Scene", "Tissue", "draw_tissue", "paint_scene"]


@dataclass(frozen=True)
class Tissue:
    """Brightness of each tissue relative to LV blood."""

    rv_blood: float
    myocardium: float
    fat: float
    muscle: float
    lung: float
    liver: float


@dataclass(frozen=True, eq=False)
class Scene:
    """Brightness of everything but the heart, and the noise fields that roughen it.

    Attributes:
        image: Shape (i, j, k), brightness.
        fat_pad: Where positive, fat fills the space around the heart; else lung.
        wobbles: Smooth fields of unit spread.
    """

    image: Array
    fat_pad: Array
    wobbles: tuple[Array, Array, Array]

    def wobbles_in(self, box: tuple[slice, slice]) -> tuple[Array, Array, Array]:
        """The noise fields of some columns and rows."""
        coarse, middle, fine = self.wobbles
        return coarse[box], middle[box], fine[box]


def draw_tissue(rng: np.random.Generator) -> Tissue:
    """Draw the contrast of one examination."""
    return Tissue(
        rv_blood=float(rng.uniform(0.78, 0.98)),
        myocardium=float(rng.uniform(0.32, 0.46)),
        fat=float(rng.uniform(0.85, 1.35)),
        muscle=float(rng.uniform(0.26, 0.40)),
        lung=float(rng.uniform(0.08, 0.16)),
        liver=float(rng.uniform(0.38, 0.55)),
    )


def paint_scene(
    geometry: Geometry,
    u: Array,
    v: Array,
    w: Array,
    *,
    tissue: Tissue,
    left_mm: float,
    below_mm: float,
    rng: np.random.Generator,
) -> Scene:
    """Paint the surroundings.

    Args:
        geometry: Grid in image space, for the noise fields.
        u: Right of the LV middle, broadcastable to (i, j, k).
        v: Below the LV middle.
        w: From base to apex.
        tissue: Brightness values.
        left_mm: Reach of the heart to the left, where the chest wall begins.
        below_mm: Reach of the heart downwards, where the diaphragm begins.
        rng: Where shapes are drawn from.
    """
    coarse, middle, fine = (smooth_noise(geometry, step_mm=s, rng=rng) for s in (60.0, 30.0, 15.0))
    half_u, half_v = rng.uniform(84, 104), rng.uniform(150, 185)
    centre_u, centre_v = half_u - left_mm - rng.uniform(5, 10), half_v - rng.uniform(85, 120)
    power = np.float32(2.4)
    level = np.abs((u - centre_u) / half_u) ** power + np.abs((v - centre_v) / half_v) ** power
    level = np.maximum(level ** (1 / power), np.float32(1e-3))
    outside = np.hypot(u - centre_u, v - centre_v) * (1 - 1 / level) + 2 * coarse
    outside = outside.astype(np.float32) + np.zeros(geometry.shape, np.float32)
    image = np.full(geometry.shape, np.float32(0.015))
    wall_mm, fat_mm = rng.uniform(10, 16), rng.uniform(8, 28)
    image[outside < wall_mm + fat_mm + 2] = 0.3
    fat = np.float32(tissue.fat) * (1 + 0.05 * fine)
    inside_fat = outside < wall_mm + fat_mm
    image[inside_fat] = fat[inside_fat]
    _paint_wall(image, outside, v, tissue=tissue, wall_mm=wall_mm, fine=fine)
    cavity = outside < 0
    lung = np.float32(tissue.lung) * (1 + 0.25 * fine)
    image[cavity] = lung[cavity]
    vessel = cavity & (np.hypot(middle, fine - 0.3) < 0.22)
    image[vessel] = np.float32(0.65 * tissue.rv_blood)
    dome = below_mm + 0.0016 * (u + 25) ** 2 + 0.12 * u - 0.25 * (w - 40) + 4 * coarse - v
    _paint_belly(image, cavity & (dome < 0), u, v, dome, tissue, (coarse, middle, fine), rng)
    fat_pad = 1.1 * middle + 0.5 * np.clip((v - 10) / 30, -1, 1) - u / 60 - 0.6
    return Scene(image, fat_pad.astype(np.float32), (coarse, middle, fine))


def _paint_wall(
    image: Array, outside: Array, v: Array, *, tissue: Tissue, wall_mm: float, fine: Array
) -> None:
    """Muscle of the chest wall with ribs (dark rim, grey marrow) at intervals."""
    wall = outside < wall_mm
    muscle = np.float32(tissue.muscle) * (1 + 0.12 * fine)
    image[wall] = muscle[wall]
    along = np.broadcast_to(np.abs(v / 30 - np.round(v / 30)), image.shape)
    rib = wall & (np.abs(outside - 5) < 4) & (along < 0.2)
    image[rib] = 0.12
    image[rib & (np.abs(outside - 5) < 2.2) & (along < 0.14)] = 0.45


def _bowel(
    belly: NDArray[np.bool_],
    u: Array,
    v: Array,
    tissue: Tissue,
    wobbles: tuple[Array, Array, Array],
    rng: np.random.Generator,
) -> Array:
    """Loops of bowel: cells of one brightness each around random centres, fat between them."""
    coarse, middle, fine = wobbles
    centres = rng.uniform((-110, 20), (130, 220), (70, 2))
    where = np.stack(
        [(u + 5 * middle + 6 * coarse)[belly], (v + 5 * fine + 6 * middle)[belly]], axis=1
    )
    distance, nearest = spatial.cKDTree(centres).query(where, k=2)
    brightness = rng.uniform(0.10, 0.62, len(centres))
    image = brightness[nearest[:, 0]] * (1 + 0.12 * fine[belly])
    image[distance[:, 1] - distance[:, 0] < 2.5] = tissue.fat * 0.75
    return np.asarray(image, dtype=np.float32)


def _paint_belly(
    image: Array,
    belly: NDArray[np.bool_],
    u: Array,
    v: Array,
    dome: Array,
    tissue: Tissue,
    wobbles: tuple[Array, Array, Array],
    rng: np.random.Generator,
) -> None:
    """Liver on the left of the image, stomach and bowel on the right, aorta behind."""
    coarse, middle, fine = wobbles
    image[belly] = _bowel(belly, u, v, tissue, wobbles, rng)
    liver = belly & (u + 0.5 * (v - 60) + 14 * coarse < rng.uniform(-15, 35)) & (dome < -3)
    image[liver] = (np.float32(tissue.liver) * (1 + 0.05 * fine))[liver]
    vessel = liver & (np.hypot(middle, fine) < 0.14)
    image[vessel] = np.float32(tissue.liver * 1.3)
    centre_u, centre_v = rng.uniform(48, 70), rng.uniform(62, 80)
    stomach = np.hypot((u - centre_u) / rng.uniform(26, 36), (v - centre_v) / 22) + 0.12 * middle
    image[belly & (stomach < 1)] = np.float32(tissue.muscle * 1.2)
    image[belly & (stomach < 0.85)] = np.float32(rng.choice([0.04, 0.75]))
    aorta = np.hypot(u - rng.uniform(20, 40), v - rng.uniform(66, 84))
    aorta = np.broadcast_to(aorta, image.shape)
    image[aorta < 9 + middle] = np.float32(0.8)
    edge = (np.abs(dome + 1.5) < 1.2) & (dome < 0) & belly
    image[edge] = np.float32(tissue.muscle * 0.7)
