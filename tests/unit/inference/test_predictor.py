"""A bundle answers for studies: labels and maps on the right grids, flags once, errors in words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from medmtl.core.errors import BundleError, ConfigError, InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Covariates
from medmtl.inference.predictor import AutoPredictor, Predictor, choose_device, load_predictor
from tests.tiny_bundle import (
    HEART,
    TORSO_FINDINGS,
    answer,
    heart_settings,
    image,
    load,
    reference,
    study,
    torso_settings,
    write_tiny,
)

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.core.volume import Volume


@pytest.fixture(scope="module")
def torso_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "torso"
    write_tiny(folder, torso_settings())
    return folder


@pytest.fixture(scope="module")
def torso(torso_folder: Path) -> Predictor:
    return load(torso_folder)


@pytest.fixture(scope="module")
def heart(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder = tmp_path_factory.mktemp("bundles") / "heart"
    write_tiny(folder, heart_settings())
    return load(folder)


def test_the_answer_of_one_study(torso: Predictor) -> None:
    volume = image()
    prediction = answer(torso, volume)
    assert prediction.model == torso.identity
    (mask,) = prediction.volumes
    assert mask.volume.id == "ct"
    assert mask.label_map.shape == volume.array.shape
    assert mask.label_map.dtype == np.uint8
    assert set(np.unique(mask.label_map)) <= {0, 3, 7}
    assert [finding.name for finding in prediction.findings] == list(TORSO_FINDINGS)
    assert all(0 < finding.probability < 1 for finding in prediction.findings)
    assert {"preprocess", "network", "postprocess"} <= set(prediction.timings_s)
    assert prediction.notice == "Random weights."


def test_measured_volumes_are_those_of_the_mask(torso: Predictor) -> None:
    volume = image()
    prediction = answer(torso, volume)
    for segment in prediction.segments:
        voxels = int((prediction.volumes[0].label_map == segment.label).sum())
        assert segment.voxels == voxels
        assert segment.volume_ml == pytest.approx(voxels * volume.geometry.voxel_mm3 / 1000)


def test_maps_cover_the_network_grid_and_lie_in_0_to_1(torso: Predictor) -> None:
    volume = image()
    grid = torso.route.prepare(volume).geometry
    for finding in answer(torso, volume).findings:
        cam = finding.cams["ct"]
        assert cam.array.dtype == np.float32
        assert cam.array.min() >= 0
        assert cam.array.max() <= 1
        for corner in (0, 1):
            index = np.array([corner, corner, corner])
            ends = [
                g.affine_lps[:3, :3] @ (index * g.shape - 0.5) + g.affine_lps[:3, 3]
                for g in (cam.geometry, grid)
            ]
            np.testing.assert_allclose(ends[0], ends[1], atol=1e-6)
        assert all(0 <= share <= 1 for share in finding.cam_energy_in_segments.values())


def test_only_the_maps_asked_for_are_made(torso_folder: Path) -> None:
    some = answer(load(torso_folder, cam="nodule"), image()).findings
    assert [bool(finding.cams) for finding in some] == [False, True]
    none = answer(load(torso_folder, cam="none"), image()).findings
    assert not any(finding.cams for finding in none)


def test_a_mirrored_array_on_a_mirrored_grid_is_the_same_patient(torso: Predictor) -> None:
    volume = image()
    mirror = np.diag([-1.0, 1.0, -1.0, 1.0])
    mirror[:3, 3] = [volume.geometry.shape[0] - 1, 0, volume.geometry.shape[2] - 1]
    geometry = Geometry(volume.geometry.shape, volume.geometry.affine_lps @ mirror)
    turned = replace(volume, array=volume.array[::-1, :, ::-1], geometry=geometry)
    one, other = answer(torso, volume), answer(torso, turned)
    np.testing.assert_array_equal(
        other.volumes[0].label_map[::-1, :, ::-1], one.volumes[0].label_map
    )
    assert [f.probability for f in other.findings] == [f.probability for f in one.findings]


def test_the_same_study_twice_gives_the_same_answer_whatever_lies_between(
    torso: Predictor,
) -> None:
    first = answer(torso, image(seed=1))
    answer(torso, image(seed=2))
    again = answer(torso, image(seed=1))
    np.testing.assert_array_equal(first.volumes[0].label_map, again.volumes[0].label_map)
    assert [f.probability for f in first.findings] == [f.probability for f in again.findings]


def test_covariates_may_be_known_or_not(torso: Predictor) -> None:
    volume = image()
    case = study([reference(volume)])
    known = replace(case, covariates=Covariates(age_years=70, sex="F", height_cm=160, weight_kg=60))
    probabilities = [
        [f.probability for f in torso.analyse(one, [volume]).findings] for one in (case, known)
    ]
    assert np.isfinite(probabilities).all()
    assert probabilities[0] != probabilities[1]


def test_no_flag_is_said_twice_and_other_series_are_mentioned(torso: Predictor) -> None:
    volume = image()
    flagged = replace(volume, flags=(*answer(torso, volume).flags,) * 2)
    flags = answer(torso, flagged, image("other", shape=(8, 8, 6), seed=5)).flags
    assert len(set(flags)) == len(flags)
    assert "other-series-not-analysed" in {flag.code for flag in flags}


def phases(*names: str) -> list[Volume]:
    return [image(name, modality="MR", seed=n) for n, name in enumerate(names)]


@pytest.mark.parametrize("names", [("x_ed", "x_es"), ("x_ED", "x_ES"), ("ES", "ED")])
def test_named_phases_are_taken_at_their_word(heart: Predictor, names: tuple[str, str]) -> None:
    given = phases(*names)
    prediction = answer(heart, *given)
    assert [mask.volume.id for mask in prediction.volumes] == ["ed", "es"]
    for mask in prediction.volumes:
        (source,) = [v for v in given if v.id.lower().endswith(mask.volume.id)]
        assert mask.volume.array is source.array
    assert "ed_phase" not in {fact.name for fact in prediction.measurements}
    assert {segment.volume for segment in prediction.segments} == {"ed", "es"}
    assert {segment.name for segment in prediction.segments} == set(HEART)
    assert all(set(finding.cams) == {"ed", "es"} for finding in prediction.findings)


def test_each_study_goes_to_the_model_that_it_fits(torso: Predictor, heart: Predictor) -> None:
    auto = AutoPredictor([heart, torso])
    assert answer(auto, image()).model.name == "tiny-torso"
    assert answer(auto, *phases("ed", "es")).model.name == "tiny-heart"
    assert set(auto.settings) == {"tiny-torso", "tiny-heart"}
    assert auto.identity.sha256 not in {torso.identity.sha256, heart.identity.sha256}


def test_what_fits_no_model_is_refused_with_all_that_would_have_fitted(
    torso: Predictor, heart: Predictor
) -> None:
    case = study([reference(image(modality="PT"))])
    with pytest.raises(InputRefusedError) as caught:
        AutoPredictor([heart, torso]).select(case)
    assert "PT of 8 slices" in caught.value.found
    assert "tiny-heart, or one CT volume" in caught.value.expected
    assert caught.value.advice


def test_phases_on_several_grids_go_to_no_other_model(torso: Predictor, heart: Predictor) -> None:
    pair = [image("ed", modality="", shape=(20, 16, 9)), image("es", modality="")]
    with pytest.raises(InputRefusedError, match="phases-on-several-grids"):
        AutoPredictor([heart, torso]).select(study([reference(volume) for volume in pair]))


def test_unknown_choices_are_named_with_the_known_ones(torso_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown findings tumour;.*large_heart, nodule"):
        load_predictor(torso_folder, cam="nodule,tumour")
    with pytest.raises(ConfigError, match="'onnx': expected one of auto, torch, openvino"):
        load_predictor(torso_folder, backend="onnx")
    with pytest.raises(ConfigError, match="'tpu': expected auto, cpu or cuda"):
        load_predictor(torso_folder, device="tpu")
    with pytest.raises(BundleError, match="no such bundle"):
        load_predictor("no-such-model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert choose_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="--device cpu"):
        choose_device("cuda")
