"""A signed review of one case into its structured reports: a new version beside the old ones."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import pydicom

from medmtl.core.errors import OutputError
from medmtl.data.result_case import read_result_case
from medmtl.inference.case_store import output_errors
from medmtl.inference.lock import FileLock
from medmtl.report.dicom_source import save_dicom

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from medmtl.core.review import Review

__all__ = ["is_reported", "report_versions", "write_reviewed_reports"]

_FIRST = "findings.sr.dcm"
_LATER = re.compile(r"findings\.v(\d+)\.sr\.dcm\Z")
_WAIT_S = 30.0
_POLL_S = 0.05


def report_versions(volume_folder: Path) -> tuple[Path, ...]:
    """The reports of one volume, oldest first; the last one holds. Empty where there is none."""
    first = volume_folder / _FIRST
    if not first.is_file():
        return ()
    later = {
        int(match[1]): path
        for path in volume_folder.iterdir()
        if (match := _LATER.match(path.name)) is not None
    }
    return (first, *(later[number] for number in sorted(later)))


def is_reported(case: Path, reviews: Sequence[Review]) -> bool:
    """Whether every report of a case carries exactly these signatures; so where it has no report.

    Args:
        case: `OUT/<case>`.
        reviews: Each reviewer's signed review that holds now.

    Raises:
        OSError: If a report cannot be read.
        InvalidDicomError: If one is damaged.
    """
    newest = [versions[-1] for place in case.iterdir() if place.is_dir()
              if (versions := report_versions(place))]  # fmt: skip
    if not newest:
        return True
    from medmtl.report.dicom_sr_review import signature_time  # highdicom takes a second

    wanted = sorted(signature_time(review) for review in reviews)
    return all(_signed_at(path) == wanted for path in newest)


def _signed_at(report: Path) -> list[str]:
    found = pydicom.dcmread(report, specific_tags=["VerifyingObserverSequence"])
    observers = found.get("VerifyingObserverSequence", ())
    return sorted(str(one.VerificationDateTime) for one in observers)


def write_reviewed_reports(case: Path, reviews: Sequence[Review]) -> tuple[Path, ...]:
    """Write the next version of each volume's report, with the verdicts; nothing is overwritten.

    Signing the same again writes nothing: the version that holds says it already.

    Args:
        case: `OUT/<case>`, written by `predict` with `sr` among its formats.
        reviews: Each reviewer's signed review that holds now. Without any, a report that carries
            signatures is followed by an unverified one.

    Returns:
        The reports that hold now, `<volume>/findings.v<n>.sr.dcm`, one per volume; none where the
        case has no report.

    Raises:
        MedmtlError: If the case is damaged.
        OutputError: If a report cannot be written.
        ValueError: If a review is not signed, or of another case or model.
    """
    record = read_result_case(case)
    sha256 = str(record.record["model"]["sha256"])
    if not all(review.is_of(case.name, sha256) for review in reviews):
        raise ValueError(
            f"Case {case.name}: a review of another case or of another model's answer cannot enter "
            "its report. Review the answer that stands there now."
        )
    decisions = {one["name"]: bool(one["decision"]) for one in record.record["findings"]}
    reviews = [review.about(decisions) for review in reviews]
    written = []
    with output_errors("The reviewed report"):
        lock = _lock(case)
        try:
            for volume_id in record.volume_ids:
                path = _write_next(case / volume_id, reviews, volume_id)
                written += [path] if path is not None else []
        finally:
            lock.release()
    return tuple(written)


def _lock(case: Path) -> FileLock:
    """Two reviewers who sign at once get a version each."""
    deadline_s = time.monotonic() + _WAIT_S
    while (lock := FileLock.try_acquire(case / ".review.lock")) is None:
        if time.monotonic() > deadline_s:
            raise OutputError(f"Case {case.name}: another review is being written. Sign again.")
        time.sleep(_POLL_S)
    return lock


def _write_next(folder: Path, reviews: Sequence[Review], volume_id: str) -> Path | None:
    from medmtl.report.dicom_sr_review import reviewed_report  # highdicom takes a second

    versions = report_versions(folder)
    if not versions:
        return None
    original, *earlier = (pydicom.dcmread(path) for path in versions)
    report = reviewed_report(original, earlier, reviews, volume_id=volume_id)
    if _says_the_same((original, *earlier)[-1], report):
        return versions[-1]
    path = folder / f"findings.v{len(versions) + 1}.sr.dcm"
    save_dicom(path, report)
    return path


def _says_the_same(last: Dataset, report: Dataset) -> bool:
    return _said(last) == _said(report)


def _said(report: Dataset) -> list[Any]:
    keywords = ("ContentSequence", "VerifyingObserverSequence")
    return [report[name].to_json_dict(None, 0) if name in report else None for name in keywords]
