"""Risk falls with certainty exactly where certainty knows of the errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.metrics.risk_coverage import RiskCoverage, answer_confidence, risk_coverage

PAIRS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0.1, 0.2, 0.5, 0.9])), min_size=1, max_size=30
)


def curve(risk: list[float | None], confidence: list[float | None]) -> RiskCoverage:
    found = risk_coverage(risk, confidence)
    assert found is not None
    return found


def test_on_paper() -> None:
    found = curve([0, 0, 1, 1], [0.9, 0.8, 0.7, 0.6])
    assert found.coverage == (0.25, 0.5, 0.75, 1.0)
    assert found.risk == pytest.approx((0, 0, 1 / 3, 1 / 2))
    assert found.aurc == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert found.excess_aurc == 0
    reverse = curve([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    assert reverse.risk == pytest.approx((1, 1, 2 / 3, 1 / 2))
    assert reverse.excess_aurc == pytest.approx((1 + 1 + 2 / 3 - 1 / 3) / 4)


def test_a_confidence_that_says_nothing_gives_the_mean_everywhere() -> None:
    found = curve([1, 0, 0, 0], [0.5] * 4)
    assert found.risk == pytest.approx([0.25] * 4)


def test_unknown_enters_nothing() -> None:
    assert curve([0, None, 1, 1], [0.9, 0.95, 0.5, None]) == curve([0, 1], [0.9, 0.5])
    assert risk_coverage([None], [0.5]) is None
    assert risk_coverage([], []) is None


@settings(deadline=None)
@given(PAIRS)
def test_the_order_of_cases_does_not_matter_and_the_end_is_the_mean(
    pairs: list[tuple[float, float]],
) -> None:
    found = curve([r for r, _ in pairs], [c for _, c in pairs])
    shuffled = sorted(pairs, key=lambda pair: (pair[1], -pair[0]))
    other = curve([r for r, _ in shuffled], [c for _, c in shuffled])
    assert found.risk == pytest.approx(other.risk)
    assert found.risk[-1] == pytest.approx(np.mean([r for r, _ in pairs]))
    assert found.excess_aurc >= 0


def test_a_long_curve_is_thinned_and_keeps_its_ends(rng: np.random.Generator) -> None:
    found = curve(list(rng.random(1000)), list(rng.random(1000)))
    plain = found.as_json()
    assert len(plain["risk"]) == len(plain["coverage"]) == 101
    assert plain["coverage"][0] == 0.001
    assert plain["coverage"][-1] == 1.0
    assert plain["n"] == 1000


def test_certainty_of_an_answer_is_its_largest_probability() -> None:
    assert answer_confidence([0.2]) == pytest.approx(0.8)
    assert answer_confidence([0.7]) == pytest.approx(0.7)
    assert answer_confidence([0.1, 0.3]) == pytest.approx(0.6)  # none of them
    assert answer_confidence([0.9, 0.8]) == pytest.approx(0.9)
