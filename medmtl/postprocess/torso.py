"""Measurements of a torso CT from its masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import closest_axes
from medmtl.core.prediction import Covariates, Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import VolumePrediction

__all__ = ["torso_measurements", "transverse_width_mm"]

MIN_THORAX_MM = 50.0
"""A narrower pair of lungs is no thorax to compare a heart with."""


def torso_measurements(
    volumes: Mapping[str, VolumePrediction],
    schema: LabelSchema,
    *,
    covariates: Covariates | None = None,
) -> tuple[Measurement, ...]:
    """Volume of every segment and the cardiothoracic ratio, of the first volume.

    The cardiothoracic ratio is the transverse width of the heart over that of the thorax inside
    the ribs (Danzer, Am J Med Sci 1919;157:513), here of all segments whose name starts with
    `lung`, with `pleural_effusion` and the heart itself. None where an organ is missing.

    Args:
        volumes: Masks by volume id.
        schema: Segments of the model.
        covariates: Not used; all sets of measurements are called alike.
    """
    del covariates
    if not volumes:
        return ()
    name, prediction = next(iter(volumes.items()))
    label_map, geometry = prediction.label_map, prediction.volume.geometry
    voxels = np.bincount(label_map.ravel(order="K"), minlength=65536)
    rows = [
        Measurement(
            f"{spec.name}_volume",
            float(voxels[spec.label]) * geometry.voxel_mm3 / 1000,
            "mL",
            f"{name}:{spec.name}",
        )
        for spec in schema.segments
    ]
    ratio = _cardiothoracic_ratio(label_map, geometry, schema)
    return (*rows, Measurement("cardiothoracic_ratio", ratio, "1", f"{name}:heart, {name}:lung"))


def _cardiothoracic_ratio(
    label_map: NDArray[Any], geometry: Geometry, schema: LabelSchema
) -> float | None:
    labels = {spec.name: spec.label for spec in schema.segments}
    lungs = [label for name, label in labels.items() if name.startswith("lung")]
    others = [labels[name] for name in ("heart", "pleural_effusion") if name in labels]
    heart_mm = transverse_width_mm(label_map, geometry, [labels.get("heart", 0)])
    lungs_mm = transverse_width_mm(label_map, geometry, lungs)
    thorax_mm = transverse_width_mm(label_map, geometry, lungs + others)
    return heart_mm / thorax_mm if heart_mm and lungs_mm >= MIN_THORAX_MM else None


def transverse_width_mm(
    label_map: NDArray[Any], geometry: Geometry, labels: Sequence[int]
) -> float:
    """Extent from right to left of the union of segments, along the closest array axis; 0 if empty.

    Label 0 is background and has no width.
    """
    patient_axes, _ = closest_axes(geometry.affine_lps)
    axis = patient_axes.index(0)
    wanted = [label for label in labels if label > 0]
    planes = np.moveaxis(label_map, axis, 0)
    present = np.flatnonzero([bool(np.isin(plane, wanted).any()) for plane in planes])
    if present.size == 0:
        return 0.0
    return float(present[-1] - present[0] + 1) * geometry.spacing_mm[axis]
