"""Torso CT with known truth, from a seed: `generate_torso`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.phantom.torso_canvas import LABELS, Canvas
from medmtl.phantom.torso_lesions import Lesion, paint_lesions
from medmtl.phantom.torso_organs import (
    paint_abdomen,
    paint_body_wall,
    paint_chest,
    paint_heart,
    paint_skeleton,
    paint_table,
)
from medmtl.phantom.torso_plan import TorsoPlan, plan_torso

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.phantom.fields import Field

__all__ = ["TorsoPhantom", "generate_torso", "measure_cardiothoracic_ratio"]

FIELD_OF_VIEW_MM = (400.0, 304.0, 384.0)
_LOWEST_HU, _HIGHEST_HU = -1024, 3071
_THORAX = ("lung", "lung_nodule", "pleural_effusion", "heart")


@dataclass(frozen=True, eq=False)
class TorsoPhantom:
    """One generated torso and everything that is true of it.

    Attributes:
        volume: Image in HU, int16 of shape (i, j, k); axes point left, back and head ("LPS").
        label_map: uint8 of the same shape, labels of `TORSO_SCHEMA`.
        findings: Finding name -> present.
        lesions: Centre (LPS mm) and radius of every focal lesion.
        volumes_ml: Volume of each segment by name, zero where it is absent.
        cardiothoracic_ratio: Heart width over inner thorax width, measured on the label map.
        plan: What was drawn: sex, age, size, densities.
    """

    volume: Volume
    label_map: NDArray[np.uint8]
    findings: dict[str, bool]
    lesions: tuple[Lesion, ...]
    volumes_ml: dict[str, float]
    cardiothoracic_ratio: float
    plan: TorsoPlan


def _grid(spacing_mm: Sequence[float]) -> Geometry:
    """Axial grid over the field of view, centred on the LPS origin."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    shape = np.maximum(8, np.round(np.asarray(FIELD_OF_VIEW_MM) / spacing)).astype(int)
    return Geometry.from_parts(
        shape=shape.tolist(),
        spacing_mm=spacing.tolist(),
        origin_lps=(-(shape - 1) / 2 * spacing).tolist(),
    )


def _acquire(canvas: Canvas, *, seed: int) -> NDArray[np.int16]:
    """What a scanner would make of the painted densities: blur, cupping, correlated noise."""
    rng = np.random.default_rng([seed, 4])
    spacing = np.asarray(canvas.geometry.spacing_mm)
    # In-plane resolution of about 1.2 mm; across, the slice profile is as wide as the slice.
    sigma = (0.5 * 1.2 / spacing[0] + 0.25, 0.5 * 1.2 / spacing[1] + 0.25, 0.42)
    image = ndimage.gaussian_filter(canvas.hu, sigma)
    noise: Field = rng.standard_normal(image.shape, dtype=np.float32)
    ndimage.gaussian_filter(noise, (0.6, 0.6, 0.3), output=noise)
    noise /= noise.std()
    image += np.float32(canvas.plan.noise_hu) * noise
    cupping = 1 - (canvas.points.x**2 + canvas.points.y**2) / np.float32(150.0**2)
    image -= np.float32(rng.uniform(0, 6)) * np.clip(cupping, 0, 1) * canvas.regions["body"]
    return np.asarray(np.clip(np.round(image), _LOWEST_HU, _HIGHEST_HU), dtype=np.int16)


def _width_mm(mask: NDArray[np.bool_], *, spacing_mm: float) -> float:
    """Largest extent along x inside one axial slice."""
    columns = np.asarray(mask.any(axis=1))  # (i, k)
    first = columns.argmax(axis=0)
    last = columns.shape[0] - 1 - columns[::-1].argmax(axis=0)
    return float(np.where(columns.any(axis=0), last - first + 1, 0).max() * spacing_mm)


def measure_cardiothoracic_ratio(label_map: NDArray[np.uint8], geometry: Geometry) -> float:
    """Largest heart width over largest inner thorax width, each within one axial slice."""
    spacing = geometry.spacing_mm[0]
    heart = _width_mm(label_map == LABELS["heart"], spacing_mm=spacing)
    thorax = np.isin(label_map, [LABELS[name] for name in _THORAX])
    return heart / _width_mm(thorax, spacing_mm=spacing)


def generate_torso(
    seed: int,
    *,
    spacing_mm: Sequence[float] = (4.0, 4.0, 4.0),
    findings: Mapping[str, bool] | None = None,
) -> TorsoPhantom:
    """Make one torso CT with its masks and findings.

    The same seed gives the same body at every spacing. It is schematic: for demonstration, tests
    and training of the demonstration model, never for a claim about patients.

    Args:
        seed: Everything is drawn from it.
        spacing_mm: Voxel spacing along (i, j, k).
        findings: Findings to force present or absent; the others are drawn.

    Raises:
        ConfigError: If `findings` names something that the torso does not have.
    """
    plan = plan_torso(seed, findings)
    canvas = Canvas.blank(plan, _grid(spacing_mm), seed=seed)
    paint_body_wall(canvas)
    paint_table(canvas)
    paint_heart(canvas)
    paint_chest(canvas)
    paint_abdomen(canvas)
    paint_skeleton(canvas)
    lesions = paint_lesions(canvas)
    voxel_ml = canvas.geometry.voxel_mm3 / 1000.0
    counts = np.bincount(canvas.label_map.ravel(), minlength=max(LABELS.values()) + 1)
    return TorsoPhantom(
        volume=Volume(
            array=_acquire(canvas, seed=seed),
            geometry=canvas.geometry,
            modality="CT",
            metadata={"body_part": "CHEST"},
        ),
        label_map=canvas.label_map,
        findings=dict(plan.findings),
        lesions=lesions,
        volumes_ml={name: float(counts[label] * voxel_ml) for name, label in LABELS.items()},
        cardiothoracic_ratio=measure_cardiothoracic_ratio(canvas.label_map, canvas.geometry),
        plan=plan,
    )
