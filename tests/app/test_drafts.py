"""A review answer by answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.services.case_view import view_of_case
from app.services.drafts import (
    Reading,
    answer_of_reading,
    empty_review,
    next_open,
    signed,
    with_comment,
    with_correction,
    with_finding,
    with_judgement,
    with_mask,
    without_correction,
)
from app.services.review_log import CaseRef
from tests.app.results import SHA256, case_record, finding

if TYPE_CHECKING:
    from medmtl.core.review import Review

CASE = CaseRef("", "a", SHA256)


def test_a_later_answer_takes_the_place_of_the_former_and_keeps_the_comment() -> None:
    first = with_finding(empty_review(CASE, "one"), "x", answer="agree", comment="small")
    second = with_finding(first, "x", answer="disagree")
    assert [(v.answer, v.comment) for v in second.findings] == [("disagree", "small")]
    assert with_finding(second, "x", answer=None).findings == ()


def test_any_change_takes_the_signature_back() -> None:
    review = signed(empty_review(CASE, "one"))
    assert review.is_signed
    changes = (
        with_finding(review, "x", answer="agree"),
        with_mask(review, "ct", answer="accepted"),
        with_comment(review, "later"),
    )
    assert not any(change.is_signed for change in changes)


def test_the_word_on_one_segment_comes_before_that_on_all() -> None:
    review = with_mask(empty_review(CASE, "one"), "ct", answer="accepted")
    review = with_mask(review, "ct", segment="lung", answer="needs_correction")
    lung, heart = review.mask("ct", "lung"), review.mask("ct", "heart")
    assert lung is not None
    assert heart is not None
    assert (lung.answer, heart.answer) == ("needs_correction", "accepted")


def test_a_corrected_mask_answers_what_called_for_it() -> None:
    review = with_mask(
        empty_review(CASE, "one"), "ct", segment="lung", answer="needs_correction", comment="leaks"
    )
    review = with_mask(review, "ct", segment="heart", answer="accepted")
    review = with_correction(review, "ct")
    said = {one.segment: (one.answer, one.comment) for one in review.masks}
    assert said == {
        "lung": ("corrected", "leaks"), "heart": ("accepted", ""), None: ("corrected", ""),
    }  # fmt: skip


def test_a_correction_of_one_structure_says_nothing_of_the_others() -> None:
    review = with_mask(empty_review(CASE, "one"), "ct", answer="needs_correction")
    review = with_mask(review, "ct", segment="heart", answer="needs_correction", comment="leaks")
    review = with_correction(review, "ct", ("heart",))
    lung, heart = review.mask("ct", "lung"), review.mask("ct", "heart")
    assert (lung and lung.answer) == "needs_correction"
    assert (heart and (heart.answer, heart.comment)) == ("corrected", "leaks")
    assert with_correction(review, "ct", ()) is review


@pytest.mark.parametrize("segment", ["heart", None])
@pytest.mark.parametrize("corrected", [("heart",), None])
def test_to_accept_a_persons_mask_is_not_to_accept_the_models(
    segment: str | None, corrected: tuple[str, ...] | None
) -> None:
    review = with_judgement(
        empty_review(CASE, "two"), "ct", answer="accepted", segment=segment, corrected=corrected
    )
    heart = review.mask("ct", "heart")
    assert (heart and heart.answer) == "corrected"


def test_what_the_model_drew_is_accepted_beside_a_persons_mask() -> None:
    review = with_judgement(
        empty_review(CASE, "two"), "ct", answer="accepted", corrected=("heart",)
    )
    lung = review.mask("ct", "lung")
    assert (lung and lung.answer) == "accepted"
    wanting = with_judgement(
        review, "ct", answer="needs_correction", segment="heart", corrected=("heart",)
    )
    heart = wanting.mask("ct", "heart")
    assert (heart and heart.answer) == "needs_correction"


def test_a_word_on_all_masks_takes_back_what_contradicts_it_on_one() -> None:
    review = with_correction(empty_review(CASE, "one"), "ct", ("heart",))
    review = with_mask(review, "ct", segment="lung", answer="needs_correction")
    review = with_mask(review, "mr", segment="heart", answer="corrected")
    wanting = with_judgement(review, "ct", answer="needs_correction", corrected=("heart",))
    assert [_answer(wanting, "ct", name) for name in ("heart", "lung")] == ["needs_correction"] * 2
    assert _answer(wanting, "mr", "heart") == "corrected"
    accepted = with_judgement(wanting, "ct", answer="accepted", corrected=("heart",))
    assert [_answer(accepted, "ct", name) for name in ("heart", "lung")] == [
        "corrected",
        "accepted",
    ]


def test_a_mask_that_is_the_models_again_is_not_corrected_and_takes_the_signature_back() -> None:
    review = signed(with_correction(empty_review(CASE, "one"), "ct", ("heart", "lung")))
    review = without_correction(review, "ct", ("heart",))
    assert [_answer(review, "ct", name) for name in ("heart", "lung")] == [None, "corrected"]
    assert not review.is_signed


def _answer(review: Review, volume: str, segment: str) -> str | None:
    verdict = review.mask(volume, segment)
    return verdict.answer if verdict else None


@pytest.mark.parametrize(
    ("reading", "probability", "expected"),
    [
        ("present", 0.9, "agree"),
        ("absent", 0.9, "disagree"),
        ("present", 0.1, "disagree"),
        ("absent", 0.1, "agree"),
        ("unsure", 0.9, "unsure"),
    ],
)
def test_a_blind_reading_is_compared_with_the_decision(
    reading: Reading, probability: float, expected: str
) -> None:
    case = view_of_case(case_record("a", finding("x", probability)), None)
    assert answer_of_reading(reading, case.findings[0]) == expected


def test_the_next_finding_without_an_answer_is_found_round_the_end() -> None:
    review = with_finding(empty_review(CASE, "one"), "b", answer="agree")
    assert next_open(review, ("a", "b", "c"), after="a") == "c"
    assert next_open(review, ("a", "b", "c"), after="c") == "a"
    for name in ("a", "c"):
        review = with_finding(review, name, answer="agree")
    assert next_open(review, ("a", "b", "c"), after="b") is None
