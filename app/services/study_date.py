"""The study date of a case, from its own DICOM results; case.json holds none on purpose."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["study_date"]

_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")


def study_date(case: Path) -> str:
    """Such as "2026-01-31"; "" where the case has no DICOM result or the source had no date."""
    for path in sorted(case.glob("*/findings.sr.dcm")) + sorted(case.glob("*/*.seg.dcm")):
        match = _DATE.fullmatch(_read(path))
        if match:
            return "-".join(match.groups())
    return ""


def _read(path: Path) -> str:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=["StudyDate"])
        return str(dataset.get("StudyDate", ""))
    except (OSError, InvalidDicomError, ValueError):
        return ""
