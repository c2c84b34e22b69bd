"""A signature reaches the DICOM report at last, whatever kept it from there at first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pydicom
import pytest
from streamlit.testing.v1 import AppTest

from app.services.case_index import CaseIndex
from app.services.report_writing import Reported, report_all, report_case
from app.services.review_log import CaseRef, Entry, ReviewLog, open_review_log
from app.settings import Settings
from medmtl.core.review import FindingVerdict, Review
from medmtl.inference.write_review import is_reported, report_versions
from tests.app.test_case_page import _page
from tests.dicom_results import write_result

if TYPE_CHECKING:
    from pathlib import Path

WHEN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A finished case with a report, in a result folder."""
    folder = write_result(tmp_path, "axial", formats=("nifti", "sr"))
    (folder.parent / ".medmtl").mkdir()
    return folder


@pytest.fixture
def log(tmp_path: Path) -> ReviewLog:
    return open_review_log(f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}")


def _ref(case: Path) -> CaseRef:
    (row,) = CaseIndex(case.parent).snapshot().rows.values()
    return CaseRef(row.run, row.case_id, row.model_sha256, row.identity, row.answer)


def _sign(log: ReviewLog, case: Path, reviewer: str = "one", *, is_signed: bool = True) -> None:
    record = json.loads((case / "case.json").read_bytes())
    verdict = FindingVerdict(record["findings"][0]["name"], "disagree")
    review = Review(case.name, reviewer, WHEN, findings=(verdict,), is_signed=is_signed)
    log.append(review, _ref(case))


def _report(log: ReviewLog, case: Path) -> Reported:
    return report_case(case, log.of_case(_ref(case)))


def _signatures(case: Path) -> list[str]:
    (place,) = (one for one in case.iterdir() if one.is_dir() and one.name != ".review.lock")
    report = pydicom.dcmread(report_versions(place)[-1])
    found = report.get("VerifyingObserverSequence", ())
    return sorted(str(one.VerifyingObserverName).rstrip("^") for one in found)


def test_a_signature_is_written_once(log: ReviewLog, case: Path) -> None:
    _sign(log, case)
    assert _report(log, case) == Reported(written=1)
    assert _report(log, case) == Reported()
    assert _signatures(case) == ["one"]


def test_what_was_not_written_is_written_when_it_can_be(log: ReviewLog, case: Path) -> None:
    _sign(log, case)
    (case / ".review.lock").mkdir()  # keeps every writer out, also root
    assert _report(log, case).problem
    assert _signatures(case) == []
    _sign(log, case, "two")
    (case / ".review.lock").rmdir()
    assert report_all(log, CaseIndex(case.parent).snapshot()) == 0
    assert _signatures(case) == ["one", "two"]


def test_drafts_enter_no_report(log: ReviewLog, case: Path) -> None:
    _sign(log, case, is_signed=False)
    assert _report(log, case) == Reported()
    assert report_all(log, CaseIndex(case.parent).snapshot()) == 0
    assert _signatures(case) == []


def test_a_signature_enters_no_report_of_a_result_that_was_computed_again(
    log: ReviewLog, case: Path
) -> None:
    _sign(log, case)
    record = json.loads((case / "case.json").read_bytes())
    record["findings"][0]["decision"] = not record["findings"][0]["decision"]
    (case / "case.json").write_text(json.dumps(record), encoding="utf-8")
    assert report_all(log, CaseIndex(case.parent).snapshot()) == 0
    assert _report(log, case) == Reported()
    assert _signatures(case) == []


def test_the_last_signature_taken_back_leaves_the_report_unverified(
    log: ReviewLog, case: Path
) -> None:
    _sign(log, case)
    _report(log, case)
    _sign(log, case, is_signed=False)
    assert report_all(log, CaseIndex(case.parent).snapshot()) == 0
    assert _signatures(case) == []
    (first,) = case.glob("*/findings.sr.dcm")
    reports = [pydicom.dcmread(path) for path in report_versions(first.parent)]
    assert [one.VerificationFlag for one in reports] == ["UNVERIFIED", "VERIFIED", "UNVERIFIED"]
    assert reports[2].ContentSequence == reports[0].ContentSequence
    assert _report(log, case) == Reported()
    _sign(log, case)
    assert _report(log, case) == Reported(written=1)
    assert _signatures(case) == ["one"]


def test_a_damaged_report_stops_no_other(log: ReviewLog, case: Path) -> None:
    _sign(log, case)
    (report,) = case.glob("*/findings.sr.dcm")
    report.write_bytes(b"damaged")
    assert "damaged" in _report(log, case).problem
    assert report_all(log, CaseIndex(case.parent).snapshot()) == 1


def test_a_case_without_a_report_lacks_nothing(log: ReviewLog, case: Path) -> None:
    (report,) = case.glob("*/findings.sr.dcm")
    report.unlink()
    entry: tuple[Entry, ...] = ()
    _sign(log, case)
    assert report_case(case, entry) == Reported()
    assert is_reported(case, [one.review for one in log.of_case(_ref(case))])


def test_an_opened_case_says_what_its_report_lacks_and_tries_again(
    case: Path, monkeypatch: pytest.MonkeyPatch, log: ReviewLog
) -> None:
    url = str(log.engine.url)
    settings = Settings(folder=case.parent, results=case.parent / "none", reviews=url)
    monkeypatch.setenv("MEDMTL_VIEW", settings.as_json())
    _sign(log, case)
    (case / ".review.lock").mkdir()
    app = AppTest.from_function(_page, default_timeout=60)
    app.query_params["case"] = case.name
    app.run()
    assert any("does not say so yet" in one.value for one in app.warning)
    (case / ".review.lock").rmdir()
    app.button(key="report_again").click().run()
    assert not app.exception
    assert not any("does not say so yet" in one.value for one in app.warning)
    assert _signatures(case) == ["one"]
