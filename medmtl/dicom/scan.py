"""One fast pass over headers: files in, instances out, with a reason for everything left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.study import Skipped
from medmtl.dicom.fast_header import DoubtError, RawHeader, TruncatedError, read_fast
from medmtl.dicom.frames import Instance
from medmtl.dicom.sources import SourceFile, open_regular
from medmtl.dicom.tags import interpret
from medmtl.dicom.worker_client import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Scan", "dicomdir_sources", "scan_files"]


_ENHANCED_SIGNS = ("NumberOfFrames", "SharedFunctionalGroupsSequence")
_DICOM_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")


@dataclass(frozen=True, eq=False)
class Scan:
    """What the headers of an input say."""

    instances: tuple[Instance, ...]
    refusals: tuple[InputRefusedError, ...]
    skipped: tuple[Skipped, ...]


def _needs_full_reader(values: dict[str, object]) -> bool:
    frames = values.get("NumberOfFrames", 1)
    return (isinstance(frames, int) and frames != 1) or any(
        sign in values for sign in _ENHANCED_SIGNS[1:]
    )


def _instance(file: SourceFile, header: RawHeader, *, is_truncated: bool) -> Instance:
    return Instance(file, interpret(header.raw), header.pixels, is_truncated)


def _read(file: SourceFile, worker: Worker) -> Instance | None:
    """Read one header; None where the file cannot be DICOM at all.

    Raises:
        OSError: If the file cannot be read.
        WorkerError: If the full reader fails on it.
    """
    descriptor = open_regular(file.path)
    try:
        start = os.pread(descriptor, 136, 0)
        instance = _instance(file, read_fast(descriptor), is_truncated=False)
    except TruncatedError as error:
        instance = _instance(file, error.raw, is_truncated=True)
    except DoubtError:
        if not _may_be_dicom(start):
            return None
        return Instance(file, worker.header(file.path))
    finally:
        os.close(descriptor)
    if _needs_full_reader(instance.values) and not instance.is_truncated:
        return Instance(file, worker.header(file.path), instance.pixels)
    return instance


def _may_be_dicom(start: bytes) -> bool:
    """Cheap look before a file is handed to the full reader."""
    return (
        start[128:132] == b"DICM"
        or start[132:136] == b"\x02\x00\x00\x00"
        or start[:2] in _DICOM_STARTS
    )


def _unreadable(file: SourceFile, error: WorkerError) -> InputRefusedError:
    return InputRefusedError(
        file.name,
        stage="scan",
        code=error.code,
        found=error.found,
        expected=error.expected,
        advice="Copy or export the file again from its source.",
    )


def scan_files(files: Iterable[SourceFile], worker: Worker) -> Scan:
    """Read the headers of files, never their pixels.

    Args:
        files: Regular files.
        worker: Process for headers that are not plain.

    Returns:
        Instances in the order of the files; refusals and skips with the file named.
    """
    instances: list[Instance] = []
    refusals: list[InputRefusedError] = []
    skipped: list[Skipped] = []
    for file in files:
        try:
            instance = _read(file, worker)
        except OSError:
            skipped.append(Skipped(file.name, "unreadable", "file that cannot be read"))
            continue
        except WorkerError as error:
            if error.code == "not-dicom":
                instance = None
            else:
                refusals.append(_unreadable(file, error))
                continue
        if instance is None:
            skipped.append(Skipped(file.name, "not-dicom", "no DICOM file"))
        else:
            instances.append(instance)
    return Scan(tuple(instances), tuple(refusals), tuple(skipped))


def dicomdir_sources(
    file: SourceFile, worker: Worker
) -> tuple[list[SourceFile], list[InputRefusedError]] | None:
    """The files that a DICOMDIR lists, or None where the file is no DICOMDIR.

    A DICOMDIR is known by its SOP class, not by its name.
    """
    try:
        listed = worker.dicomdir(file.path)
    except WorkerError:
        return None
    root = file.path.parent.resolve()
    found: list[SourceFile] = []
    missing: list[InputRefusedError] = []
    for parts in listed:
        path = _resolve(root, parts)
        name = "/".join(parts)
        if path is None:
            missing.append(
                InputRefusedError(
                    name,
                    stage="scan",
                    code="missing-file",
                    found="no such file beside the DICOMDIR",
                    expected="each file that the DICOMDIR lists",
                    advice="Copy the whole medium, or give its folder instead.",
                )
            )
        else:
            found.append(SourceFile(path, path.relative_to(root).as_posix()))
    return found, missing


def _resolve(root: Path, parts: list[str]) -> Path | None:
    """The file of a DICOMDIR record, upper or lower case, inside the medium only."""
    if any(part in {"", ".", ".."} or "/" in part or "\\" in part for part in parts):
        return None
    for spelling in (parts, [part.lower() for part in parts]):
        path = root.joinpath(*spelling)
        if path.is_file() and path.resolve().is_relative_to(root):
            return path
    return None
