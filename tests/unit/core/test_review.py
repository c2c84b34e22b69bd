"""The record of a review: one answer per finding and mask, by whom and when."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from medmtl.core.review import FindingAnswer, FindingVerdict, MaskVerdict, Review

REVIEW = Review(
    case_id="a1b2",
    reviewer="reader-1",
    reviewed_at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
    findings=(FindingVerdict("effusion", "disagree", "only a recess"),),
    masks=(MaskVerdict("ct", "accepted"), MaskVerdict("ct", "corrected", "lesion", "edge")),
    comment="motion",
    is_signed=True,
)


def test_a_review_survives_json() -> None:
    assert Review.from_json(json.loads(json.dumps(REVIEW.as_json()))) == REVIEW


@pytest.mark.parametrize(
    ("answer", "decision", "truth"),
    [("agree", True, True), ("agree", False, False), ("disagree", True, False),
     ("disagree", False, True), ("unsure", True, None), ("unsure", False, None)],
)  # fmt: skip
def test_the_truth_follows_from_the_answer_and_the_decision(
    answer: str, decision: bool, truth: bool | None
) -> None:
    verdict = FindingVerdict("effusion", answer)  # type: ignore[arg-type] # from the table above
    assert verdict.truth(decision=decision) is truth


def test_a_segment_has_its_own_verdict_before_that_of_the_whole_mask() -> None:
    assert [REVIEW.mask("ct", name) for name in ("lesion", "lung")] == [
        REVIEW.masks[1], REVIEW.masks[0],
    ]  # fmt: skip
    assert REVIEW.mask("mr", "lung") is None


def test_a_review_of_another_model_is_not_of_this_answer() -> None:
    assert REVIEW.is_of("a1b2", "ff")  # no model noted
    assert not REVIEW.is_of("a1b3", "ff")
    assert replace(REVIEW, model_sha256="ff").is_of("a1b2", "ff")
    assert not replace(REVIEW, model_sha256="ee").is_of("a1b2", "ff")


def test_what_was_not_looked_at_has_no_verdict() -> None:
    assert REVIEW.finding("effusion") is REVIEW.findings[0]
    assert REVIEW.finding("nodule") is None


@pytest.mark.parametrize(
    "when", [datetime(2026, 3, 1), datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=2)))]  # noqa: DTZ001 - that is what is refused
)  # fmt: skip
def test_a_time_outside_utc_is_refused(when: datetime) -> None:
    with pytest.raises(ValueError, match="in UTC"):
        replace(REVIEW, reviewed_at=when)


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(ValueError, match="two verdicts on effusion"):
        replace(REVIEW, findings=REVIEW.findings * 2)
    with pytest.raises(ValueError, match="two verdicts on ct/"):
        replace(REVIEW, masks=(*REVIEW.masks, MaskVerdict("ct", "needs_correction")))


def test_unknown_words_and_missing_names_are_refused() -> None:
    with pytest.raises(ValueError, match="none of agree, disagree, unsure"):
        FindingVerdict("effusion", "yes")  # type: ignore[arg-type] # that is what is refused
    with pytest.raises(ValueError, match="none of accepted"):
        MaskVerdict("ct", "agree")  # type: ignore[arg-type] # that is what is refused
    with pytest.raises(ValueError, match="empty name"):
        replace(REVIEW, reviewer=" ")


@pytest.mark.parametrize(
    ("answer", "today"), [("agree", "disagree"), ("disagree", "agree"), ("unsure", "unsure")]
)
def test_a_word_on_one_decision_is_turned_where_the_model_decides_otherwise_today(
    answer: FindingAnswer, today: FindingAnswer
) -> None:
    verdict = FindingVerdict("effusion", answer, decision=True)
    assert verdict.truth(decision=False) == verdict.truth(decision=True)
    turned = verdict.about(decision=False)
    assert turned.answer == today
    assert turned.truth(decision=True) == verdict.truth(decision=True)
    review = Review("one", "r", datetime(2026, 1, 1, tzinfo=UTC), (verdict,))
    assert review.about({"effusion": False}).findings == (turned,)
    assert review.about({"effusion": True}) == review
    assert review.about({}) == review
