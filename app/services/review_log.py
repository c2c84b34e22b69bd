"""Reviews in a database that only grows: every save is a new line, the latest of a reviewer counts.

SQLite by default, PostgreSQL by its address. A line names a case by its pseudonymous id and holds
no patient. Two reviewers write lines of their own and never meet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from medmtl.core.errors import ConfigError, OutputError
from medmtl.core.review import Review

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CaseRef", "Entry", "ReviewLog", "ReviewState", "open_review_log"]

ReviewState = Literal["open", "started", "signed"]
_BUSY_S = 30.0  # how long a writer waits for another

_METADATA = sa.MetaData()
_REVIEWS = sa.Table(
    "reviews",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(500), nullable=False),
    sa.Column("case_id", sa.String(255), nullable=False),
    sa.Column("model_sha256", sa.String(64), nullable=False),
    sa.Column("reviewer", sa.String(255), nullable=False),
    sa.Column("reviewed_at", sa.String(40), nullable=False),
    sa.Column("is_signed", sa.Boolean, nullable=False),
    sa.Column("is_blind", sa.Boolean, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Index("reviews_of_a_case", "run", "case_id", "reviewer"),
    sqlite_autoincrement=True,
)
_GUARDS: Mapping[str, tuple[str, ...]] = {
    "sqlite": tuple(
        f"CREATE TRIGGER IF NOT EXISTS reviews_no_{verb.lower()} BEFORE {verb} ON reviews "
        "BEGIN SELECT RAISE(ABORT, 'reviews only grow'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": tuple(
        f"CREATE OR REPLACE RULE reviews_no_{verb.lower()} AS ON {verb} TO reviews DO INSTEAD "
        "NOTHING"
        for verb in ("UPDATE", "DELETE")
    ),
}
"""The database itself refuses to change a line."""


@dataclass(frozen=True)
class CaseRef:
    """Which answer was reviewed.

    Attributes:
        run: Result folder relative to that of the viewer.
        case_id: The case.
        model_sha256: The model; the verdict on another model's answer is another one.
    """

    run: str
    case_id: str
    model_sha256: str

    @property
    def key(self) -> str:
        """As `CaseRow.key`."""
        return f"{self.run}/{self.case_id}" if self.run else self.case_id


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
        values = {
            "run": case.run,
            "case_id": case.case_id,
            "model_sha256": case.model_sha256,
            "reviewer": review.reviewer,
            "reviewed_at": review.as_json()["reviewed_at"],
            "is_signed": review.is_signed,
            "is_blind": is_blind,
            "record": json.dumps(review.as_json(), ensure_ascii=False),
        }
        try:
            with self.engine.begin() as connection:
                key = connection.execute(_REVIEWS.insert().values(values)).inserted_primary_key
        except SQLAlchemyError as error:
            raise OutputError(_not_written(error)) from error
        return int(key[0]) if key else 0

    def latest(self, case: CaseRef, reviewer: str) -> Entry | None:
        """What a reviewer said last of a case; None where nothing."""
        mine = (_REVIEWS.c.reviewer == reviewer,)
        return next(iter(self._entries([*_of(case), *mine], newest_first=True, limit=1)), None)

    def of_case(self, case: CaseRef) -> tuple[Entry, ...]:
        """The last line of every reviewer of a case, oldest first."""
        return _last_of_each(self._entries(_of(case)))

    def history(self, case: CaseRef) -> tuple[Entry, ...]:
        """Every line of a case, oldest first."""
        return tuple(self._entries(_of(case)))

    def last_lines(self) -> tuple[Entry, ...]:
        """The last line of every reviewer of every case, oldest first."""
        return _last_of_each(self._entries([]))

    def last_number(self) -> int:
        """Number of the newest line, 0 where there is none: it changes with every save."""
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.max(_REVIEWS.c.id))) or 0)

    def states(self) -> dict[tuple[str, str], ReviewState]:
        """How far each case is, by key and model: signed where any reviewer's last line is."""
        newest = sa.select(sa.func.max(_REVIEWS.c.id)).group_by(
            _REVIEWS.c.run, _REVIEWS.c.case_id, _REVIEWS.c.model_sha256, _REVIEWS.c.reviewer
        )
        wanted = sa.select(
            _REVIEWS.c.run, _REVIEWS.c.case_id, _REVIEWS.c.model_sha256, _REVIEWS.c.is_signed
        ).where(_REVIEWS.c.id.in_(newest))
        states: dict[tuple[str, str], ReviewState] = {}
        with self.engine.connect() as connection:
            for run, case_id, sha256, is_signed in connection.execute(wanted):
                place = (CaseRef(run, case_id, sha256).key, sha256)
                is_known = states.get(place) == "signed"
                states[place] = "signed" if is_signed or is_known else "started"
        return states

    def _entries(
        self,
        conditions: Iterable[sa.ColumnElement[bool]],
        *,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        order = _REVIEWS.c.id.desc() if newest_first else _REVIEWS.c.id
        wanted = sa.select(_REVIEWS).where(*conditions).order_by(order).limit(limit)
        with self.engine.connect() as connection:
            return [_entry(row) for row in connection.execute(wanted).mappings()]


def open_review_log(url: str) -> ReviewLog:
    """Open the log, and make its table if need be.

    Raises:
        ConfigError: If the address cannot be read, or the database not be opened or written.
    """
    try:
        engine = sa.create_engine(url, pool_pre_ping=True, **_options(url))
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _set_up_sqlite)
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":  # two that look first and then write would collide
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            _METADATA.create_all(connection)
            for guard in _GUARDS.get(engine.dialect.name, ()):
                connection.execute(sa.text(guard))
    except (SQLAlchemyError, ImportError) as error:
        message = (
            f"Review database: it cannot be opened ({type(error).__name__}), expected a writable "
            "file or a running server. Give another place with --reviews "
            "(sqlite:///FILE or postgresql://...)."
        )
        raise ConfigError(message) from error
    return ReviewLog(engine)


def _options(url: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": _BUSY_S}} if url.startswith("sqlite") else {}


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """A line is on the disk when its transaction ends, also after a power cut."""
    connection.execute("PRAGMA synchronous = FULL")


def _not_written(error: SQLAlchemyError) -> str:
    return (
        f"The review was not stored ({type(error).__name__}); what is on the page is not saved. "
        "Make sure that the review database can be written, and save again."
    )


def _of(case: CaseRef) -> list[sa.ColumnElement[bool]]:
    return [
        _REVIEWS.c.run == case.run,
        _REVIEWS.c.case_id == case.case_id,
        _REVIEWS.c.model_sha256 == case.model_sha256,
    ]


def _entry(row: Mapping[Any, Any]) -> Entry:
    case = CaseRef(row["run"], row["case_id"], row["model_sha256"])
    review = Review.from_json(json.loads(row["record"]))
    return Entry(int(row["id"]), case, review, bool(row["is_blind"]))


def _last_of_each(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    last = {(entry.case, entry.review.reviewer): entry for entry in entries}
    return tuple(sorted(last.values(), key=lambda entry: entry.number))
