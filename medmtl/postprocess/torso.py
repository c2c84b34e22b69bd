"""Measurements of a torso CT from its masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.geometry import closest_axes
from medmtl.core.prediction import Covariates, Measurement
from medmtl.postprocess.measure import measure_segments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import SegmentResult, VolumePrediction
    from medmtl.core.runs import Box

__all__ = ["torso_measurements"]

MIN_THORAX_MM = 50.0
"""A narrower pair of lungs is no thorax to compare a heart with."""


def torso_measurements(
    volumes: Mapping[str, VolumePrediction],
    schema: LabelSchema,
    *,
    covariates: Covariates | None = None,
    measured: Sequence[SegmentResult] = (),
) -> tuple[Measurement, ...]:
    """Volume of every segment and the cardiothoracic ratio, of the first volume.

    The cardiothoracic ratio is the transverse width of the heart over that of the thorax inside
    the ribs (Danzer, Am J Med Sci 1919;157:513), here of all segments whose name starts with
    `lung`, with `pleural_effusion` and the heart itself. None where an organ is missing.

    Args:
        volumes: Masks by volume id.
        schema: Segments of the model.
        covariates: Not used; all sets of measurements are called alike.
        measured: What `measure_segments` found, if it was asked before.
    """
    del covariates
    if not volumes:
        return ()
    name, prediction = next(iter(volumes.items()))
    geometry = prediction.volume.geometry
    rows = [
        Measurement(f"{part.name}_volume", part.volume_ml, "mL", f"{name}:{part.name}")
        for part in _of_volume(prediction, measured, schema)
    ]
    ratio = _cardiothoracic_ratio(prediction.runs.boxes(), geometry, schema)
    return (*rows, Measurement("cardiothoracic_ratio", ratio, "1", f"{name}:heart, {name}:lung"))


def _of_volume(
    prediction: VolumePrediction, measured: Sequence[SegmentResult], schema: LabelSchema
) -> Sequence[SegmentResult]:
    known = [part for part in measured if part.volume == prediction.volume.id]
    return known or measure_segments(prediction.volume, prediction.label_map, schema)


def _cardiothoracic_ratio(
    boxes: Mapping[int, Box], geometry: Geometry, schema: LabelSchema
) -> float | None:
    labels = {spec.name: spec.label for spec in schema.segments}
    lungs = [label for name, label in labels.items() if name.startswith("lung")]
    others = [labels[name] for name in ("heart", "pleural_effusion") if name in labels]
    heart_mm = _width_mm(boxes, geometry, [labels.get("heart", 0)])
    lungs_mm = _width_mm(boxes, geometry, lungs)
    thorax_mm = _width_mm(boxes, geometry, lungs + others)
    return heart_mm / thorax_mm if heart_mm and lungs_mm >= MIN_THORAX_MM else None


def _width_mm(boxes: Mapping[int, Box], geometry: Geometry, labels: Sequence[int]) -> float:
    """Extent from right to left of a union of segments, along the closest array axis; 0 if none."""
    patient_axes, _ = closest_axes(geometry.affine_lps)
    axis = patient_axes.index(0)
    spans = [boxes[label][axis] for label in labels if label in boxes]
    if not spans:
        return 0.0
    voxels = max(span.stop for span in spans) - min(span.start for span in spans)
    return float(voxels) * geometry.spacing_mm[axis]
