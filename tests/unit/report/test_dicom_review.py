"""A reviewer's verdict in the report: coded, attributed, dated; a new version beside the old."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.core.review import FindingVerdict, MaskVerdict, Review
from medmtl.inference.write_review import report_versions, write_reviewed_reports
from medmtl.pacs.push import result_files
from medmtl.report.dicom_segments import tracking_id
from tests.dicom_results import write_result

WHEN = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A finished case with a segmentation and a report."""
    return write_result(tmp_path, "axial", formats=("nifti", "seg", "sr", "rtstruct"))


def _volume(case: Path) -> str:
    (report,) = case.glob("*/findings.sr.dcm")
    return report.parent.name


def _review(case: Path, **changes: object) -> Review:
    volume = _volume(case)
    review = Review(
        case.name, "Läufer=1\\a", WHEN,
        findings=(FindingVerdict("cardiomegaly", "disagree", "deep inspiration"),),
        masks=(MaskVerdict(volume, "accepted"), MaskVerdict(volume, "corrected", "spleen", "tip")),
        comment="moved", is_signed=True,
    )  # fmt: skip
    return replace(review, **changes)  # type: ignore[arg-type] # a test hands each through


def _text(item: Dataset) -> str:
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.LongCodeValue)


def _verdicts(report: Dataset) -> dict[str, list[tuple[str, str, str, str]]]:
    """Answer, reviewer, time and comment by the tracking identifier of each measurement group."""
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    (measurements,) = [
        item for item in report.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]  # fmt: skip
    for group in measurements.ContentSequence:
        name = next(i.TextValue for i in group.ContentSequence if i.ValueType == "TEXT")
        for item in group.ContentSequence:
            if item.ConceptNameCodeSequence[0].get("CodeValue") != "reviewer-verdict":
                continue
            kinds = {child.ValueType: child for child in item.ContentSequence}
            assert _text(kinds["CODE"]) == "121006"  # a person
            comment = str(kinds["TEXT"].TextValue) if "TEXT" in kinds else ""
            who = str(kinds["PNAME"].PersonName)
            found.setdefault(name.split(":")[-1], []).append(
                (_text(item), who, str(item.ObservationDateTime), comment)
            )
    return found


def test_each_verdict_stands_where_it_belongs(case: Path) -> None:
    (path,) = write_reviewed_reports(case, [_review(case)])
    who, when = "Läufer 1 a^", "20260301123005+0000"
    assert _verdicts(pydicom.dcmread(path)) == {
        "liver": [("accepted", who, when, "")],
        "spleen": [("corrected", who, when, "tip")],
        "lesion": [("accepted", who, when, "")],
        "cardiomegaly": [("disagree", who, when, "deep inspiration")],
    }


def test_the_model_report_stays_and_is_named_as_predecessor(case: Path) -> None:
    first = case / _volume(case) / "findings.sr.dcm"
    before = first.read_bytes()
    (second,) = write_reviewed_reports(case, [_review(case)])
    later = _review(case, reviewed_at=WHEN + timedelta(hours=1), findings=())
    (third,) = write_reviewed_reports(case, [later])
    assert first.read_bytes() == before
    assert [p.name for p in report_versions(first.parent)] == [
        "findings.sr.dcm", "findings.v2.sr.dcm", "findings.v3.sr.dcm",
    ]  # fmt: skip
    reports = [pydicom.dcmread(path) for path in (first, second, third)]
    assert len({report.SOPInstanceUID for report in reports}) == 3
    assert len({report.SeriesInstanceUID for report in reports}) == 1
    assert [report.InstanceNumber for report in reports] == [1, 2, 3]
    (study,) = reports[2].PredecessorDocumentsSequence
    named = [
        r.ReferencedSOPInstanceUID for r in study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    ]
    assert named == [report.SOPInstanceUID for report in reports[:2]]
    assert "cardiomegaly" not in _verdicts(reports[2])  # replaced, not added
    assert "PredecessorDocumentsSequence" not in reports[0]


