"""What is fitted after training reaches the bundle, and is judged on cases it was not fitted on."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import expit

from medmtl.inference.bundle import read_settings, write_bundle
from medmtl.inference.bundle_settings import BundleSettings
from medmtl.training.answers import Answers
from medmtl.training.calibrate_bundle import calibrate_bundle, cross_fitted
from medmtl.training.calibrate_config import CalibrationConfig, RuleThreshold
from tests.tiny_bundle import TORSO_FINDINGS, heart_settings, random_net, torso_settings

if TYPE_CHECKING:
    from pathlib import Path


def overconfident(n: int = 300, seed: int = 0) -> Answers:
    """The right logit times three; one in ten labels unknown."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-0.5, 1.5, (n, 2))
    targets = (rng.random((n, 2)) < expit(truth)).astype(float)
    targets[rng.random((n, 2)) < 0.1] = math.nan
    return Answers(TORSO_FINDINGS, 3 * truth, targets, tuple(f"p{i // 2}" for i in range(n)))


@pytest.mark.parametrize("method", ["temperature", "platt", "isotonic"])
def test_brier_and_ece_fall_on_cases_that_were_left_out(method: str) -> None:
    config = CalibrationConfig.model_validate({"method": method})
    report = calibrate_bundle(torso_settings(), overconfident(), config).report
    json.dumps(report, allow_nan=False)
    for entry in report["per_finding"].values():
        assert entry["after"]["brier"] < entry["before"]["brier"]
        assert entry["after"]["ece"] < entry["before"]["ece"]


def test_what_was_fitted_survives_the_bundle(tmp_path: Path) -> None:
    config = CalibrationConfig(method="isotonic", threshold=RuleThreshold(name="youden"))
    fitted = calibrate_bundle(torso_settings(), overconfident(), config).settings
    weights = random_net(fitted).state_dict()
    write_bundle(tmp_path / "b", fitted, weights, card="", metrics_json="{}")
    read, _ = read_settings(tmp_path / "b")
    assert read.findings == fitted.findings
    for finding in read.findings:
        assert finding.calibrated
        assert finding.knots
        assert finding.conformal is not None
        assert finding.conformal.n_present >= 50
        assert finding.calibration().apply(0.3) == pytest.approx(expit(0.1), abs=0.15)


def test_exclusive_findings_get_one_set_of_classes(tmp_path: Path) -> None:
    settings = BundleSettings.model_validate({**dict(heart_settings()), "findings_exclusive": True})
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(3, size=90)][:, :2]
    logits = rng.normal(2 * targets - 1, 1)
    names = tuple(finding.name for finding in settings.findings)
    answers = Answers(names, logits, targets, tuple(map(str, range(90))), is_exclusive=True)
    config = CalibrationConfig(threshold=RuleThreshold(name="exclusive_accuracy"))
    fitted = calibrate_bundle(settings, answers, config).settings
    assert fitted.conformal is not None
    assert len(fitted.conformal.quantiles) == 3
    assert all(finding.conformal is None for finding in fitted.findings)
    write_bundle(tmp_path, fitted, random_net(fitted).state_dict(), card="", metrics_json="{}")
    assert read_settings(tmp_path)[0].conformal == fitted.conformal


def test_a_patient_never_calibrates_itself() -> None:
    answers = overconfident(60)
    config = CalibrationConfig(method="platt", folds=5)
    before = cross_fitted(answers, config)
    for patient in set(answers.patients):
        own = np.array([name == patient for name in answers.patients])
        targets = answers.targets_nf.copy()
        targets[own] = 1 - targets[own]
        turned = Answers(answers.names, answers.logits_nf, targets, answers.patients)
        np.testing.assert_array_equal(cross_fitted(turned, config)[own], before[own])


def test_without_a_method_nothing_is_called_calibrated() -> None:
    config = CalibrationConfig(method="none", conformal=None)
    settings = torso_settings()
    fitted = calibrate_bundle(settings, overconfident(), config)
    assert fitted.settings == settings
    assert all("after" not in entry for entry in fitted.report["per_finding"].values())


def test_answers_to_other_findings_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        calibrate_bundle(heart_settings(), overconfident(), CalibrationConfig())
