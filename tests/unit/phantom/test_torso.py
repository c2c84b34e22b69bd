from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medmtl.core.errors import ConfigError
from medmtl.core.geometry import points_to_space
from medmtl.phantom import (
    CARDIOTHORACIC_RATIO_LIMIT,
    SPLEEN_LIMIT_ML,
    TORSO_SCHEMA,
    TorsoPhantom,
    generate_torso,
    measure_cardiothoracic_ratio,
)
from medmtl.phantom.torso_plan import plan_torso

SPACING_MM = (6.0, 6.0, 6.0)
FOCAL = {
    "lung_nodule": "lung",
    "pleural_effusion": "lung",
    "liver_lesion": "liver",
    "renal_cyst": "kidney",
}
LABELS = {segment.name: segment.label for segment in TORSO_SCHEMA.segments}


@pytest.fixture(scope="module")
def torsos() -> list[TorsoPhantom]:
    return [generate_torso(seed, spacing_mm=SPACING_MM) for seed in range(8)]


@pytest.fixture(scope="module")
def sick() -> TorsoPhantom:
    everything = dict.fromkeys(TORSO_SCHEMA.finding_names, True)
    return generate_torso(3, spacing_mm=SPACING_MM, findings=everything)


@pytest.fixture(scope="module")
def healthy() -> TorsoPhantom:
    nothing = dict.fromkeys(TORSO_SCHEMA.finding_names, False)
    return generate_torso(3, spacing_mm=SPACING_MM, findings=nothing)


def test_the_same_seed_gives_the_same_torso_and_another_seed_another() -> None:
    first, again, other = (generate_torso(seed, spacing_mm=(12, 12, 12)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.volume.array, again.volume.array)
    np.testing.assert_array_equal(first.label_map, again.label_map)
    assert first.lesions == again.lesions
    assert (first.label_map != other.label_map).any()


def test_every_finding_occurs_both_ways_and_together_in_20_seeds() -> None:
    drawn = [plan_torso(seed).findings for seed in range(20)]
    for name in TORSO_SCHEMA.finding_names:
        assert {findings[name] for findings in drawn} == {True, False}
    assert max(sum(findings.values()) for findings in drawn) >= 3


def test_findings_agree_with_masks_and_measurements(torsos: list[TorsoPhantom]) -> None:
    for torso in torsos:
        for name in FOCAL:
            assert (torso.volumes_ml[name] > 0) == torso.findings[name]
        assert (torso.cardiothoracic_ratio > CARDIOTHORACIC_RATIO_LIMIT) == torso.findings[
            "cardiomegaly"
        ]
        assert (torso.volumes_ml["spleen"] > SPLEEN_LIMIT_ML) == torso.findings["splenomegaly"]


def test_nothing_is_drawn_near_the_limits() -> None:
    plans = [plan_torso(seed) for seed in range(200)]
    ratios = np.array([plan.cardiothoracic_ratio for plan in plans])
    spleens = np.array([plan.spleen_ml for plan in plans])
    assert (np.abs(ratios - CARDIOTHORACIC_RATIO_LIMIT) > 0.04).all()
    assert (np.abs(spleens - SPLEEN_LIMIT_ML) > 75).all()


def test_findings_can_be_forced(sick: TorsoPhantom, healthy: TorsoPhantom) -> None:
    assert all(sick.findings.values())
    assert not any(healthy.findings.values())
    assert not healthy.lesions
    with pytest.raises(ConfigError, match="appendicitis"):
        generate_torso(0, findings={"appendicitis": True})


def test_lesions_lie_in_their_organ(torsos: list[TorsoPhantom], sick: TorsoPhantom) -> None:
    for torso in (*torsos, sick):
        for finding, organ in FOCAL.items():
            lesion = torso.label_map == LABELS[finding]
            near_organ = ndimage.binary_dilation(torso.label_map == LABELS[organ], iterations=2)
            pieces, _ = ndimage.label(lesion)
            touching = np.setdiff1d(pieces[near_organ], [0])
            # Single voxels in a nook of the organ may be all that is left of it there.
            assert np.isin(pieces[lesion], touching).sum() >= 0.98 * lesion.sum()


def test_lesion_centres_carry_the_lesion_label(sick: TorsoPhantom) -> None:
    to_index = np.asarray(np.linalg.inv(sick.volume.geometry.affine_lps), dtype=np.float64)
    assert {lesion.finding for lesion in sick.lesions} == set(FOCAL) - {"pleural_effusion"}
    for lesion in sick.lesions:
        i, j, k = np.round(points_to_space(to_index, [lesion.centre_lps_mm])[0]).astype(int)
        assert sick.label_map[i, j, k] == LABELS[lesion.finding]


def test_volumes_are_those_of_the_label_map(sick: TorsoPhantom) -> None:
    for name, label in LABELS.items():
        expected_ml = (sick.label_map == label).sum() * 0.216
        assert sick.volumes_ml[name] == pytest.approx(expected_ml)


def test_organs_have_the_size_and_density_of_organs(healthy: TorsoPhantom) -> None:
    ranges_ml = {
        "lung": (2500, 6500), "liver": (900, 2300), "spleen": (100, 280),
        "kidney": (150, 450), "heart": (300, 900), "bone": (500, 1300),
    }  # fmt: skip
    for name, (low, high) in ranges_ml.items():
        assert low < healthy.volumes_ml[name] < high, name
    for name, (low, high) in {"lung": (-950, -650), "liver": (30, 130), "bone": (150, 800)}.items():
        assert low < np.median(healthy.volume.array[healthy.label_map == LABELS[name]]) < high


def test_anatomy_is_the_right_way_round(torsos: list[TorsoPhantom]) -> None:
    """LPS: the liver lies right of the spleen, the lungs above both, the kidneys behind."""
    for torso in torsos:
        centre = {
            name: points_to_space(
                torso.volume.geometry.affine_lps,
                np.argwhere(torso.label_map == label).mean(axis=0, keepdims=True).tolist(),
            )[0]
            for name, label in LABELS.items()
            if torso.volumes_ml[name] > 0
        }
        assert centre["liver"][0] < -20 < 20 < centre["spleen"][0]
        assert centre["lung"][2] > centre["liver"][2] + 60
        assert centre["kidney"][1] > centre["heart"][1] + 40
        assert centre["heart"][0] > 5


def test_effusion_collects_at_the_back(sick: TorsoPhantom) -> None:
    rows = {
        name: np.argwhere(sick.label_map == LABELS[name])[:, 1].mean()
        for name in ("lung", "pleural_effusion")
    }
    assert rows["pleural_effusion"] > rows["lung"] + 3


def test_hounsfield_units_stay_in_12_bits(torsos: list[TorsoPhantom]) -> None:
    for torso in torsos:
        assert torso.volume.array.dtype == np.int16
        assert torso.volume.array.min() >= -1024
        assert torso.volume.array.max() <= 3071
        assert torso.volume.geometry.axis_code == "LPS"


def test_the_cardiothoracic_ratio_is_heart_width_over_thorax_width() -> None:
    labels = np.zeros((20, 6, 3), dtype=np.uint8)
    labels[2:18, 2:4, 0] = LABELS["lung"]  # 16 wide
    labels[8:14, 2:4, 1] = LABELS["heart"]  # 6 wide
    labels[12:13, 4:5, 2] = LABELS["heart"]
    geometry = generate_torso(0, spacing_mm=(40, 40, 40)).volume.geometry
    assert measure_cardiothoracic_ratio(labels, geometry) == pytest.approx(6 / 16)
