"""Patient and study attributes as clean text; runs inside the worker process.

They go into the DICOM objects that medmtl writes (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.7.4.1) and
nowhere else. A value that breaks its value representation (PS3.5 6.2) is left out, so that a
damaged source does not make a damaged result.
"""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

from pydicom.multival import MultiValue

from medmtl.dicom.full_header import open_dataset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["PATIENT_KEYWORDS", "read_patient"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)?")
_PARTS = 3


def _text(longest: int) -> Callable[[str], str]:
    return lambda value: _CONTROL.sub(" ", value).strip()[:longest].strip()


def _exactly(longest: int) -> Callable[[str], str]:
    """An identifier as it is, or nothing: a shortened one would be somebody else's."""
    return lambda value: "" if _CONTROL.search(value) or len(value) > longest else value.strip()


def _name(value: str) -> str:
    """Up to three component groups of 64 characters and five components (PS3.5 6.2.1)."""
    groups = _CONTROL.sub(" ", value).split("=")[:_PARTS]
    return "=".join("^".join(group[:64].split("^")[:5]).strip() for group in groups)


def _date(value: str) -> str:
    try:
        datetime.datetime.strptime(value, "%Y%m%d")  # noqa: DTZ007 - a calendar check only
    except ValueError:
        return ""
    return value if len(value) == 8 else ""


def _time(value: str) -> str:
    match = _TIME.fullmatch(value.strip())
    if match is None or (match[4] and not match[3]):
        return ""
    return match[0]


def _pattern(pattern: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda value: value.strip() if compiled.fullmatch(value.strip()) else ""


_CLEAN: dict[str, Callable[[str], str]] = {
    "PatientName": _name,
    "PatientID": _exactly(64),
    "IssuerOfPatientID": _exactly(64),
    "PatientBirthDate": _date,
    "PatientSex": _pattern("[MFO]"),
    "PatientAge": _pattern(r"\d{3}[DWMY]"),
    "PatientSize": _pattern(r"\d{1,3}(\.\d{1,10})?"),
    "PatientWeight": _pattern(r"\d{1,3}(\.\d{1,10})?"),
    "PatientIdentityRemoved": _pattern("YES|NO"),
    "DeidentificationMethod": _text(64),
    "StudyDate": _date,
    "StudyTime": _time,
    "AccessionNumber": _exactly(16),
    "StudyID": _exactly(16),
    "StudyDescription": _text(64),
    "ReferringPhysicianName": _name,
    "PositionReferenceIndicator": _text(64),
    "TimezoneOffsetFromUTC": _pattern(r"[+-](0\d|1[0-4])[0-5]\d"),
}

PATIENT_KEYWORDS = tuple(_CLEAN)
"""What is read; everything else of the source stays there."""


def read_patient(path: Path, *, limit: int) -> dict[str, str]:
    """Patient and study attributes by keyword; one that is absent or damaged is left out.

    Raises:
        NotDicomError: If the file is no DICOM file.
    """
    dataset = open_dataset(path, limit=limit, pixels=False)
    found = {}
    for keyword, clean in _CLEAN.items():
        try:
            value = dataset.get(keyword)
        except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError):
            continue  # one unreadable value; the others are still good
        if isinstance(value, MultiValue):
            value = value[0] if value else None
        text = clean(str(value)) if value is not None else ""
        if text:
            found[keyword] = text
    if found.get("PatientIdentityRemoved") == "YES":  # then PS3.3 C.7.1.1 wants a method as well
        found.setdefault("DeidentificationMethod", "Not stated in the source")
    return found
