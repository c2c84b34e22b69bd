"""What uncertainty is worth, counted on cases that fit on one page."""

from __future__ import annotations

from dataclasses import replace

import pytest

from medmtl.metrics.risk_coverage import decision_confidence
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore
from medmtl.metrics.summary_uncertainty import summarise_uncertainty
from medmtl.report.evaluation_uncertainty import uncertainty_section


def finding(truth: bool | None, probability: float, **fields: object) -> FindingScore:
    score = FindingScore("edema", truth, probability, probability >= 0.5)
    return replace(score, **fields)  # type: ignore[arg-type]


def case(number: int, *findings: FindingScore, **fields: object) -> CaseScore:
    score = CaseScore(f"c{number}", f"p{number}", findings=findings)
    return replace(score, **fields)  # type: ignore[arg-type]


def segment(dice: float | None, pairwise_dice: float | None) -> SegmentScore:
    return SegmentScore("ct", "lung", dice, None, None, False, 1.0, 1.0,
                        pairwise_dice=pairwise_dice)  # fmt: skip


def test_decisions_near_their_threshold_come_last() -> None:
    cases = [
        case(1, finding(True, 0.95)),
        case(2, finding(False, 0.1)),
        case(3, finding(False, 0.6)),  # wrong, and least certain
        case(4, finding(None, 0.5)),
    ]
    found = summarise_uncertainty(cases, names=["edema"])
    curve = found["findings"]["edema"]["by_probability"]
    assert curve["n"] == 3
    assert curve["risk"] == pytest.approx([0, 0, 1 / 3])
    assert curve["excess_aurc"] == 0
    assert "by_spread" not in found["findings"]["edema"]
    assert found["segments"] == {}
    assert "classes" not in found


def test_certainty_is_counted_from_the_threshold_of_the_decision() -> None:
    assert decision_confidence(0.2, 0.2) == 0
    assert decision_confidence(1.0, 0.2) == 1
    assert decision_confidence(0.6, 0.2) == pytest.approx(0.5)
    assert decision_confidence(0.1, 0.2) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="inside"):
        decision_confidence(0.5, 1.0)
    near = finding(False, 0.3, threshold=0.25, decision=True)
    far = finding(True, 0.6, threshold=0.25, decision=True)
    part = summarise_uncertainty([case(1, near), case(2, far)], names=["edema"])["findings"]
    assert part["edema"]["by_probability"]["risk"] == pytest.approx([0, 0.5])


def test_the_spread_of_members_orders_too() -> None:
    cases = [
        case(1, finding(True, 0.9, probability_std=0.3, decision=False)),
        case(2, finding(True, 0.6, probability_std=0.01)),
    ]
    part = summarise_uncertainty(cases, names=["edema"])["findings"]["edema"]
    assert part["by_spread"]["risk"] == pytest.approx([0, 0.5])
    assert part["by_probability"]["risk"] == pytest.approx([1, 0.5])


def test_masks_on_which_members_agree_come_first() -> None:
    cases = [
        case(1, segments=(segment(0.9, 0.95), segment(0.5, 0.6))),
        case(2, segments=(segment(0.7, 0.8), segment(None, 1.0))),
    ]
    curve = summarise_uncertainty(cases, names=[])["segments"]["lung"]["by_pairwise_dice"]
    assert curve["risk"] == pytest.approx([0.1, 0.2, 0.3])
    assert curve["excess_aurc"] == pytest.approx(0)
    plain = [case(1, segments=(segment(0.9, None),))]
    assert summarise_uncertainty(plain, names=[])["segments"] == {}


def test_sets_are_counted_against_the_truth() -> None:
    cases = [
        case(1, finding(True, 0.9, is_in_set=True, abstains=False)),
        case(2, finding(False, 0.5, is_in_set=True, abstains=True)),
        case(3, finding(True, 0.1, is_in_set=False, abstains=False)),
        case(4, finding(None, 0.5, is_in_set=None, abstains=True)),
    ]
    sets = summarise_uncertainty(cases, names=["edema"])["findings"]["edema"]["prediction_sets"]
    assert sets["holds_truth"]["value"] == pytest.approx(2 / 3)
    assert sets["abstains"]["value"] == pytest.approx(1 / 3)
    assert sets["holds_truth"]["n"] == 3


def exclusive(number: int, truth: str, classes: tuple[str, ...], a: float, b: float) -> CaseScore:
    findings = (
        FindingScore("a", truth == "a", a, a >= 0.5),
        FindingScore("b", truth == "b", b, b >= 0.5 > a),
    )
    return case(number, *findings, diagnosis_set=classes)


def test_exclusive_findings_are_judged_as_one_class() -> None:
    cases = [
        exclusive(1, "a", ("a",), 0.9, 0.05),
        exclusive(2, "none", ("none", "b"), 0.1, 0.3),
        exclusive(3, "b", ("a",), 0.55, 0.2),
    ]
    part = summarise_uncertainty(cases, names=["a", "b"], is_exclusive=True)["classes"]
    assert part["by_probability"]["risk"] == pytest.approx([0, 0, 1 / 3])
    assert part["prediction_sets"]["holds_truth"]["value"] == pytest.approx(2 / 3)
    assert part["prediction_sets"]["abstains"]["value"] == pytest.approx(1 / 3)
    assert part["classes"] == ["a", "b", "none"]


def test_the_report_shows_it_where_there_is_something() -> None:
    assert uncertainty_section({}) is None
    assert uncertainty_section({"uncertainty": {"findings": {}, "segments": {}}}) is None
    cases = [
        case(n, finding(n % 2 == 0, p, is_in_set=True, abstains=False), segments=(segment(p, p),))
        for n, p in enumerate((0.9, 0.2, 0.7))
    ]
    found = uncertainty_section({"uncertainty": summarise_uncertainty(cases, names=["edema"])})
    assert found is not None
    text = str(found.content)
    for words in (
        "edema, by probability",
        "lung, by agreement of the masks",
        "set holds the truth",
    ):
        assert words in text
