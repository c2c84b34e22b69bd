"""Result files into an archive: only those that it does not hold yet, so that twice is once."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import pydicom

from medmtl.pacs.errors import PacsError, PacsUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = ["PushOutcome", "Target", "push_files", "result_files"]

_RESULTS = ("*.seg.dcm", "*.rtstruct.dcm", "*.sr.dcm", "*.pm.dcm")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_DAMAGED = (
    AttributeError, EOFError, LookupError, NotImplementedError, OSError, TypeError, ValueError,
    pydicom.errors.InvalidDicomError, struct.error,
)  # fmt: skip
"""What pydicom raises over damaged files."""


class Target(Protocol):
    """Where results go; both methods raise PacsError (or its subclass) when they fail."""

    def stored(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """The instance UIDs it holds of a series; none where it does not tell."""

    def store(self, instance: pydicom.Dataset) -> None:
        """Send an instance; returns when the other side says that it holds it."""


@dataclass(frozen=True)
class PushOutcome:
    """What became of one file.

    Attributes:
        file: Relative to the result folder.
        status: "sent" now, "present" in the archive before, or "failed".
        reason: Of a failure.
    """

    file: str
    status: Literal["sent", "present", "failed"]
    reason: str = ""


def result_files(case: Path) -> tuple[Path, ...]:
    """The DICOM results of a finished case; a segmentation before the report that cites it."""
    if not (case / "case.json").is_file():
        return ()
    return tuple(path for pattern in _RESULTS for path in sorted(case.glob(f"*/{pattern}")))


def push_files(
    target: Target,
    files: Iterable[Path],
    *,
    root: Path,
    change: Callable[[pydicom.Dataset], None] | None = None,
) -> Iterator[PushOutcome]:
    """Send what is missing, one after the other.

    Args:
        target: Where to.
        files: DICOM results.
        root: Outcomes name files relative to it.
        change: Done to each instance in memory before it is sent.

    A result's instance UID depends on its content, so a target that has the UID has the result.

    Yields:
        One outcome per file, good and bad alike.

    Raises:
        PacsUnreachableError: If the target is down or lets us not in: nothing else would pass.
    """
    held: dict[tuple[str, str], set[str]] = {}
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            yield PushOutcome(name, _push(target, path, held, change))
        except PacsUnreachableError:
            raise
        except PacsError as error:
            yield PushOutcome(name, "failed", str(error))
        except _DAMAGED:
            yield PushOutcome(name, "failed", "the file cannot be read as DICOM")


def _push(
    target: Target,
    path: Path,
    held: dict[tuple[str, str], set[str]],
    change: Callable[[pydicom.Dataset], None] | None,
) -> Literal["sent", "present"]:
    if change is None:
        header = pydicom.dcmread(path, specific_tags=list(_UIDS), stop_before_pixels=True)
    else:
        header = pydicom.dcmread(path)
        change(header)
    study, series, uid = (str(getattr(header, keyword)) for keyword in _UIDS)
    if (study, series) not in held:
        held[study, series] = set(target.stored(study, series))
    if uid in held[study, series]:
        return "present"
    target.store(pydicom.dcmread(path) if change is None else header)
    held[study, series].add(uid)
    return "sent"
