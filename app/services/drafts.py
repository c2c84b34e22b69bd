"""A review as it grows: one answer after the other, each a new record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from medmtl.core.review import FindingVerdict, MaskVerdict, Review

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from app.services.case_view import FindingView
    from app.services.review_log import CaseRef
    from medmtl.core.review import FindingAnswer, MaskAnswer

__all__ = [
    "Reading",
    "answer_of_reading",
    "empty_review",
    "next_open",
    "signed",
    "with_comment",
    "with_correction",
    "with_finding",
    "with_judgement",
    "with_mask",
    "without_correction",
]

Reading = Literal["present", "absent", "unsure"]
"""What a blind reader says, who does not know what the model said."""


def empty_review(case: CaseRef, reviewer: str) -> Review:
    """Nothing answered yet."""
    return Review(case.case_id, reviewer, _now(), model_sha256=case.model_sha256)


def with_finding(
    review: Review,
    name: str,
    *,
    answer: FindingAnswer | None,
    decision: bool | None = None,
    comment: str | None = None,
) -> Review:
    """Another answer on a finding, about this decision of the model; None takes it back.

    A change takes the signature back.
    """
    before = review.finding(name)
    kept = tuple(verdict for verdict in review.findings if verdict.finding != name)
    if answer is not None:
        words = comment if comment is not None else (before.comment if before else "")
        kept = (*kept, FindingVerdict(name, answer, words, decision))
    return replace(review, findings=kept, is_signed=False, reviewed_at=_now())


def with_mask(
    review: Review,
    volume: str,
    *,
    answer: MaskAnswer | None,
    segment: str | None = None,
    comment: str | None = None,
) -> Review:
    """Another answer on a mask, or on all of a volume; None takes it back."""
    place = (volume, segment)
    before = next((one for one in review.masks if (one.volume, one.segment) == place), None)
    kept = tuple(one for one in review.masks if (one.volume, one.segment) != place)
    if answer is not None:
        words = comment if comment is not None else (before.comment if before else "")
        kept = (*kept, MaskVerdict(volume, answer, segment, words))
    return replace(review, masks=kept, is_signed=False, reviewed_at=_now())


def with_correction(review: Review, volume: str, segments: Collection[str] | None = None) -> Review:
    """Another mask stands in the place of the model's, of these segments; None for all.

    Where it is all of them, what called for it is corrected, too.
    """
    if segments is not None:
        for name in segments:
            review = with_mask(review, volume, segment=name, answer="corrected")
        return review
    masks = tuple(
        replace(one, answer="corrected")
        if one.volume == volume and one.answer == "needs_correction"
        else one
        for one in review.masks
    )
    return with_mask(replace(review, masks=masks), volume, answer="corrected")


def without_correction(review: Review, volume: str, segments: Collection[str]) -> Review:
    """The masks of these segments are the model's again: no correction of them is left."""
    kept = tuple(
        one
        for one in review.masks
        if not (one.volume == volume and one.segment in segments and one.answer == "corrected")
    )
    return replace(review, masks=kept, is_signed=False, reviewed_at=_now())


def with_judgement(
    review: Review,
    volume: str,
    *,
    answer: MaskAnswer,
    segment: str | None = None,
    corrected: Collection[str] | None = (),
) -> Review:
    """An answer on the masks that are shown: to accept a person's is not to accept the model's.

    A word on all of a volume takes back the words on single segments that contradict it.

    Args:
        review: So far.
        volume: Id of the volume.
        answer: What the reader says.
        segment: Of this one; None for all of the volume.
        corrected: Segments of which a correction is shown; None for all.
    """
    if segment is None:
        review = _without_contradictions(review, volume, answer=answer, corrected=corrected)
    review = with_mask(review, volume, segment=segment, answer=answer)
    if answer != "accepted":
        return review
    if segment is None:
        return with_correction(review, volume, corrected)
    is_corrected = corrected is None or segment in corrected
    return with_correction(review, volume, (segment,)) if is_corrected else review


def _without_contradictions(
    review: Review, volume: str, *, answer: MaskAnswer, corrected: Collection[str] | None
) -> Review:
    """Without the words on single segments that would come before another one on the volume."""

    def is_kept(one: MaskVerdict) -> bool:
        if one.volume != volume or one.segment is None:
            return True
        if answer == "needs_correction":
            return one.answer != "corrected"
        return answer != "accepted" or corrected is None or one.segment in corrected

    return replace(review, masks=tuple(one for one in review.masks if is_kept(one)))


def with_comment(review: Review, comment: str) -> Review:
    """Another comment on the whole case."""
    return replace(review, comment=comment, is_signed=False, reviewed_at=_now())


def signed(review: Review) -> Review:
    """The reviewer stands by it, now."""
    return replace(review, is_signed=True, reviewed_at=_now())


def answer_of_reading(reading: Reading, finding: FindingView) -> FindingAnswer:
    """What a blind reading means for the model's decision."""
    if reading == "unsure":
        return "unsure"
    return "agree" if (reading == "present") == finding.is_present else "disagree"


def next_open(review: Review, names: Iterable[str], *, after: str) -> str | None:
    """The next finding without an answer, from the one after `after` round to it."""
    order = list(names)
    start = order.index(after) + 1 if after in order else 0
    rest = [*order[start:], *order[:start]]
    return next((name for name in rest if review.finding(name) is None), None)


def _now() -> datetime:
    return datetime.now(UTC)
