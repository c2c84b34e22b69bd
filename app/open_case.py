"""The case that a page shows: its answer, its review so far, and what may be seen of it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.resources import case_index, models, review_log, reviews_folder
from app.services.blind_reading import is_whole
from app.services.case_view import view_of_case
from app.services.corrections import CorrectionStore
from app.services.drafts import empty_review
from app.services.review_log import CaseRef
from app.state import has_seen, is_blind, keep_seen
from medmtl.core.answer_key import answer_key
from medmtl.core.errors import MedmtlError
from medmtl.data.result_case import read_result_case

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.services.case_index import Snapshot
    from app.services.case_row import CaseRow
    from app.services.case_view import CaseView
    from app.services.models import ModelFacts
    from app.services.review_log import Entry, ReviewLog
    from app.view import View
    from medmtl.core.review import Review
    from medmtl.data.result_case import ResultCase, ResultVolume

__all__ = ["OpenCase", "open_case"]


@dataclass(frozen=True, eq=False)
class OpenCase:
    """One case on a page.

    Attributes:
        view: Settings, reader, pages.
        row: Its line in the worklist.
        folder: Its folder.
        result: Its case.json and label schema.
        model: What is known of its model; None where its bundle was not found.
        answer: The model's answer.
        ref: Its name in the review log.
        review: What this reader has said so far.
        is_blind: Whether the reader answers without seeing the model's answer.
    """

    view: View
    row: CaseRow
    folder: Path
    result: ResultCase
    model: ModelFacts | None
    answer: CaseView
    ref: CaseRef
    review: Review
    is_blind: bool

    @property
    def key(self) -> str:
        """As in the worklist."""
        return self.row.key

    @property
    def widgets(self) -> str:
        """Stands in keys of widgets: a click is about the case and answer it was shown with."""
        return f"{self.key}:{self.ref.answer}:{self.view.reader.name}"

    @property
    def is_hidden(self) -> bool:
        """Whether the model's answer must not be seen yet."""
        return self.is_blind and not is_whole(self.review, self.answer.findings)

    @property
    def can_review(self) -> bool:
        """Whether this reader may answer."""
        return self.view.reader.may("reviewer")

    @property
    def has_signed_earlier(self) -> bool:
        """Whether this reader signed another answer of the model, before it was computed again."""
        name = self.view.reader.name
        return any(
            entry.review.is_signed and entry.review.reviewer == name
            for entry in self.log.earlier(self.ref)
        )

    @property
    def log(self) -> ReviewLog:
        """Where answers go."""
        return review_log(self.view.settings)

    @property
    def corrections(self) -> CorrectionStore:
        """Where corrected masks go."""
        return CorrectionStore(reviews_folder(self.view.settings) / "reviews")

    def save(self, change: Callable[[Review], Review]) -> Review:
        """Store what the reader said; it is on the disk when this returns.

        The change is made to what the log holds now: a page may be older than another tab's
        answers, and one click can bring two answers of the same page.

        Raises:
            MedmtlError: If this reader may only look.
        """
        if not self.can_review:
            raise MedmtlError("You may look, not review. Ask for the role of a reviewer.")
        reader = self.view.reader.name
        review = empty_review(self.ref, reader)

        def changed(last: Entry | None) -> tuple[Review, bool] | None:
            nonlocal review
            before = last.review if last else review
            review = change(before)
            was_blind = self.is_blind and (last is None or last.is_blind)
            was_seen = is_whole(before, self.answer.findings)
            is_unseen = not was_seen or _answers(review) == _answers(before)
            return None if review is before else (review, was_blind and is_unseen)

        self.log.revise(self.ref, reader, changed)
        return review

    def masks(self, volume: str) -> ResultVolume:
        """The masks of one volume; kept in memory for a while. Safe in any thread.

        Raises:
            MedmtlError: If they are missing or damaged.
        """
        path = self.folder / volume / "segmentation.nii.gz"
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        return _read_masks(_MaskFile(str(path), stamp, volume, self.result))


def _answers(review: Review) -> dict[str, str]:
    return {verdict.finding: verdict.answer for verdict in review.findings}


@dataclass(frozen=True)
class _MaskFile:
    """Equal for equal content, so that it names a reading."""

    path: str
    stamp: int
    volume: str
    result: ResultCase = field(compare=False, repr=False)


@functools.lru_cache(maxsize=6)
def _read_masks(file: _MaskFile) -> ResultVolume:
    return file.result.volume(file.volume)


def open_case(view: View, key: str) -> OpenCase | None:
    """The case of that name; None where there is none.

    Raises:
        MedmtlError: If its case.json is damaged, or the review log cannot be opened.
    """
    snapshot = case_index(view.settings).snapshot()
    row = snapshot.rows.get(key)
    return None if row is None else _opened(view, snapshot, row)


def _opened(view: View, snapshot: Snapshot, row: CaseRow) -> OpenCase:
    result = read_result_case(snapshot.folder(row.key))
    model = models(view.settings, snapshot).get(row.model_sha256)
    answered = answer_key(result.record)
    ref = CaseRef(row.run, row.case_id, row.model_sha256, row.identity, answered)
    last = review_log(view.settings).latest(ref, view.reader.name)
    # A review that was begun blind stays blind: switching over must not show what was hidden.
    was_blind = last is not None and last.is_blind
    answer = view_of_case(result.record, model)
    decisions = {finding.name: finding.is_present for finding in answer.findings}
    seen = f"{view.reader.name}:{ref.place}:{ref.model_sha256}:{ref.answer}"
    opened = OpenCase(
        view=view,
        row=row,
        folder=result.folder,
        result=result,
        model=model,
        answer=answer,
        ref=ref,
        review=last.review.about(decisions) if last else empty_review(ref, view.reader.name),
        is_blind=was_blind or (is_blind(view.settings) and last is None and not has_seen(seen)),
    )
    if not opened.is_hidden:
        keep_seen(seen)
    return opened
