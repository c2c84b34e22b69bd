"""Ventricles built from cylinders, whose volumes, wall and ejection fraction are on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates, Measurement, VolumePrediction
from medmtl.core.volume import Volume
from medmtl.postprocess.cardiac import body_surface_m2, cardiac_measurements

SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "right_ventricle_cavity"),
        SegmentSpec(2, "myocardium"),
        SegmentSpec(3, "left_ventricle_cavity"),
    )
)
ADULT = Covariates(height_cm=180, weight_kg=80)  # 2.0 m2


def cylinder(
    inner_mm: float, outer_mm: float, *, axes: tuple[int, int, int] = (0, 1, 2)
) -> VolumePrediction:
    """LV of `inner_mm` radius in a wall up to `outer_mm`, and an RV block of 8 cm2, 10 slices."""
    spacing_mm = (0.5, 0.5, 8.0)
    x = (np.arange(240) - 119.5) * 0.5
    radius = np.hypot(x[:, None], x[None, :])
    plane = np.zeros((240, 240), dtype=np.uint8)
    plane[radius < outer_mm] = 2
    plane[radius < inner_mm] = 3
    plane[0:40, 0:80] = 1  # 20 mm x 40 mm
    labels = np.repeat(plane[:, :, None], 10, axis=2).transpose(axes)
    grid = Geometry.from_parts(shape=labels.shape, spacing_mm=[spacing_mm[axis] for axis in axes])
    return VolumePrediction(Volume(array=labels, geometry=grid), labels)


def by_name(measurements: tuple[Measurement, ...]) -> dict[str, Measurement]:
    names = [item.name for item in measurements]
    assert len(set(names)) == len(names)
    return {item.name: item for item in measurements}


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_half_of_the_blood_is_an_ejection_fraction_of_fifty(axes: tuple[int, int, int]) -> None:
    ed = cylinder(25.0, 35.0, axes=axes)
    es = cylinder(25.0 / math.sqrt(2), 35.0, axes=axes)
    found = by_name(cardiac_measurements({"ed": ed, "es": es}, SCHEMA, covariates=ADULT))
    lv_ml = math.pi * 2.5**2 * 8.0
    expected = {
        "lv_ed_volume": lv_ml,
        "lv_es_volume": lv_ml / 2,
        "lv_ed_volume_index": lv_ml / 2.0,
        "rv_ed_volume": 64.0,
        "lv_ed_mass": math.pi * (3.5**2 - 2.5**2) * 8.0 * 1.05,
        "lv_ejection_fraction": 50.0,
        "rv_ejection_fraction": 0.0,
        "rv_lv_ed_volume_ratio": 64.0 / lv_ml,
        "wall_thickness_ed_mean": 10.0,
        "wall_thickness_ed_max": 10.0,
        "wall_thickness_es_mean": 35 - 25 / math.sqrt(2),
        "wall_thickness_es_max": 35 - 25 / math.sqrt(2),
        "wall_thickening_mean": 10 * (35 - 25 / math.sqrt(2)) - 100,
    }
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, rel=0.03, abs=0.5), name
    assert found["lv_ejection_fraction"].unit == "%"
    assert found["lv_ed_mass_index"].unit == "g/m2"
    assert found["lv_ed_volume"].source == "ed:left_ventricle_cavity"


def test_unknown_is_not_zero() -> None:
    found = by_name(cardiac_measurements({"ed": cylinder(25, 35)}, SCHEMA))
    assert found["lv_ed_volume"].value is not None
    for name in (
        "lv_es_volume",
        "lv_ejection_fraction",
        "wall_thickness_es_mean",
        "wall_thickening_mean",
        "lv_ed_volume_index",
    ):
        assert found[name].value is None, name


def test_empty_masks_give_no_numbers() -> None:
    empty = VolumePrediction(cylinder(25, 35).volume, np.zeros((240, 240, 10), dtype=np.uint8))
    found = cardiac_measurements({"ed": empty, "es": empty}, SCHEMA, covariates=ADULT)
    assert {item.value for item in found} == {None}


def test_a_cavity_that_was_not_found_ejects_nothing_that_can_be_told() -> None:
    shut = cylinder(0.0, 30.0)
    found = by_name(cardiac_measurements({"ed": cylinder(25, 35), "es": shut}, SCHEMA))
    assert found["lv_es_volume"].value == 0.0
    assert found["lv_ejection_fraction"].value is None
    assert found["rv_lv_es_volume_ratio"].value is None
    assert found["wall_thickness_es_mean"].value is None


def test_the_thickest_slice_counts_for_the_maximum() -> None:
    normal, thick = cylinder(20, 28), cylinder(20, 40)
    labels = normal.label_map.copy()
    labels[:, :, 4] = thick.label_map[:, :, 4]
    found = by_name(cardiac_measurements({"ed": VolumePrediction(normal.volume, labels)}, SCHEMA))
    assert found["wall_thickness_ed_max"].value == pytest.approx(20.0, abs=0.6)
    assert found["wall_thickness_ed_mean"].value == pytest.approx(0.9 * 8 + 0.1 * 20, abs=0.3)


def test_body_surface_area_by_mosteller() -> None:
    assert body_surface_m2(ADULT) == pytest.approx(2.0)
    assert body_surface_m2(Covariates(height_cm=180)) is None
    assert body_surface_m2(Covariates(height_cm=180, weight_kg=0)) is None
