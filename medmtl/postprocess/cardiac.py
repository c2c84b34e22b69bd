"""Measurements of the ventricles from short-axis masks in end diastole (ED) and end systole (ES).

Volumes are voxel counts (method of discs), as in the ACDC challenge (Bernard et al., IEEE TMI
37:2514, 2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.prediction import Covariates, Measurement
from medmtl.postprocess.wall import Wall, measure_wall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import SegmentResult, VolumePrediction

__all__ = ["MYOCARDIUM_G_PER_ML", "body_surface_m2", "cardiac_measurements"]

MYOCARDIUM_G_PER_ML = 1.05
"""Density of heart muscle, by which its volume becomes a mass."""

RV, MYO, LV = "right_ventricle_cavity", "myocardium", "left_ventricle_cavity"


@dataclass(frozen=True)
class _Phase:
    """What one phase's masks give; None where there is no heart in them."""

    rv_ml: float | None = None
    myo_ml: float | None = None
    lv_ml: float | None = None
    wall: Wall | None = None


def body_surface_m2(covariates: Covariates) -> float | None:
    """Body surface area by Mosteller (N Engl J Med 1987;317:1098); None where unknown."""
    height_cm, weight_kg = covariates.height_cm, covariates.weight_kg
    if not height_cm or not weight_kg or height_cm <= 0 or weight_kg <= 0:
        return None
    return math.sqrt(height_cm * weight_kg / 3600)


def cardiac_measurements(
    volumes: Mapping[str, VolumePrediction],
    schema: LabelSchema,
    *,
    covariates: Covariates | None = None,
    measured: Sequence[SegmentResult] = (),
) -> tuple[Measurement, ...]:
    """Volumes, ejection fractions, mass, ratios, wall thickness; None where not derivable.

    Args:
        volumes: Masks of the phases "ed" and "es"; either may be missing.
        schema: Has the segments `right_ventricle_cavity`, `myocardium`, `left_ventricle_cavity`.
        covariates: Height and weight for values per body surface area.
        measured: Not used; all sets of measurements are called alike.
    """
    del measured
    label = {spec.name: spec.label for spec in schema.segments}
    ed, es = (_phase(volumes.get(name), label) for name in ("ed", "es"))
    surface_m2 = body_surface_m2(covariates or Covariates())
    return (*_volumes(ed, es, surface_m2), *_ratios(ed, es), *_wall(ed, es))


def _phase(prediction: VolumePrediction | None, label: Mapping[str, int]) -> _Phase:
    if prediction is None:
        return _Phase()
    geometry, label_map = prediction.volume.geometry, prediction.label_map
    masks: dict[str, Any] = {name: label_map == label[name] for name in (RV, MYO, LV)}
    ml = {name: float(mask.sum()) * geometry.voxel_mm3 / 1000 for name, mask in masks.items()}
    if not any(ml.values()):
        return _Phase()
    wall = measure_wall(masks[MYO], masks[LV], geometry)
    return _Phase(rv_ml=ml[RV], myo_ml=ml[MYO], lv_ml=ml[LV], wall=wall)


def _volumes(ed: _Phase, es: _Phase, surface_m2: float | None) -> list[Measurement]:
    mass_g = None if ed.myo_ml is None else ed.myo_ml * MYOCARDIUM_G_PER_ML
    rows = (
        ("lv_ed_volume", ed.lv_ml, "mL", f"ed:{LV}"),
        ("lv_es_volume", es.lv_ml, "mL", f"es:{LV}"),
        ("rv_ed_volume", ed.rv_ml, "mL", f"ed:{RV}"),
        ("rv_es_volume", es.rv_ml, "mL", f"es:{RV}"),
        ("lv_ed_mass", mass_g, "g", f"ed:{MYO}"),
    )
    absolute = [Measurement(*row) for row in rows]
    indexed = [
        Measurement(
            f"{name}_index",
            _divide(value, surface_m2),
            f"{unit}/m2",
            f"{source}, height and weight",
        )
        for name, value, unit, source in rows
    ]
    return absolute + indexed


def _ratios(ed: _Phase, es: _Phase) -> list[Measurement]:
    mass_g = None if ed.myo_ml is None else ed.myo_ml * MYOCARDIUM_G_PER_ML
    both = "ed:{0}, es:{0}"
    return [
        Measurement("lv_ejection_fraction", _loss(ed.lv_ml, es.lv_ml), "%", both.format(LV)),
        Measurement("rv_ejection_fraction", _loss(ed.rv_ml, es.rv_ml), "%", both.format(RV)),
        Measurement("rv_lv_ed_volume_ratio", _divide(ed.rv_ml, ed.lv_ml), "1", f"ed:{RV}, ed:{LV}"),
        Measurement("rv_lv_es_volume_ratio", _divide(es.rv_ml, es.lv_ml), "1", f"es:{RV}, es:{LV}"),
        Measurement(
            "lv_mass_volume_ratio", _divide(mass_g, ed.lv_ml), "g/mL", f"ed:{MYO}, ed:{LV}"
        ),
    ]


def _wall(ed: _Phase, es: _Phase) -> list[Measurement]:
    rows = []
    for phase, wall in (("ed", ed.wall), ("es", es.wall)):
        source = f"{phase}:{MYO}, {phase}:{LV}"
        mean, most = (wall.mean_mm, wall.max_mm) if wall else (None, None)
        rows.append(Measurement(f"wall_thickness_{phase}_mean", mean, "mm", source))
        rows.append(Measurement(f"wall_thickness_{phase}_max", most, "mm", source))
    loss = _loss(ed.wall.mean_mm, es.wall.mean_mm) if ed.wall and es.wall else None
    thickening = None if loss is None else -loss
    rows.append(Measurement("wall_thickening_mean", thickening, "%", f"ed:{MYO}, es:{MYO}"))
    return rows


def _divide(numerator: float | None, denominator: float | None) -> float | None:
    return None if numerator is None or not denominator else numerator / denominator


def _loss(before: float | None, after: float | None) -> float | None:
    """By how many percent of itself `before` shrank; None where nothing is left: it was missed."""
    share = _divide(after, before)
    return 100 * (1 - share) if share else None
