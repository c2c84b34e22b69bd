"""Decisions at the operating points, and at most one where findings exclude each other."""

from __future__ import annotations

import pytest

from medmtl.core.labels import FindingSpec, LabelSchema
from medmtl.postprocess.decide import decide

FINDINGS = (FindingSpec("a"), FindingSpec("b"), FindingSpec("c"))
FREE = LabelSchema(findings=FINDINGS)
EXCLUSIVE = LabelSchema(findings=FINDINGS, findings_exclusive=True)
HALF = {"a": 0.5, "b": 0.5, "c": 0.5}


def test_at_the_threshold_is_present() -> None:
    found = decide(FREE, {"a": 0.5, "b": 0.49, "c": 0.9}, HALF)
    assert found == {"a": True, "b": False, "c": True}


def test_exclusive_findings_are_at_most_one() -> None:
    assert decide(EXCLUSIVE, {"a": 0.6, "b": 0.1, "c": 0.9}, HALF) == {
        "a": False, "b": False, "c": True,
    }  # fmt: skip
    assert not any(decide(EXCLUSIVE, {"a": 0.4, "b": 0.1, "c": 0.3}, HALF).values())


def test_exclusive_findings_compare_relative_to_their_thresholds() -> None:
    found = decide(EXCLUSIVE, {"a": 0.3, "b": 0.6, "c": 0.0}, {"a": 0.1, "b": 0.5, "c": 0.5})
    assert found == {"a": True, "b": False, "c": False}


def test_a_tie_goes_to_the_first() -> None:
    assert decide(EXCLUSIVE, {"a": 0.2, "b": 0.8, "c": 0.8}, HALF) == {
        "a": False, "b": True, "c": False,
    }  # fmt: skip


def test_no_findings() -> None:
    assert decide(LabelSchema(findings_exclusive=True), {}, {}) == {}


@pytest.mark.parametrize(
    ("probability", "threshold"), [(float("nan"), 0.5), (1.2, 0.5), (0.5, 0.0), (-0.1, 0.5)]
)
def test_impossible_numbers_are_refused(probability: float, threshold: float) -> None:
    with pytest.raises(ValueError, match="Finding b"):
        decide(FREE, {**HALF, "b": probability}, {**HALF, "b": threshold})


def test_a_missing_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="Finding c"):
        decide(FREE, {"a": 0.1, "b": 0.1}, HALF)
