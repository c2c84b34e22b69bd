"""Numbers on findings: known values, and unknown truth that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from medmtl.metrics import classification
from medmtl.metrics.weighted import (
    weighted_auprc,
    weighted_auroc,
    weighted_balanced_accuracy,
    weighted_ece,
    weighted_mean,
    weighted_sd,
)

METRICS: list[Callable[..., float | None]] = [
    classification.auroc,
    classification.auprc,
    classification.brier,
    classification.expected_calibration_error,
    classification.sensitivity,
    classification.specificity,
]


def test_perfect_order_has_auroc_one_and_reversed_order_zero() -> None:
    truth = [False, False, True, True]
    assert classification.auroc(truth, [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert classification.auprc(truth, [0.1, 0.2, 0.8, 0.9]) == 1.0
    assert classification.auroc(truth, [0.9, 0.8, 0.2, 0.1]) == 0.0
    assert classification.auroc(truth, [0.5, 0.5, 0.5, 0.5]) == 0.5


def test_decisions_are_counted_per_truth_value() -> None:
    truth = [True, True, True, True, False, False, None]
    decision = [True, True, True, False, True, False, True]
    assert classification.sensitivity(truth, decision) == 0.75
    assert classification.specificity(truth, decision) == 0.5


def test_brier_and_calibration_of_constant_probabilities() -> None:
    truth = [True] * 3 + [False]
    assert classification.brier(truth, [0.5] * 4) == 0.25
    assert classification.expected_calibration_error(truth, [0.75] * 4) == pytest.approx(0.0)
    assert classification.expected_calibration_error(truth, [0.25] * 4) == pytest.approx(0.5)
    assert classification.expected_calibration_error([True], [1.0]) == pytest.approx(0.0)


def test_a_class_with_one_truth_value_has_no_auroc() -> None:
    assert classification.auroc([True, True, None], [0.1, 0.9, 0.5]) is None
    assert classification.auprc([False, None], [0.1, 0.9]) is None
    assert classification.sensitivity([False, None], [0, 1]) is None
    assert classification.specificity([True, None], [0, 1]) is None


def test_nothing_known_is_no_number() -> None:
    for metric in METRICS:
        assert metric([None, None], [0.2, 0.9]) is None
        assert metric([], []) is None


@given(
    rows=st.lists(
        st.tuples(st.sampled_from([True, False, None]), st.floats(0, 1), st.floats(0, 1)),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_predictions_where_truth_is_unknown_change_nothing(
    rows: list[tuple[bool | None, float, float]],
) -> None:
    truth = [label for label, _, _ in rows]
    before = [score for _, score, _ in rows]
    after = [score if label is not None else other for label, score, other in rows]
    for metric in METRICS:
        assert metric(truth, before) == metric(truth, after)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per truth"):
        classification.auroc([True, False], [0.5])


@pytest.fixture
def observations(
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Weights (5 replicates), labels and scores with ties of 40 observations."""
    weights = rng.integers(0, 4, size=(5, 40)).astype(np.float64)
    return weights, rng.random(40) > 0.4, np.round(rng.random(40), 1)


def test_weighted_replicates_equal_scikit_learn(
    observations: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    weights, labels, scores = observations
    aurocs, auprcs = (f(weights, labels, scores) for f in (weighted_auroc, weighted_auprc))
    for row, area, precision in zip(weights, aurocs, auprcs, strict=True):
        assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=row))
        expected = average_precision_score(labels, scores, sample_weight=row)
        assert precision == pytest.approx(expected)


def test_weights_of_one_give_the_plain_numbers(
    observations: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    _, labels, scores = observations
    ones, truth = np.ones((1, len(labels))), [bool(label) for label in labels]
    ece = classification.expected_calibration_error(truth, scores)
    assert weighted_ece(ones, labels, scores)[0] == pytest.approx(ece)
    squared = (scores - labels) ** 2
    assert weighted_mean(ones, squared)[0] == pytest.approx(classification.brier(truth, scores))


def test_a_replicate_without_one_class_has_no_auroc() -> None:
    labels, scores = np.array([True, False]), np.array([0.9, 0.1])
    replicates = weighted_auroc(np.array([[2.0, 0.0], [1.0, 1.0]]), labels, scores)
    assert np.isnan(replicates[0])
    assert replicates[1] == 1.0


def test_whole_weights_count_like_copies(
    observations: tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]],
) -> None:
    weights, labels, scores = observations
    right = (scores > 0.5) == labels
    spreads, balanced = (
        weighted_sd(weights, scores),
        weighted_balanced_accuracy(weights, labels, right),
    )
    for row, spread, value in zip(weights.astype(int), spreads, balanced, strict=True):
        assert spread == pytest.approx(np.std(np.repeat(scores, row), ddof=1))
        expected = balanced_accuracy_score(np.repeat(labels, row), np.repeat(scores > 0.5, row))
        assert value == pytest.approx(expected)
