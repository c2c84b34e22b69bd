"""The regular files of an input: a file, a folder, the files of a DICOMDIR, or a zip.

Nothing but regular files is ever opened: a FIFO would hang, a device may never end, a looping link
would list slices twice. Whatever is left out is said.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import InputRefusedError, MedmtlError
from medmtl.core.study import Skipped

if TYPE_CHECKING:
    from medmtl.dicom.limits import ReadLimits

__all__ = ["SourceFile", "Sources", "collect_sources", "open_regular"]

_SUFFIX = re.compile(r"(\.nii\.gz|\.nii)\Z", re.IGNORECASE)
_COPY_CHUNK = 1024 * 1024
_UNSAFE_ADVICE = "Unpack it by hand and look at it before giving the folder to medmtl."


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One regular file.

    Attributes:
        path: Where it lies.
        name: Path relative to the input, with "/".
    """

    path: Path
    name: str


@dataclass(frozen=True, eq=False)
class Sources:
    """The files of one input and what was left out.

    Attributes:
        files: In the order of their names.
        skipped: Entries that are no regular readable file.
        keep_alive: Holds a temporary folder for as long as the files are needed.
    """

    files: tuple[SourceFile, ...]
    skipped: tuple[Skipped, ...] = ()
    keep_alive: Any = field(default=None, repr=False)


def open_regular(path: Path) -> int:
    """Open a file for reading without ever waiting on it; return its descriptor.

    Raises:
        OSError: If it is not readable or not a regular file.
    """
    nonblock, binary = getattr(os, "O_NONBLOCK", 0), getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | nonblock | binary | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = "not a regular file"
        raise OSError(message)
    return descriptor


