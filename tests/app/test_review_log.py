"""The review log: only grows, loses nothing, and lets two reviewers write at once.

Every test runs on SQLite and on a real PostgreSQL server.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from app.services.review_log import CaseRef, ReviewLog, open_review_log
from medmtl.core.errors import ConfigError, MedmtlError, OutputError
from medmtl.core.review import FindingVerdict, Review
from tests.app.postgres import PROGRAMS, postgres_cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app.services.review_log import Entry
    from tests.app.postgres import Cluster

CASE = CaseRef("results", "a", "0" * 64)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if PROGRAMS is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with postgres_cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.new_database()


@pytest.fixture
def log(url: str) -> Iterator[ReviewLog]:
    log = open_review_log(url)
    yield log
    log.engine.dispose()


def _review(reviewer: str = "one", *, is_signed: bool = False, comment: str = "") -> Review:
    verdict = FindingVerdict("nodule", "disagree", "too small")
    return Review("a", reviewer, NOW, findings=(verdict,), comment=comment, is_signed=is_signed)


def test_what_was_said_last_counts_and_what_was_said_before_stays(log: ReviewLog) -> None:
    log.append(_review(comment="first"), CASE)
    log.append(_review(comment="second"), CASE, is_blind=True)
    last = log.latest(CASE, "one")
    assert last is not None
    assert last.review == _review(comment="second")
    assert last.is_blind
    assert [entry.review.comment for entry in log.history(CASE)] == ["first", "second"]


def test_a_log_that_is_opened_again_has_everything(url: str, log: ReviewLog) -> None:
    log.append(_review(), CASE)
    second = open_review_log(url)
    again = second.latest(CASE, "one")
    second.engine.dispose()
    assert again is not None
    assert again.review == _review()


def test_reviewers_cases_and_models_do_not_mix(log: ReviewLog) -> None:
    others = (CASE, replace(CASE, case_id="b"), replace(CASE, run=""),
              replace(CASE, model_sha256="f" * 64))  # fmt: skip
    for number, case in enumerate(others):
        log.append(_review(comment=str(number)), case)
    log.append(_review("two", is_signed=True), CASE)
    assert [e.review.comment for case in others for e in log.of_case(case)] == [
        "0", "", "1", "2", "3",
    ]  # fmt: skip
    assert log.states() == {
        ("results/a", "0" * 64, ""): "signed",
        ("results/b", "0" * 64, ""): "started",
        ("a", "0" * 64, ""): "started",
        ("results/a", "f" * 64, ""): "started",
    }


def test_a_signature_that_is_taken_back_is_no_signature(log: ReviewLog) -> None:
    log.append(_review(is_signed=True), CASE)
    log.append(_review(), CASE)
    assert set(log.states().values()) == {"started"}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE reviews SET reviewer = 'x'", "DELETE FROM reviews", "TRUNCATE reviews"],
)
def test_the_database_itself_refuses_to_change_a_line(log: ReviewLog, statement: str) -> None:
    if statement.startswith("TRUNCATE") and log.engine.dialect.name == "sqlite":
        statement = "DELETE FROM reviews WHERE 1"  # SQLite's own form of it
    log.append(_review(), CASE)
    with pytest.raises(sa.exc.DBAPIError, match="only grow"), log.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert len(log.history(CASE)) == 1


def test_two_tabs_that_answer_at_once_lose_neither_answer(url: str, log: ReviewLog) -> None:
    """Each adds its word to what the log holds then: 40 words in all."""

    def answer(tab: str) -> None:
        own = open_review_log(url)
        for number in range(20):

            def add(last: Entry | None, word: str = f"{tab}{number}") -> tuple[Review, bool]:
                said = last.review.comment if last else ""
                return _review(comment=f"{said} {word}"), False

            own.revise(CASE, "one", add)
        own.engine.dispose()

    tabs = [threading.Thread(target=answer, args=(tab,)) for tab in "ab"]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    last = log.latest(CASE, "one")
    assert last is not None
    assert set(last.review.comment.split()) == {f"{tab}{n}" for tab in "ab" for n in range(20)}


def test_nothing_is_stored_where_nothing_changed(log: ReviewLog) -> None:
    log.revise(CASE, "one", lambda _last: None)
    assert log.last_number() == 0


def test_an_error_of_the_database_repeats_nothing_that_was_said(log: ReviewLog) -> None:
    with log.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE reviews"))
    with pytest.raises(OutputError) as failed:
        log.append(_review(comment="about PATIENT"), CASE)
    assert "PATIENT" not in str(failed.value.__cause__)


def test_two_processes_lose_nothing(url: str, log: ReviewLog) -> None:
    script = (
        "import sys; from datetime import UTC, datetime; "
        "from app.services.review_log import CaseRef, open_review_log; "
        "from medmtl.core.review import Review; "
        "log = open_review_log(sys.argv[1]); case = CaseRef('', 'a', '0' * 64); "
        "[log.append(Review('a', sys.argv[2], datetime.now(UTC), comment=str(n)), case) "
        "for n in range(40)]"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, url, name]) for name in ("one", "two")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    history = log.history(CaseRef("", "a", "0" * 64))
    for name in ("one", "two"):
        said = [entry.review.comment for entry in history if entry.review.reviewer == name]
        assert said == [str(number) for number in range(40)]


def test_a_killed_writer_leaves_whole_lines(url: str, log: ReviewLog) -> None:
    script = (
        "import sys, itertools; from datetime import UTC, datetime; "
        "from app.services.review_log import CaseRef, open_review_log; "
        "from medmtl.core.review import Review; "
        "log = open_review_log(sys.argv[1]); case = CaseRef('', 'a', '0' * 64)\n"
        "for n in itertools.count():\n"
        "    log.append(Review('a', 'one', datetime.now(UTC), comment=str(n)), case)\n"
        "    print(n, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        told = [int(next(writer.stdout)) for _ in range(10)]
        writer.kill()
    history = log.history(CaseRef("", "a", "0" * 64))
    kept = [int(entry.review.comment) for entry in history]
    assert kept[: len(told)] == told
    assert kept == list(range(len(kept)))
    log.append(_review(), CASE)  # the dead one holds nothing up


def test_a_server_that_crashes_keeps_what_it_has_confirmed(cluster: Cluster) -> None:
    log = open_review_log(cluster.new_database())
    for number in range(5):
        log.append(_review(comment=str(number)), CASE)
    cluster.stop("immediate")
    with pytest.raises(MedmtlError, match="cannot be read"):
        log.last_number()
    with pytest.raises(OutputError, match="not stored"):
        log.append(_review(), CASE)
    cluster.start()
    assert [entry.review.comment for entry in log.history(CASE)] == ["0", "1", "2", "3", "4"]
    log.append(_review(comment="after"), CASE)
    log.engine.dispose()


def test_viewers_that_start_at_once_share_one_new_database(url: str) -> None:
    script = (
        "import sys; from app.services.review_log import open_review_log; "
        "open_review_log(sys.argv[1])"
    )
    viewers = [subprocess.Popen([sys.executable, "-c", script, url]) for _ in range(3)]
    assert [viewer.wait(timeout=120) for viewer in viewers] == [0, 0, 0]


def test_equal_names_of_two_viewers_are_two_cases_where_their_images_differ(
    log: ReviewLog,
) -> None:
    here, there = (CaseRef("", "brain", "0" * 64, identity * 64) for identity in "ab")
    log.append(_review(is_signed=True), here)
    assert log.latest(there, "one") is None
    assert log.history(there) == ()
    log.append(_review(), there)
    assert log.states() == {
        ("a" * 64, "0" * 64, ""): "signed",
        ("b" * 64, "0" * 64, ""): "started",
    }
    assert len(log.last_lines()) == 2


def test_the_same_image_is_one_case_in_every_result_folder(log: ReviewLog) -> None:
    first, moved = (CaseRef(run, "heart", "0" * 64, "a" * 64) for run in ("old", "archive/new"))
    log.append(_review(is_signed=True), first)
    found = log.latest(moved, "one")
    assert found is not None
    assert found.review.is_signed
    log.append(_review(), moved)
    assert log.states() == {("a" * 64, "0" * 64, ""): "started"}
    assert [entry.case.run for entry in log.last_lines()] == ["archive/new"]


def test_another_answer_of_the_same_model_starts_anew(log: ReviewLog) -> None:
    first, second = (replace(CASE, identity="a" * 64, answer=name * 16) for name in "pq")
    log.append(_review(is_signed=True), first)
    assert log.latest(second, "one") is None
    assert log.of_case(second) == ()
    assert [entry.review.is_signed for entry in log.earlier(second)] == [True]
    assert len(log.history(second)) == 1
    log.append(_review(), second)
    assert log.states() == {
        ("a" * 64, "0" * 64, "p" * 16): "signed",
        ("a" * 64, "0" * 64, "q" * 16): "started",
    }


def test_a_line_without_an_answer_is_about_any_until_its_reviewer_says_more(
    log: ReviewLog,
) -> None:
    old = replace(CASE, identity="a" * 64)
    first, second = (replace(old, answer=name * 16) for name in "pq")
    log.append(_review(is_signed=True), old)
    for case in (first, second):
        assert [entry.review.is_signed for entry in log.of_case(case)] == [True]
    log.append(_review(), first)
    assert [entry.review.is_signed for entry in log.of_case(first)] == [False]
    assert log.of_case(second) == ()
    assert len(log.last_lines()) == 1
    log.append(_review(is_signed=True), old)  # another viewer, of an earlier version
    assert [entry.review.is_signed for entry in log.of_case(first)] == [True]


def _as_before(url: str) -> None:
    """A database as version 0.1.0 first made it, with one signed line."""
    path = url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as old:
        old.executescript(
            "CREATE TABLE reviews (id INTEGER PRIMARY KEY AUTOINCREMENT, run VARCHAR(500) NOT NULL,"
            " case_id VARCHAR(255) NOT NULL, model_sha256 VARCHAR(64) NOT NULL, reviewer "
            "VARCHAR(255) NOT NULL, reviewed_at VARCHAR(40) NOT NULL, is_signed BOOLEAN NOT NULL, "
            "is_blind BOOLEAN NOT NULL, record TEXT NOT NULL);"
            "CREATE TRIGGER reviews_no_update BEFORE UPDATE ON reviews "
            "BEGIN SELECT RAISE(ABORT, 'reviews only grow'); END;"
        )
        record = json.dumps(_review(is_signed=True).as_json())
        values = ("results", "a", "0" * 64, "one", NOW.isoformat(), 1, 0, record)
        old.execute(
            "INSERT INTO reviews (run, case_id, model_sha256, reviewer, reviewed_at, is_signed, "
            "is_blind, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            values,
        )
    old.close()


def test_a_database_of_before_opens_with_all_its_lines(tmp_path: Path) -> None:
    url = f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}"
    _as_before(url)
    log, case = open_review_log(url), replace(CASE, identity="a" * 64)
    found = log.latest(case, "one")
    assert found is not None
    assert found.review == _review(is_signed=True)
    assert log.states() == {("results/a", "0" * 64, ""): "signed"}
    log.append(_review(), case)  # the new line takes the place of the old one
    assert log.states() == {("a" * 64, "0" * 64, ""): "started"}
    assert len(log.last_lines()) == 1
    assert [entry.review.is_signed for entry in log.history(case)] == [True, False]
    again = open_review_log(url)
    assert len(again.history(case)) == 2
    for one in (log, again):
        one.engine.dispose()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite:////nowhere/at/all.sqlite", "mongo://x", "postgresql://x@127.0.0.1:1/x"],
)
def test_an_address_that_leads_nowhere_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="--reviews"):
        open_review_log(url)
