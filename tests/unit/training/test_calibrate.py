"""Platt scaling recovers what made the labels, and never becomes certain."""

import math

import numpy as np
import pytest
from scipy.special import expit

from medmtl.training.calibrate import Calibration, fit_platt


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (0.4, -1.0), (2.5, 0.7)])
def test_a_known_scale_and_offset_are_recovered(scale: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    targets = (rng.random(logits.size) < expit(scale * logits + offset)).astype(float)
    found = fit_platt(logits, targets)
    assert found.scale == pytest.approx(scale, rel=0.05)
    assert found.offset == pytest.approx(offset, abs=0.06)


def test_unknown_labels_are_left_out(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, 200)
    targets = (rng.random(200) < expit(logits)).astype(float)
    unknown = np.concatenate([targets, np.full(50, np.nan)])
    more = np.concatenate([logits, np.full(50, 1e3)])
    assert fit_platt(more, unknown) == fit_platt(logits, targets)


@pytest.mark.parametrize("answer", [0.0, 1.0, math.nan])
def test_one_kind_of_answer_changes_nothing(answer: float, rng: np.random.Generator) -> None:
    assert fit_platt(rng.normal(size=30), np.full(30, answer)) == Calibration(1.0, 0.0)


@pytest.mark.parametrize("apart", [1.0, 10.0, 1000.0])
def test_perfectly_separated_findings_never_become_certain(apart: float) -> None:
    targets = np.repeat([0.0, 1.0], 10)
    logits = np.where(targets > 0, apart, -apart)
    calibration = fit_platt(logits, targets)
    probabilities = calibration.apply(logits)
    assert math.isfinite(calibration.scale)
    assert probabilities.min() > 0.01
    assert probabilities.max() < 0.99
    assert ((probabilities > 0.5) == (targets > 0)).all()


def test_the_order_of_cases_is_kept_even_where_the_logits_mislead(
    rng: np.random.Generator,
) -> None:
    logits = rng.normal(size=400)
    targets = (rng.random(400) < expit(-3 * logits)).astype(float)
    found = fit_platt(logits, targets)
    assert found.scale > 0
    answers = found.apply(np.array([-2.0, 0.0, 2.0]))
    assert answers.tolist() == sorted(answers.tolist())


def test_calibration_makes_the_mean_probability_the_share_of_cases() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(-1.5, 1.5, 5_000)
    targets = (rng.random(truth.size) < expit(truth)).astype(float)
    overconfident = 3 * truth + 2
    calibrated = fit_platt(overconfident, targets).apply(overconfident)
    assert calibrated.mean() == pytest.approx(targets.mean(), abs=0.002)


def test_far_logits_do_not_overflow() -> None:
    assert Calibration().apply(np.array([-1e4, 1e4])).tolist() == [0.0, 1.0]
