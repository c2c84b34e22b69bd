"""Signatures into the DICOM reports; what could not be written is written when it can be.

The log holds the signature whatever becomes of the report. A report that lacks one is found by
what it says itself, so that nothing has to remember a failure: at the start of the viewer, when a
case is opened, and at the next signature.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError

from medmtl.core.errors import MedmtlError
from medmtl.inference.write_review import is_reported, write_reviewed_reports

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from app.services.case_index import Snapshot
    from app.services.review_log import Entry, ReviewLog

__all__ = ["Reported", "report_all", "report_case"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reported:
    """How the reports of a case stand.

    Attributes:
        written: Reports that were written now.
        problem: Why they lack a signature; "" where they lack none.
    """

    written: int = 0
    problem: str = ""


def report_case(folder: Path, entries: Iterable[Entry]) -> Reported:
    """Write the reports of a case where they lack a signature, or carry one that was taken back.

    Args:
        folder: Of the case.
        entries: The last line of every reviewer.
    """
    held = [entry.review for entry in entries if entry.review.is_signed]
    try:
        if is_reported(folder, held):
            return Reported()
        return Reported(written=len(write_reviewed_reports(folder, held)))
    except InvalidDicomError:
        return Reported(problem="The report is damaged. Run predict again for a new one.")
    except OSError as error:
        return Reported(problem=f"The report cannot be read ({error.strerror}).")
    except (MedmtlError, ValueError) as error:
        return Reported(problem=str(error))


def report_all(log: ReviewLog, snapshot: Snapshot) -> int:
    """Write what is missing in the reports of all cases; how many cases still lack a signature."""
    by_case: dict[str, list[Entry]] = {}
    for entry in log.last_lines():
        here = snapshot.placed(entry.case)
        if here is not None:
            by_case.setdefault(here.key, []).append(entry)
    missing = 0
    for key, entries in by_case.items():
        problem = report_case(snapshot.folder(key), entries).problem
        missing += bool(problem)
    if missing:
        logger.warning("%d reports lack a signature; opening their cases says why", missing)
    return missing
