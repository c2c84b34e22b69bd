"""Where a served volume lies on disk; no path leaves the folder it starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medmtl.core.errors import MedmtlError
from medmtl.data.intake import open_input
from medmtl.data.volume_file import read_volume_file
from medmtl.nifti.names import is_nifti_name

if TYPE_CHECKING:
    from medmtl.core.study import VolumeRef
    from medmtl.core.volume import Volume

__all__ = ["NiftiSource", "OutsideError", "StudySource", "VolumeSource", "inside"]


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


@dataclass(frozen=True)
class StudySource:
    """A volume of the input that a case was made from, DICOM or NIfTI.

    Attributes:
        root: The input as `predict` was given it.
        path: `source.volumes[].path` of case.json: the volume's first file, below `root`.
        series_uid: `source.volumes[].series_uid`, "" for NIfTI.
    """

    root: Path
    path: str
    series_uid: str = ""

    @property
    def key(self) -> str:
        """Changes with the time of the first file."""
        return _key(self._file(), self.series_uid)

    def _file(self) -> Path:
        return self.root if self.root.is_file() else inside(self.root, self.path)

    def read(self) -> Volume:
        """Find it by its first file and its series, and decode it.

        Raises:
            MedmtlError: If it lies outside, is not there any more or cannot be read safely.
        """
        file = self._file()
        found = self._look_in(
            file if is_nifti_name(file.name) or file == self.root else file.parent
        )
        if len(found) != 1 and not self.root.is_file():
            found = self._look_in(self.root)  # a series that is spread over several folders
        if len(found) != 1:
            message = (
                f"The image was found {len(found)} times in the input, expected once. Has the "
                "input changed since the analysis? Analyse it again."
            )
            raise MedmtlError(message)
        return found[0].read()

    def _look_in(self, place: Path) -> list[VolumeRef]:
        name = Path(self.path).name
        listing = open_input(place)
        refs = [ref for study in listing.studies for ref in study.volumes]
        mine = [ref for ref in refs if ref.series_uid == self.series_uid]
        if len(mine) == 1:
            return mine
        return [ref for ref in mine if any(Path(file).name == name for file in ref.source_files)]
