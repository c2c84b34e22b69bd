"""Where a served volume lies on disk; no path leaves the folder it starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from medmtl.core.errors import MedmtlError
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.core.volume import Volume

__all__ = ["NiftiSource", "OutsideError", "VolumeSource", "inside"]


class OutsideError(MedmtlError):
    """A path that leaves the folder it must stay in."""


class VolumeSource(Protocol):
    """A volume that can be read, and a key that changes when its files do."""

    @property
    def key(self) -> str:
        """Equal for equal content."""

    def read(self) -> Volume:
        """Decode it. Raises MedmtlError where it cannot be read safely."""


def inside(root: Path, name: str) -> Path:
    """`root / name`, links followed.

    Raises:
        OutsideError: If that lies outside of `root`.
    """
    base = root.resolve()
    path = (base / name).resolve()
    if not path.is_relative_to(base):
        message = (
            "A path leads out of the folder it belongs to. Only files below the folders that the "
            "viewer was started with are shown; start `medmtl view` with the right folder."
        )
        raise OutsideError(message)
    return path


def _key(path: Path, *parts: str) -> str:
    """Names no place: file names can hold patient names."""
    try:
        stat = path.stat()
    except OSError as error:
        message = f"A file of the case cannot be read: {error.strerror}. Was it moved or removed?"
        raise MedmtlError(message) from error
    facts = (str(path), str(stat.st_mtime_ns), str(stat.st_size), *parts)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class NiftiSource:
    """One NIfTI file, such as a label map or an activation map of a result folder.

    Attributes:
        root: The folder it must lie in.
        name: Its path from there.
    """

    root: Path
    name: str

    @property
    def key(self) -> str:
        """Changes with the file's time and size."""
        return _key(inside(self.root, self.name))

    def read(self) -> Volume:
        """Decode it.

        Raises:
            MedmtlError: If it lies outside, is damaged or holds several volumes.
        """
        inside(self.root, self.name)
        return read_volume_file(self.root, self.name)