def collect_sources(path: Path, *, limits: ReadLimits) -> Sources:
    """List the files of an input.

    Args:
        path: File, folder or zip.
        limits: Sizes and counts that must not be exceeded.

    Raises:
        MedmtlError: If the path does not exist or cannot be listed.
        InputRefusedError: If a zip is unsafe or too large.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        message = f"Input {path.name!r} does not exist or cannot be read. Check the path."
        raise MedmtlError(message) from error
    if stat.S_ISDIR(mode):
        return _Walk(path, limits).run()
    if not stat.S_ISREG(mode):
        message = f"Input {path.name!r} is neither a regular file nor a folder."
        raise MedmtlError(message)
    if _SUFFIX.search(path.name) is None and zipfile.is_zipfile(path):
        return _unzip(path, limits)
    return Sources((SourceFile(path, path.name),))


class _Walk:
    """One walk over a folder; links to folders are followed once."""

    def __init__(self, root: Path, limits: ReadLimits) -> None:
        self.root = root
        self.limits = limits
        self.files: list[SourceFile] = []
        self.skipped: list[Skipped] = []
        self.seen: set[tuple[int, int]] = set()

    def run(self) -> Sources:
        """Walk real folders first, so that a link never hides the real name of a file."""
        pending = [(self.root, "")]
        links: list[tuple[Path, str]] = []
        while pending or links:
            folder, name = pending.pop() if pending else links.pop(0)
            pending += self._folder(folder, name, links)
        self.files.sort(key=lambda file: file.name)
        self.skipped.sort(key=lambda entry: entry.source)
        return Sources(tuple(self.files), tuple(self.skipped))

    def _skip(self, name: str, code: str, reason: str) -> None:
        self.skipped.append(Skipped(name or ".", code, reason))

    def _folder(
        self, folder: Path, name: str, links: list[tuple[Path, str]]
    ) -> list[tuple[Path, str]]:
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in self.seen:
                self._skip(name, "link-loop", "link to a folder that is read already")
                return []
            self.seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            self._skip(name, "unreadable", "folder that cannot be read")
            return []
        found = []
        for entry in entries:
            inner = f"{name}/{entry.name}" if name else entry.name
            kind = self._entry(entry, inner)
            if kind == "folder":
                found.append((Path(entry.path), inner))
            elif kind == "link":
                links.append((Path(entry.path), inner))
        return found

    def _entry(self, entry: os.DirEntry[str], name: str) -> str:
        try:
            mode = entry.stat().st_mode
        except OSError:
            is_link = entry.is_symlink()
            self._skip(
                name,
                "dangling-link" if is_link else "unreadable",
                "link that leads nowhere" if is_link else "entry that cannot be read",
            )
            return ""
        if stat.S_ISDIR(mode):
            return "link" if entry.is_symlink() else "folder"
        if not stat.S_ISREG(mode):
            self._skip(name, "not-a-regular-file", "no regular file (FIFO, socket or device)")
            return ""
        if len(self.files) >= self.limits.max_files:
            message = f"The input holds more than {self.limits.max_files} files. Split it."
            raise MedmtlError(message)
        self.files.append(SourceFile(Path(entry.path), name))
        return "file"


def _refuse_zip(path: Path, code: str, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        path.name, stage="scan", code=code, found=found, expected=expected, advice=_UNSAFE_ADVICE
    )


def _member_problem(info: zipfile.ZipInfo) -> str:
    """Why a member is left out, or ""."""
    pure = PurePosixPath(info.filename.replace("\\", "/"))
    kind = stat.S_IFMT(info.external_attr >> 16)
    if pure.is_absolute() or ".." in pure.parts or ":" in info.filename:
        return "zip-outside-path"
    if kind not in (0, stat.S_IFREG):
        return "zip-not-a-regular-file"
    return "zip-encrypted" if info.flag_bits & 1 else ""


class _Folder:
    """A temporary folder that goes when nothing refers to it any more, or at exit."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="medmtl-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy sent to another process holds nothing: the sender keeps the folder."""
        return type(None), ()


_MEMBER_REASONS = {
    "zip-outside-path": "member whose path leads outside the zip",
    "zip-not-a-regular-file": "member that is a link or device",
    "zip-encrypted": "encrypted member",
    "zip-damaged": "member that is damaged",
}


def _unzip(path: Path, limits: ReadLimits) -> Sources:
    """Unpack under names of our own, so that no member can choose where it is written."""
    folder = _Folder()
    files: list[SourceFile] = []
    skipped: list[Skipped] = []
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_zip(path, members, limits)
            for number, info in enumerate(members):
                problem = _member_problem(info)
                suffix = _SUFFIX.search(info.filename)
                target = folder.path / f"{number:07d}{suffix[0].lower() if suffix else ''}"
                problem = problem or _extract(archive, info, target)
                if problem:
                    skipped.append(Skipped(info.filename, problem, _MEMBER_REASONS[problem]))
                else:
                    files.append(SourceFile(target, info.filename.replace("\\", "/")))
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise _refuse_zip(path, "zip-damaged", "a damaged zip", "an intact zip") from error
    files.sort(key=lambda file: file.name)
    return Sources(tuple(files), tuple(skipped), keep_alive=folder)


def _check_zip(path: Path, members: list[zipfile.ZipInfo], limits: ReadLimits) -> None:
    total = sum(info.file_size for info in members)
    if total > limits.max_zip_bytes or len(members) > limits.max_files:
        raise _refuse_zip(
            path,
            "zip-too-large",
            f"{total / 1024**3:.1f} GiB in {len(members)} files when unpacked",
            f"at most {limits.max_zip_bytes / 1024**3:.1f} GiB in {limits.max_files} files",
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if total > free:
        raise _refuse_zip(
            path, "zip-too-large", f"{total} bytes when unpacked", f"{free} bytes of free disk"
        )


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> str:
    """Write one member; never more than the size that the directory of the zip states."""
    written = 0
    try:
        with archive.open(info) as source, target.open("xb") as sink:
            while chunk := source.read(_COPY_CHUNK):
                written += len(chunk)
                if written > info.file_size:
                    return "zip-damaged"
                sink.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError):
        return "zip-damaged"
    return "" if written == info.file_size else "zip-damaged"
