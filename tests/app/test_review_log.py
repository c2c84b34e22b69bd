"""The review log: only grows, loses nothing, and lets two reviewers write at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from app.services.review_log import CaseRef, ReviewLog, open_review_log
from medmtl.core.errors import ConfigError
from medmtl.core.review import FindingVerdict, Review

if TYPE_CHECKING:
    from pathlib import Path

CASE = CaseRef("results", "a", "0" * 64)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def _url(folder: Path) -> str:
    return f"sqlite:///{(folder / 'reviews.sqlite').as_posix()}"


@pytest.fixture
def log(tmp_path: Path) -> ReviewLog:
    return open_review_log(_url(tmp_path))


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


def test_a_log_that_is_opened_again_has_everything(tmp_path: Path) -> None:
    open_review_log(_url(tmp_path)).append(_review(), CASE)
    again = open_review_log(_url(tmp_path)).latest(CASE, "one")
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
        ("results/a", "0" * 64): "signed",
        ("results/b", "0" * 64): "started",
        ("a", "0" * 64): "started",
        ("results/a", "f" * 64): "started",
    }


def test_a_signature_that_is_taken_back_is_no_signature(log: ReviewLog) -> None:
    log.append(_review(is_signed=True), CASE)
    log.append(_review(), CASE)
    assert set(log.states().values()) == {"started"}


@pytest.mark.parametrize("statement", ["UPDATE reviews SET reviewer = 'x'", "DELETE FROM reviews"])
def test_the_database_itself_refuses_to_change_a_line(log: ReviewLog, statement: str) -> None:
    log.append(_review(), CASE)
    with pytest.raises(sa.exc.IntegrityError, match="only grow"), log.engine.begin() as connection:
        connection.execute(sa.text(statement))
    assert len(log.history(CASE)) == 1


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys; from datetime import UTC, datetime; "
        "from app.services.review_log import CaseRef, open_review_log; "
        "from medmtl.core.review import Review; "
        "log = open_review_log(sys.argv[1]); case = CaseRef('', 'a', '0' * 64); "
        "[log.append(Review('a', sys.argv[2], datetime.now(UTC), comment=str(n)), case) "
        "for n in range(40)]"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, _url(tmp_path), name])
        for name in ("one", "two")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    history = open_review_log(_url(tmp_path)).history(CaseRef("", "a", "0" * 64))
    for name in ("one", "two"):
        said = [entry.review.comment for entry in history if entry.review.reviewer == name]
        assert said == [str(number) for number in range(40)]


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
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
        [sys.executable, "-c", script, _url(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        told = [int(next(writer.stdout)) for _ in range(10)]
        writer.kill()
    history = open_review_log(_url(tmp_path)).history(CaseRef("", "a", "0" * 64))
    kept = [int(entry.review.comment) for entry in history]
    assert kept[: len(told)] == told
    assert kept == list(range(len(kept)))


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.sqlite", "mongo://x"])
def test_an_address_that_leads_nowhere_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="--reviews"):
        open_review_log(url)
