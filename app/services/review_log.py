"""Reviews in a database that only grows: every save is a new line, the latest of a reviewer counts.

SQLite by default, PostgreSQL by its address. A line names a case by its pseudonymous id and holds
no patient. Two reviewers write lines of their own and never meet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from app.services.review_database import REVIEWS, open_database, reading, writing
from medmtl.core.review import Review

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from app.services.case_row import CaseRow

__all__ = ["CaseRef", "Entry", "ReviewLog", "ReviewState", "open_review_log"]

ReviewState = Literal["open", "started", "signed", "earlier"]
"""Of the answer that stands now; "earlier": only another answer of the same model was signed."""

_OF_A_LINE = ("run", "case_id", "model_sha256", "identity", "answer", "reviewer")


@dataclass(frozen=True)
class CaseRef:
    """Which answer was reviewed.

    Attributes:
        run: Result folder relative to that of the viewer that stored the line.
        case_id: The case.
        model_sha256: The model; the verdict on another model's answer is another one.
        identity: Of the image, as `CaseRow.identity`: other viewers may give other images the same
            run and case id. "" in lines of earlier versions, which are found by run and case id.
        answer: Key of the answer, as `CaseRow.answer`; "" in lines of earlier versions, which are
            about any, until their reviewer says something newer.
    """

    run: str
    case_id: str
    model_sha256: str
    identity: str = ""
    answer: str = ""

    @property
    def key(self) -> str:
        """As `CaseRow.key`."""
        return f"{self.run}/{self.case_id}" if self.run else self.case_id

    @property
    def place(self) -> str:
        """What tells it from other cases: its identity, in old lines its key."""
        return self.identity or self.key

    def is_about(self, answer: str) -> bool:
        """Whether it may be about this answer of its model to its image; "" is not known."""
        return "" in (self.answer, answer) or self.answer == answer

    def among(self, cases: Mapping[str, CaseRow]) -> CaseRow | None:
        """Its row; None where that name is of another image, or holds another answer."""
        row = cases.get(self.key)
        if row is None or row.model_sha256 != self.model_sha256 or not self.is_about(row.answer):
            return None
        return row if self.identity in ("", row.identity) else None


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    Attributes:
        number: Grows with every line.
        case: What was reviewed.
        review: The verdict.
        is_blind: Whether the reviewer gave the findings before seeing the model's answer.
    """

    number: int
    case: CaseRef
    review: Review
    is_blind: bool


@dataclass(frozen=True, eq=False)
class ReviewLog:
    """An open log; safe to share between threads and sessions."""

    engine: sa.Engine = field(repr=False)

    def append(self, review: Review, case: CaseRef, *, is_blind: bool = False) -> int:
        """Add a line, and return its number once it is on the disk.

        Raises:
            OutputError: If the database does not take it; nothing of it is then stored.
        """
        with writing(self.engine) as connection:
            return _insert(connection, review, case, is_blind=is_blind)

    def revise(
        self,
        case: CaseRef,
        reviewer: str,
        change: Callable[[Entry | None], tuple[Review, bool] | None],
    ) -> None:
        """Add a line that follows from the reviewer's last one; nobody writes in between.

        Args:
            case: The case.
            reviewer: Whose last line `change` is given, None where there is none.
            change: Gives the review and whether it is blind; None adds no line.

        Raises:
            OutputError: If the database does not take it; nothing of it is then stored.
        """
        with writing(self.engine) as connection:
            said = change(_latest(connection, case, reviewer))
            if said is not None:
                _insert(connection, said[0], case, is_blind=said[1])

    def latest(self, case: CaseRef, reviewer: str) -> Entry | None:
        """What a reviewer said last of this answer to a case; None where nothing."""
        with reading(self.engine) as connection:
            return _latest(connection, case, reviewer)

    def of_case(self, case: CaseRef) -> tuple[Entry, ...]:
        """The last line of every reviewer of this answer to a case, oldest first."""
        return _about(case, self._entries(_of(case)))

    def earlier(self, case: CaseRef) -> tuple[Entry, ...]:
        """The last line of every reviewer of each other answer of the model, oldest first."""
        last = _last_of_each(self._entries(_of(case)))
        return tuple(one for one in last if not one.case.is_about(case.answer))

    def history(self, case: CaseRef) -> tuple[Entry, ...]:
        """Every line of a case, also of other answers of its model, oldest first."""
        return tuple(self._entries(_of(case)))

    def last_lines(self, reviewer: str | None = None) -> tuple[Entry, ...]:
        """The last line of every reviewer, or of one, on every answer, oldest first."""
        mine = [] if reviewer is None else [REVIEWS.c.reviewer == reviewer]
        return _last_of_each(self._entries([REVIEWS.c.id.in_(_newest()), *mine]))

    def last_number(self) -> int:
        """Number of the newest line, 0 where there is none: it changes with every save."""
        with reading(self.engine) as connection:
            return int(connection.scalar(sa.select(sa.func.max(REVIEWS.c.id))) or 0)

    def states(self) -> dict[tuple[str, str, str], ReviewState]:
        """How far each case is, by place, model and answer: signed where any last line is."""
        wanted = (
            sa.select(*(REVIEWS.c[one] for one in _OF_A_LINE), REVIEWS.c.is_signed)
            .where(REVIEWS.c.id.in_(_newest()))
            .order_by(REVIEWS.c.id)
        )
        with reading(self.engine) as connection:
            found = [
                (CaseRef(*case), str(reviewer), bool(is_signed))
                for *case, reviewer, is_signed in connection.execute(wanted)
            ]
        states: dict[tuple[str, str, str], ReviewState] = {}
        for number in _last_numbers((case, reviewer) for case, reviewer, _ in found):
            case, _, is_signed = found[number]
            place = (case.place, case.model_sha256, case.answer)
            is_known = states.get(place) == "signed"
            states[place] = "signed" if is_signed or is_known else "started"
        return states

    def _entries(self, conditions: Iterable[sa.ColumnElement[bool]]) -> list[Entry]:
        wanted = sa.select(REVIEWS).where(*conditions).order_by(REVIEWS.c.id)
        with reading(self.engine) as connection:
            return [_entry(row) for row in connection.execute(wanted).mappings()]


