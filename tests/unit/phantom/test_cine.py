from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medmtl.core.errors import ConfigError
from medmtl.phantom import CINE_GROUPS, CinePhantom, body_surface_area_m2, generate_cine
from medmtl.phantom.heart_plan import plan_heart
from medmtl.phantom.heart_shape import fit_heart, squeeze_over_beat

RV, MYOCARDIUM, LV = 1, 2, 3


@pytest.fixture(scope="module")
def cines() -> dict[str, CinePhantom]:
    return {group: generate_cine(4, group=group, phases=3) for group in CINE_GROUPS}


def _ml(cine: CinePhantom, phase: int, label: int) -> float:
    voxel_ml = cine.volumes[0].geometry.voxel_mm3 / 1000
    return float((cine.label_maps[phase] == label).sum() * voxel_ml)


def _ejection(cine: CinePhantom, label: int) -> float:
    return 1 - _ml(cine, cine.es_phase, label) / _ml(cine, cine.ed_phase, label)


def _area_m2(cine: CinePhantom) -> float:
    return body_surface_area_m2(height_cm=cine.plan.height_cm, weight_kg=cine.plan.weight_kg)


def test_body_surface_of_180_cm_and_80_kg_is_2_square_metres() -> None:
    assert body_surface_area_m2(height_cm=180, weight_kg=80) == pytest.approx(2.0)


def test_groups_meet_the_criteria_of_the_challenge(cines: dict[str, CinePhantom]) -> None:
    dilated, thick, scarred, right = (cines[name] for name in ("DCM", "HCM", "MINF", "RV"))
    assert _ejection(dilated, LV) < 0.40
    assert _ml(dilated, dilated.ed_phase, LV) / _area_m2(dilated) > 100
    assert thick.plan.wall_mm + thick.plan.septum_extra_mm > 15
    assert _ejection(thick, LV) > 0.55
    assert _ejection(scarred, LV) < 0.40
    assert scarred.plan.infarct_rad is not None
    assert _ml(right, right.ed_phase, RV) / _area_m2(right) > 110 or _ejection(right, RV) < 0.40
    assert _ejection(cines["NOR"], LV) > 0.50


@pytest.mark.parametrize("group", CINE_GROUPS)
def test_fitted_hearts_have_the_planned_volumes(group: str, cines: dict[str, CinePhantom]) -> None:
    cine = cines[group]
    # Ten thick slices cut the base and the apex coarsely.
    for label, planned in ((LV, cine.plan.lv_ml), (RV, cine.plan.rv_ml)):
        assert _ml(cine, cine.ed_phase, label) == pytest.approx(planned[0], rel=0.15)
        assert _ml(cine, cine.es_phase, label) == pytest.approx(planned[1], rel=0.25)


def test_muscle_keeps_its_volume_while_it_beats(cines: dict[str, CinePhantom]) -> None:
    for cine in cines.values():
        rest, squeezed = (_ml(cine, phase, MYOCARDIUM) for phase in (cine.ed_phase, cine.es_phase))
        assert squeezed == pytest.approx(rest, rel=0.15)


def test_the_scar_hardly_moves() -> None:
    shape = fit_heart(plan_heart(4, group="MINF"))
    scar = shape.plan.infarct_rad
    assert scar is not None
    angles = np.array([scar, scar + np.pi], dtype=np.float32)
    depth = np.full(2, 0.6, dtype=np.float32)
    rest, _ = shape.walls(angles, depth, squeeze=0.0)
    squeezed, _ = shape.walls(angles, depth, squeeze=1.0)
    at_scar, opposite = 1 - squeezed / rest
    assert at_scar < 0.2 * opposite


def test_muscle_surrounds_the_cavity(cines: dict[str, CinePhantom]) -> None:
    """In its own slice, the LV cavity touches nothing but muscle."""
    ring = ndimage.generate_binary_structure(3, 1)
    ring[:, :, [0, 2]] = False
    for cine in cines.values():
        labels = cine.label_maps[cine.ed_phase]
        grown = ndimage.binary_dilation(labels == LV, structure=ring) & (labels != LV)
        assert (labels[grown] == MYOCARDIUM).mean() > 0.999
        _, pieces = ndimage.label(labels == LV)
        assert pieces == 1


def test_blood_is_bright_and_muscle_dark(cines: dict[str, CinePhantom]) -> None:
    for cine in cines.values():
        image, labels = cine.volumes[0].array, cine.label_maps[0]
        rv, muscle, lv = (np.median(image[labels == label]) for label in (RV, MYOCARDIUM, LV))
        assert min(rv, lv) > 1.5 * muscle > np.percentile(image, 25)


def test_the_beat_starts_at_rest_and_squeezes_once() -> None:
    squeeze = squeeze_over_beat(20)
    assert squeeze[0] == 0
    assert 0.25 < squeeze.argmax() / 20 < 0.45
    assert squeeze.max() > 0.95


def test_the_grid_is_oblique_and_its_normal_points_to_the_base(
    cines: dict[str, CinePhantom],
) -> None:
    for cine in cines.values():
        geometry = cine.volumes[0].geometry
        np.testing.assert_allclose(geometry.direction.T @ geometry.direction, np.eye(3), atol=1e-9)
        assert np.abs(geometry.direction).max() < 0.95
        areas = (cine.label_maps[cine.ed_phase] == LV).sum(axis=(0, 1))
        filled = np.flatnonzero(areas)
        assert areas[filled[-1]] > 2 * areas[filled[0]]


def test_the_same_seed_gives_the_same_cine() -> None:
    first, again = (generate_cine(2, group="HCM", phases=2) for _ in range(2))
    for one, other in zip(first.volumes, again.volumes, strict=True):
        np.testing.assert_array_equal(one.array, other.array)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ConfigError, match="XYZ"):
        generate_cine(0, group="XYZ")
    with pytest.raises(ConfigError, match="phases=1"):
        generate_cine(0, phases=1)
