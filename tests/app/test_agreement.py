"""Agreement of readers and model: kappa, sensitivity and Dice known on paper."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from app.services.agreement import finding_agreement, mask_agreement, reader_pairs
from app.services.case_row import CaseRow, row_of_case
from app.services.corrections import KeptCorrection
from app.services.exports import reviews_csv, reviews_jsonl
from app.services.review_log import CaseRef, Entry
from medmtl.core.review import FindingAnswer, FindingVerdict, MaskVerdict, Review
from tests.app.results import SHA256, case_record, finding

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def _cases(*probabilities: float) -> dict[str, CaseRow]:
    return {
        f"c{number}": row_of_case(case_record(f"c{number}", finding("nodule", p)), run="")
        for number, p in enumerate(probabilities)
    }


def _entry(case_id: str, answer: FindingAnswer, reviewer: str = "one", sha: str = SHA256) -> Entry:
    verdict = FindingVerdict("nodule", answer, "=HYPERLINK(1)")
    review = Review(case_id, reviewer, NOW, findings=(verdict,), is_signed=True)
    return Entry(1, CaseRef("", case_id, sha), review, is_blind=False)


def _answers(answers: Mapping[str, FindingAnswer], reviewer: str = "one") -> list[Entry]:
    return [_entry(case_id, answer, reviewer) for case_id, answer in answers.items()]


def test_the_four_fields_and_their_scores() -> None:
    # 20 both present, 5 model only, 10 reader only, 15 neither: the textbook example of kappa 0.4.
    cases = _cases(*[0.9] * 25, *[0.1] * 25)
    answers: dict[str, FindingAnswer] = {
        f"c{n}": "agree" if n < 20 or n >= 35 else "disagree" for n in range(50)
    }
    (found,) = finding_agreement(_answers(answers), cases)
    fields = (found.both_present, found.model_only, found.reader_only, found.both_absent)
    assert fields == (20, 5, 10, 15)
    assert found.kappa == pytest.approx(0.4)
    assert found.sensitivity == pytest.approx(20 / 30)
    assert found.specificity == pytest.approx(15 / 20)


def test_unsure_is_counted_and_scored_nowhere() -> None:
    (found,) = finding_agreement(_answers({"c0": "unsure"}), _cases(0.9))
    assert (found.unsure, found.cases, found.kappa, found.sensitivity) == (1, 0, None, None)


def test_answers_about_another_model_or_a_lost_case_do_not_count() -> None:
    entries = [_entry("c0", "agree", sha="f" * 64), _entry("gone", "agree")]
    assert finding_agreement(entries, _cases(0.9)) == ()


def test_two_readers_are_compared_on_what_both_answered() -> None:
    cases = _cases(0.9, 0.9, 0.1, 0.1)
    one = _answers({"c0": "agree", "c1": "agree", "c2": "agree", "c3": "unsure"}, "one")
    two = _answers({"c0": "agree", "c1": "disagree", "c2": "agree", "c3": "agree"}, "two")
    (pair,) = reader_pairs([*one, *two], cases)
    assert pair.answers == 3
    assert pair.agreement == pytest.approx(2 / 3)
    # Marginals 2/3 and 1/3 present: expected agreement 2/9 + 2/9, kappa (2/3 - 4/9) / (5/9).
    assert pair.kappa == pytest.approx(0.4)


def test_masks_are_counted_by_segment() -> None:
    verdicts = (MaskVerdict("ct", "accepted"), MaskVerdict("ct", "needs_correction", "lung"))
    review = Review("c0", "one", NOW, masks=verdicts, is_signed=True)
    entry = Entry(1, CaseRef("", "c0", SHA256), review, is_blind=False)
    kept = KeptCorrection("ct", "one", "", "seg", SHA256, "f", 1, {"lung": 0.8, "liver": 1.0})
    segments = {SHA256: ("lung", "liver")}
    found = mask_agreement([entry], _cases(0.9), [kept], segments)
    rows = {row.segment: row for row in found}
    assert (rows["lung"].accepted, rows["lung"].wanting, rows["lung"].dice) == (0, 1, 0.8)
    assert (rows["liver"].accepted, rows["liver"].corrected, rows["liver"].dice) == (1, 0, None)


def test_masks_of_an_earlier_answer_are_not_counted() -> None:
    review = Review("c0", "one", NOW, masks=(MaskVerdict("ct", "accepted", "lung"),))
    entry = Entry(1, CaseRef("", "c0", SHA256, answer="before"), review, is_blind=False)
    assert mask_agreement([entry], _cases(0.9), [], {SHA256: ("lung",)}) == ()


def test_the_table_has_a_row_per_answer_and_runs_no_formula() -> None:
    table = reviews_csv(_answers({"c0": "disagree", "c1": "unsure"}), _cases(0.9, 0.1))
    rows = list(csv.DictReader(io.StringIO(table.decode())))
    assert [(row["model_present"], row["reader_present"]) for row in rows] == [
        ("1", "0"),
        ("0", ""),
    ]
    assert rows[0]["comment"] == "'=HYPERLINK(1)"


def test_json_lines_are_the_reviews() -> None:
    entries = _answers({"c0": "agree", "c1": "unsure"})
    lines = reviews_jsonl(entries).decode().splitlines()
    assert [Review.from_json(json.loads(line)) for line in lines] == [e.review for e in entries]