def open_review_log(url: str) -> ReviewLog:
    """Open the log, and make its table if need be.

    Raises:
        ConfigError: If the address cannot be read, or the database not be opened or written.
    """
    return ReviewLog(open_database(url))


def _insert(connection: sa.Connection, review: Review, case: CaseRef, *, is_blind: bool) -> int:
    values = {
        "run": case.run,
        "case_id": case.case_id,
        "model_sha256": case.model_sha256,
        "identity": case.identity,
        "answer": case.answer,
        "reviewer": review.reviewer,
        "reviewed_at": review.as_json()["reviewed_at"],
        "is_signed": review.is_signed,
        "is_blind": is_blind,
        "record": json.dumps(review.as_json(), ensure_ascii=False),
    }
    key = connection.execute(REVIEWS.insert().values(values)).inserted_primary_key
    return int(key[0]) if key else 0


def _latest(connection: sa.Connection, case: CaseRef, reviewer: str) -> Entry | None:
    mine = [*_of(case), REVIEWS.c.reviewer == reviewer]
    wanted = sa.select(REVIEWS).where(*mine).order_by(REVIEWS.c.id)
    found = _about(case, [_entry(row) for row in connection.execute(wanted).mappings()])
    return found[-1] if found else None


def _newest() -> sa.Select[tuple[int]]:
    """Numbers of the last lines of every reviewer under every name of a case."""
    return sa.select(sa.func.max(REVIEWS.c.id)).group_by(*(REVIEWS.c[one] for one in _OF_A_LINE))


def _of(case: CaseRef) -> list[sa.ColumnElement[bool]]:
    by_name = sa.and_(REVIEWS.c.run == case.run, REVIEWS.c.case_id == case.case_id)
    if case.identity:
        old = sa.and_(REVIEWS.c.identity == "", by_name)
        by_name = sa.or_(REVIEWS.c.identity == case.identity, old)
    return [by_name, REVIEWS.c.model_sha256 == case.model_sha256]


def _entry(row: Mapping[Any, Any]) -> Entry:
    *names, _ = _OF_A_LINE
    case = CaseRef(*(row[name] for name in names))
    review = Review.from_json(json.loads(row["record"]))
    return Entry(int(row["id"]), case, review, bool(row["is_blind"]))


def _about(case: CaseRef, entries: list[Entry]) -> tuple[Entry, ...]:
    """The last line of each reviewer that is, or may be, about this answer to the case."""
    mine = [one for one in _last_of_each(entries) if one.case.is_about(case.answer)]
    last = {one.review.reviewer: one.number for one in mine}
    return tuple(one for one in mine if one.number == last[one.review.reviewer])


def _last_of_each(entries: list[Entry]) -> tuple[Entry, ...]:
    lines = ((entry.case, entry.review.reviewer) for entry in entries)
    return tuple(entries[number] for number in _last_numbers(lines))


def _last_numbers(lines: Iterable[tuple[CaseRef, str]]) -> list[int]:
    """Which lines, oldest first, are the last of their reviewer on their answer."""
    last: dict[tuple[str, str, str, str], int] = {}
    for number, (case, reviewer) in enumerate(lines):
        for place in (case.key, case.place):  # an old line, without identity or answer
            last.pop((place, case.model_sha256, "", reviewer), None)
        last[case.place, case.model_sha256, case.answer, reviewer] = number
    return sorted(last.values())
