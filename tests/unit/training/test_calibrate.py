"""Calibration recovers what made the labels, keeps their order, and never becomes certain."""

import math

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from medmtl.training.answers import Answers
from medmtl.training.calibrate import (
    METHODS,
    Calibration,
    fit_calibration,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from medmtl.training.calibrate_config import CalibrationConfig


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


def test_temperature_of_three_in_four_right_is_the_logarithm_of_three() -> None:
    logits = np.repeat([1.0, 1.0, -1.0, -1.0], [3000, 1000, 3000, 1000])
    targets = np.repeat([1.0, 0.0, 0.0, 1.0], [3000, 1000, 3000, 1000])
    found = fit_temperature(logits, targets)
    assert found.offset == 0
    assert found.scale == pytest.approx(math.log(3), rel=1e-3)


def test_temperature_never_moves_a_probability_over_one_half(rng: np.random.Generator) -> None:
    logits = rng.normal(1, 2, 300)
    targets = (rng.random(300) < expit(logits - 2)).astype(float)
    probabilities = fit_temperature(logits, targets).apply(logits)
    assert ((probabilities > 0.5) == (logits > 0)).all()


@pytest.mark.parametrize("n", [6, 40, 500])
def test_isotonic_is_that_of_scikit_learn(n: int, rng: np.random.Generator) -> None:
    logits = rng.normal(0, 2, n).round(1)  # with ties
    targets = (rng.random(n) < expit(logits)).astype(float)
    edge = 1 / (n + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    model.fit(logits, targets)
    at = np.linspace(-9, 9, 401)
    np.testing.assert_allclose(fit_isotonic(logits, targets).apply(at), model.predict(at))


def test_isotonic_on_paper() -> None:
    # 0 1 | 0 1: the middle two violate the order and share their mean.
    found = fit_isotonic(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    expected = [1 / 6, 1 / 6, 1 / 2, 1 / 2, 5 / 6, 5 / 6]
    np.testing.assert_allclose(found.apply([-5.0, 0.0, 1.0, 2.0, 3.0, 5.0]), expected)
    assert found.apply(0.5) == pytest.approx((1 / 6 + 1 / 2) / 2)  # linear in between


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_keeps_the_order_and_leaves_unknown_out(
    method: str, rng: np.random.Generator
) -> None:
    logits = rng.normal(0, 2, 150)
    targets = (rng.random(150) < expit(2 * logits)).astype(float)
    found = METHODS[method](logits, targets)
    assert (np.diff(found.apply(np.linspace(-8, 8, 300))) >= 0).all()
    more = METHODS[method](
        np.append(logits, np.full(20, 50.0)), np.append(targets, np.full(20, math.nan))
    )
    assert more == found


def test_findings_with_few_known_cases_are_left_alone(rng: np.random.Generator) -> None:
    targets = np.zeros((40, 2))
    targets[:20, 0] = 1
    targets[:4, 1] = 1
    targets[4:8, 1] = math.nan
    patients = tuple(str(n) for n in range(40))
    answers = Answers(("many", "few"), rng.normal(size=(40, 2)), targets, patients)
    assert set(fit_calibration(answers, CalibrationConfig())) == {"many"}
    assert set(fit_calibration(answers, CalibrationConfig(min_each=4))) == {"many", "few"}
    assert not fit_calibration(answers, CalibrationConfig(method="none"))
