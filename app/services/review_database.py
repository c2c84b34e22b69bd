"""The database of the reviews: its table, the guards that let it only grow, one writer at a time.

SQLite in a file, or PostgreSQL by its address. A database of an earlier version gets the columns
that it lacks; no line of it is changed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from medmtl.core.errors import ConfigError, MedmtlError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["REVIEWS", "open_database", "reading", "writing"]

_BUSY_S = 30  # how long a writer waits for another
_CONNECT_S = 10
_ONE_WRITER = 0x6D65646D746C  # "medmtl": the number of our lock in a PostgreSQL database

_METADATA = sa.MetaData()
REVIEWS = sa.Table(
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
    sa.Column("identity", sa.String(64), nullable=False, server_default=""),
    sa.Column("answer", sa.String(16), nullable=False, server_default=""),
    sa.Index("reviews_of_a_case", "run", "case_id", "reviewer"),
    sqlite_autoincrement=True,
)
_OF_AN_IDENTITY = sa.Index("reviews_of_an_identity", REVIEWS.c.identity, REVIEWS.c.reviewer)

_GUARDS: Mapping[str, tuple[str, ...]] = {
    "sqlite": tuple(
        f"CREATE TRIGGER IF NOT EXISTS reviews_no_{verb.lower()} BEFORE {verb} ON reviews "
        "BEGIN SELECT RAISE(ABORT, 'reviews only grow'); END"
        for verb in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION reviews_only_grow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'reviews only grow'; END $$",
        "CREATE TRIGGER reviews_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON reviews "
        "FOR EACH STATEMENT EXECUTE FUNCTION reviews_only_grow()",
    ),
}
"""The database itself refuses to change a line."""
_HAS_GUARD = sa.text(
    "SELECT 1 FROM pg_trigger WHERE tgname = 'reviews_only_grow' "
    "AND tgrelid = to_regclass('reviews')"
)


def open_database(address: str) -> sa.Engine:
    """Connect, and make or complete the table if need be.

    Raises:
        ConfigError: If the address cannot be read, or the database not be opened or written.
    """
    try:
        url = sa.make_url(address)
        if url.drivername in {"postgresql", "postgres"}:  # SQLAlchemy 2.0 would take psycopg2
            url = url.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            url, pool_pre_ping=True, connect_args=_options(url),
            hide_parameters=True,  # comments and names of reviewers belong into no log
        )  # fmt: skip
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _set_up_sqlite)
        with _sole_writer(engine) as connection:
            _set_up(connection)
    except (SQLAlchemyError, ImportError) as error:
        message = (
            f"Review database: it cannot be opened ({type(error).__name__}), expected a writable "
            "file or a running server. Give another place with --reviews (sqlite:///FILE or "
            "postgresql://...); PostgreSQL needs its driver: pip install 'medmtl[postgres]'."
        )
        raise ConfigError(message) from error
    return engine


def _options(url: sa.URL) -> dict[str, Any]:
    match url.get_backend_name():
        case "sqlite":
            return {"timeout": _BUSY_S}
        case "postgresql":
            return {"connect_timeout": _CONNECT_S}
    return {}


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """A line is on the disk when its transaction ends, also after a power cut."""
    connection.execute("PRAGMA synchronous = FULL")


def _set_up(connection: sa.Connection) -> None:
    """Only what is missing: a viewer that may not alter tables opens a finished database too."""
    _METADATA.create_all(connection)
    known = {column["name"] for column in sa.inspect(connection).get_columns("reviews")}
    for name, size in (("identity", 64), ("answer", 16)):
        if name not in known:
            kind = f"VARCHAR({size}) DEFAULT '' NOT NULL"
            connection.exec_driver_sql(f"ALTER TABLE reviews ADD COLUMN {name} {kind}")
    if "identity" not in known:
        _OF_AN_IDENTITY.create(connection)
    dialect = connection.dialect.name
    if dialect == "postgresql" and connection.execute(_HAS_GUARD).first():
        return
    for guard in _GUARDS.get(dialect, ()):
        connection.exec_driver_sql(guard)


@contextmanager
def _sole_writer(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction; lines get their numbers in the order in which others see them."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # two that look first and then write would collide
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        elif engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_WRITER)))
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction in which what is read does not change until it ends.

    Raises:
        OutputError: If the database does not take it; nothing of it is then stored.
    """
    try:
        with _sole_writer(engine) as connection:
            yield connection
    except SQLAlchemyError as error:
        message = (
            f"The review was not stored ({type(error).__name__}); what is on the page is not "
            "saved. Make sure that the review database can be written, and save again."
        )
        raise OutputError(message) from error


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection to read from.

    Raises:
        MedmtlError: If the database does not answer.
    """
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        message = (
            f"The reviews cannot be read ({type(error).__name__}). Make sure that the review "
            "database runs and can be reached, and reload the page."
        )
        raise MedmtlError(message) from error