def test_every_version_is_pushed_after_what_it_cites(case: Path) -> None:
    write_reviewed_reports(case, [_review(case)])
    write_reviewed_reports(case, [_review(case, comment="")])
    assert [path.name for path in result_files(case)] == [
        "segmentation.seg.dcm", "segmentation.rtstruct.dcm", "findings.sr.dcm",
        "findings.v2.sr.dcm", "findings.v3.sr.dcm",
    ]  # fmt: skip


def test_signed_means_verified_by_the_reviewer(case: Path) -> None:
    (path,) = write_reviewed_reports(case, [_review(case)])
    report = pydicom.dcmread(path)
    (signature,) = report.VerifyingObserverSequence
    assert report.VerificationFlag == "VERIFIED"
    assert str(signature.VerifyingObserverName) == "Läufer 1 a^"
    assert signature.VerificationDateTime == "20260301123005+0000"
    assert (report.ContentDate, report.ContentTime) == ("20260301", "123005")


def test_two_reviewers_stand_side_by_side(case: Path) -> None:
    one = _review(case, reviewer="reader-1")
    two = _review(
        case, reviewer="reader-2", masks=(), reviewed_at=WHEN + timedelta(minutes=1),
        findings=(FindingVerdict("cardiomegaly", "agree"),),
    )  # fmt: skip
    (path,) = write_reviewed_reports(case, [two, one])
    report = pydicom.dcmread(path)
    said = [(answer, who) for answer, who, _, _ in _verdicts(report)["cardiomegaly"]]
    assert said == [("disagree", "reader-1^"), ("agree", "reader-2^")]
    assert len(report.VerifyingObserverSequence) == 2


def test_signing_the_same_again_writes_nothing(case: Path) -> None:
    paths = [write_reviewed_reports(case, [_review(case)]) for _ in range(2)]
    assert paths[0] == paths[1]
    assert len(report_versions(case / _volume(case))) == 2


def test_reviewers_who_sign_at_once_get_a_version_each(case: Path) -> None:
    reviews = [_review(case, reviewer=f"reader-{n}") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda review: write_reviewed_reports(case, [review]), reviews))
    assert {path.name for (path,) in paths} == {f"findings.v{n}.sr.dcm" for n in (2, 3, 4, 5)}
    uids = {pydicom.dcmread(path).SOPInstanceUID for (path,) in paths}
    assert len(uids) == 4


def test_an_unsigned_review_or_one_of_another_case_is_refused(case: Path) -> None:
    with pytest.raises(ValueError, match="signed"):
        write_reviewed_reports(case, [_review(case, is_signed=False)])
    with pytest.raises(ValueError, match="another case"):
        write_reviewed_reports(case, [_review(case, case_id="other")])
    with pytest.raises(ValueError, match="another model's answer"):
        write_reviewed_reports(case, [_review(case, model_sha256="0" * 64)])
    assert len(report_versions(case / _volume(case))) == 1


def test_a_case_without_a_report_gets_none(case: Path) -> None:
    volume = _volume(case)
    (case / volume / "findings.sr.dcm").unlink()
    review = Review(case.name, "r", WHEN, is_signed=True)
    assert write_reviewed_reports(case, [review]) == ()
    assert report_versions(case / volume) == ()


def test_long_names_stay_apart() -> None:
    names = [f"upper_lobe_of_the_left_lung_apical_segment_{n}" for n in (1, 2)]
    ids = [tracking_id("c" * 30, "volume-of-a-phase", name) for name in names]
    assert len(set(ids)) == 2
    assert max(map(len, ids)) <= 64


def test_dciodvfy_and_dcmtk_find_no_error(case: Path) -> None:
    (path,) = write_reviewed_reports(case, [_review(case)])
    for command in (["dciodvfy", "-new"], ["dsrdump", "-Ee"]):
        tool = shutil.which(command[0])
        if tool is None:
            pytest.skip(f"{command[0]} is not installed (Debian packages dicom3tools, dcmtk)")
        done = subprocess.run(
            [tool, *command[1:], str(path)], capture_output=True, text=True, errors="replace",
            timeout=60, check=False,
        )  # fmt: skip
        lines = (done.stdout + done.stderr).splitlines()
        assert [line for line in lines if line.startswith(("Error", "E:", "F:"))] == []
        assert lines
