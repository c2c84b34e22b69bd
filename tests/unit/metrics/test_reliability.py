"""Reliability by bins: on paper, against the ECE, and without unknown truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.metrics.classification import expected_calibration_error
from medmtl.metrics.reliability import reliability_curve, wilson_interval

ROWS = st.lists(
    st.tuples(st.sampled_from([True, False, None]), st.floats(0, 1)), min_size=1, max_size=60
)


def test_bins_on_paper() -> None:
    curve = reliability_curve([True, False, True, None, True], [0.1, 0.3, 0.9, 0.95, 1.0], bins=2)
    assert [one.n for one in curve] == [2, 2]
    assert [one.mean_probability for one in curve] == pytest.approx([0.2, 0.95])
    assert [one.frequency for one in curve] == [0.5, 1.0]


@settings(deadline=None)
@given(ROWS)
def test_the_gaps_of_the_curve_add_up_to_the_ece(rows: list[tuple[bool | None, float]]) -> None:
    truth, probability = [t for t, _ in rows], [p for _, p in rows]
    curve = reliability_curve(truth, probability)
    total = sum(one.n for one in curve)
    assert total == sum(t is not None for t in truth)
    if total:
        gap = sum(one.n * abs(one.frequency - one.mean_probability) for one in curve) / total
        assert gap == pytest.approx(expected_calibration_error(truth, probability))


@settings(deadline=None)
@given(ROWS)
def test_bins_by_count_ascend_and_never_split_equal_probabilities(
    rows: list[tuple[bool | None, float]],
) -> None:
    known = [(t, p) for t, p in rows if t is not None]
    curve = reliability_curve([t for t, _ in known], [p for _, p in known], bins=4, by="count")
    means = [one.mean_probability for one in curve]
    assert means == sorted(means)
    assert sum(one.n for one in curve) == len(known)
    assert len(curve) <= min(4, len({p for _, p in known}) or 1)


def test_bins_by_count_hold_equal_numbers(rng: np.random.Generator) -> None:
    curve = reliability_curve([True] * 40, rng.random(40), bins=8, by="count")
    assert [one.n for one in curve] == [5] * 8


def test_wilson_on_paper() -> None:
    # Wilson's interval of 5 in 10 and of 0 in 10, as in any table
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    with pytest.raises(ValueError, match="n > 0"):
        wilson_interval(0, 0)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one value per truth"):
        reliability_curve([True], [0.1, 0.2])
