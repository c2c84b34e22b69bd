"""Bundles of before answer as before; new fields of a bundle are read, checked and used."""

from __future__ import annotations

import hashlib
import math
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from pydantic import ValidationError

from medmtl.inference.bundle import read_settings, shipped_bundles, verify_bundle, write_bundle
from medmtl.inference.bundle_settings import BundleSettings, FindingSettings
from medmtl.inference.finding_answers import answer_findings
from medmtl.postprocess.conformal import BinaryConformal, ClassConformal
from tests.tiny_bundle import answer, heart_settings, image, load, random_net, torso_settings

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.core.prediction import Prediction

LIMITS = BinaryConformal(coverage=0.9, present_from=-50.0, absent_to=50.0)
NEW = {"knots", "conformal", "ensemble"}


@pytest.mark.parametrize("name", sorted(shipped_bundles()))
def test_a_shipped_bundle_keeps_its_identity_and_its_answers(name: str) -> None:
    folder = shipped_bundles()[name]
    settings, identity = read_settings(folder)
    content = (folder / "bundle.toml").read_bytes()
    assert identity.sha256 == hashlib.sha256(content).hexdigest()
    verify_bundle(folder)
    for finding in tomllib.loads(content.decode())["findings"]:
        if "knots" in finding:
            continue
        for logit in (-3.0, 0.0, 2.5):
            found = answer_findings(settings, [logit] * len(settings.findings))
            expected = 1 / (1 + math.exp(-(finding["scale"] * logit + finding["offset"])))
            assert found.probabilities[finding["name"]] == pytest.approx(expected, abs=1e-12)


def test_a_bundle_without_the_new_fields_is_written_without_them() -> None:
    document = torso_settings().model_dump(mode="json", exclude_none=True)
    text = tomli_w.dumps(document)
    assert not any(f"{name} =" in text or f".{name}]" in text for name in NEW)
    read = BundleSettings.model_validate(tomllib.loads(text))
    assert read == torso_settings()
    assert answer_findings(read, [0.0, 0.0]).sets == {}
    assert answer_findings(read, [0.0, 0.0]).classes is None


def settings_with(**finding: Any) -> BundleSettings:
    settings = torso_settings()
    first = FindingSettings.model_validate({**dict(settings.findings[0]), **finding})
    return torso_settings(findings=(first, settings.findings[1]))


def test_knots_are_used_and_limits_give_sets() -> None:
    settings = settings_with(knots=((-1.0, 0.2), (1.0, 0.8)), conformal=LIMITS)
    found = answer_findings(settings, [0.0, 1.0])
    assert found.probabilities["large_heart"] == pytest.approx(0.5)
    assert found.sets["large_heart"].members == ("present", "absent")
    assert "nodule" not in found.sets  # which has no limits
    assert answer_findings(settings, [60.0, 0.0]).sets["large_heart"].members == ("present",)


def test_a_calibration_that_is_not_monotone_is_refused() -> None:
    with pytest.raises(ValidationError, match="Knots must"):
        settings_with(knots=((0.0, 0.8), (1.0, 0.2)))


@pytest.mark.parametrize("name", ["../weights_a.safetensors", "weights_a.pt", "other.safetensors"])
def test_members_are_files_of_the_bundle_only(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        torso_settings(ensemble=(name,))


def exclusive(quantiles: tuple[float, ...]) -> BundleSettings:
    values = dict(heart_settings()) | {
        "findings_exclusive": True,
        "conformal": ClassConformal(coverage=0.9, quantiles=quantiles),
    }
    return BundleSettings.model_validate(values)


def test_exclusive_findings_have_one_set_that_all_follow() -> None:
    found = answer_findings(exclusive((0.9, 0.9, 0.1)), [0.0, 0.0])  # each class one third
    assert found.classes is not None
    assert found.classes.members == ("dilated", "thick")
    assert found.sets["dilated"].members == ("present", "absent")


def test_sets_of_classes_that_do_not_fit_the_findings_are_refused() -> None:
    with pytest.raises(ValidationError, match="one quantile for each"):
        exclusive((0.9, 0.9))
    with pytest.raises(ValidationError, match="exclusive findings"):
        torso_settings(conformal=ClassConformal(coverage=0.9, quantiles=(0.5, 0.5, 0.5)))


def answer_of(folder: Path, settings: BundleSettings, modality: str) -> Prediction:
    weights = random_net(settings).state_dict()
    write_bundle(folder, settings, weights, card="", metrics_json="{}")
    names = ("ed", "es") if modality == "MR" else ("ct",)
    volumes = [image(name, modality=modality, seed=n) for n, name in enumerate(names)]
    return answer(load(folder, cam="none"), *volumes)


def test_an_abstention_is_a_flag_and_leaves_the_decision(tmp_path: Path) -> None:
    plain = answer_of(tmp_path / "a", torso_settings(), "CT")
    found = answer_of(tmp_path / "b", settings_with(conformal=LIMITS), "CT")
    assert [f.decision for f in found.findings] == [f.decision for f in plain.findings]
    assert found.findings[0].prediction_set is not None
    assert found.findings[0].prediction_set.abstains
    assert found.findings[1].prediction_set is None
    (flag,) = [flag for flag in found.flags if flag.code == "finding-abstains"]
    assert "large_heart at 90% coverage: present or absent" in flag.message
    assert not [flag for flag in plain.flags if flag.code == "finding-abstains"]


def test_exclusive_findings_abstain_once(tmp_path: Path) -> None:
    found = answer_of(tmp_path, exclusive((1.0, 1.0, 1.0)), "MR")
    assert found.diagnosis_set is not None
    assert found.diagnosis_set.members == ("dilated", "thick", "none")
    flags = [flag for flag in found.flags if flag.code == "finding-abstains"]
    assert len(flags) == 1
    assert "dilated or thick or none" in flags[0].message
