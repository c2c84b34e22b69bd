"""The image that a case was made from: found below the known folders, read on its own grid.

case.json names the first file of a volume relative to the input. Only that file's folder is
listed, so that opening one case does not mean reading a whole archive.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import MedmtlError
from medmtl.data.intake import open_input
from medmtl.data.source_volume import source_volume
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from medmtl.core.geometry import Geometry
    from medmtl.core.study import Listing, VolumeRef
    from medmtl.core.volume import Volume

__all__ = [
    "CaseImage",
    "ImageMissingError",
    "case_image",
    "direct_roots",
    "image_root",
    "noted_inputs",
]

_DEPTH = 4
_LISTINGS = 12


class ImageMissingError(MedmtlError):
    """The image of a case is not below any known folder."""


@dataclass(frozen=True, eq=False)
class CaseImage:
    """One volume of a case's input; a source for `app.serving`.

    Attributes:
        root: The input that `predict` was given.
        path: First file of the volume, relative to it.
        volume_id: In case.json.
        series_uid: "" for NIfTI.
        geometry: Grid of the result's masks, which is that of the image.
        record: The content of case.json.
    """

    root: Path
    path: str
    volume_id: str
    series_uid: str
    geometry: Geometry
    record: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """Names no place: file names can hold patient names. Changes with the file's time.

        Raises:
            MedmtlError: If it is not there any more.
        """
        place = self.root if self.root.is_file() else self.root / self.path
        try:
            stamp = place.stat().st_mtime_ns
        except OSError as error:
            message = f"Volume {self.volume_id}: its image cannot be read ({error.strerror})."
            raise MedmtlError(f"{message} Was it moved or removed?") from error
        facts = f"{place}\0{stamp}\0{self.volume_id}\0{self.series_uid}"
        return hashlib.sha256(facts.encode()).hexdigest()[:32]

    def read(self) -> Volume:
        """Decode it.

        Raises:
            MedmtlError: If it is not there any more, or is another image now.
        """
        if self.series_uid or self.root.is_file():
            return self._ref().read()
        volume = read_volume_file(self.root, self.path)
        self._check(volume.geometry)
        return volume

    def phases(self) -> tuple[VolumeRef, ...]:
        """All phases of the cine that the volume belongs to, in time order; empty for none.

        Raises:
            MedmtlError: If the volume is not there any more.
        """
        if not self.series_uid:
            return ()
        mine = self._ref()
        beside = [ref for ref in self._refs() if ref.series_key == mine.series_key]
        cine = [ref for ref in beside if ref.phase is not None]
        return tuple(sorted(cine, key=lambda ref: ref.phase or 0)) if len(cine) > 1 else ()

    def _refs(self) -> list[VolumeRef]:
        """Readable volumes beside the file; paths in them are relative to what was listed."""
        return _volumes_of(self.root if self.root.is_file() else (self.root / self.path).parent)

    def _ref(self) -> VolumeRef:
        name = None if self.root.is_file() else PurePosixPath(self.path).name
        ref = source_volume(self.record, self.volume_id, self._refs(), path=name)
        self._check(ref.geometry)
        return ref

    def _check(self, found: Geometry) -> None:
        if not found.is_close(self.geometry):
            message = (
                f"Volume {self.volume_id}: its images lie on another grid than its masks now. "
                "Analyse the study again."
            )
            raise MedmtlError(message)


def _volumes_of(place: Path) -> list[VolumeRef]:
    listing = _listed(str(place), place.stat().st_mtime_ns)
    return [ref for study in listing.studies for ref in study.volumes]


@functools.lru_cache(maxsize=_LISTINGS)
def _listed(place: str, _stamp: int) -> Listing:
    return open_input(Path(place))


def case_image(
    record: Mapping[str, Any], volume_id: str, *, geometry: Geometry, roots: Iterable[Path]
) -> CaseImage:
    """The image of one volume.

    Args:
        record: The content of case.json.
        volume_id: Of its volumes.
        geometry: Grid of the volume's masks.
        roots: Where inputs may lie, the likeliest first.

    Raises:
        ImageMissingError: If it lies below none of them.
    """
    (volume,) = (one for one in record["source"]["volumes"] if one["id"] == volume_id)
    path, series_uid = volume["path"], volume.get("series_uid", "")
    known = tuple(roots)
    held = direct_roots(path, known)
    is_doubtful = len(held) > 1 and bool(series_uid)
    root = _of_series(held, path, series_uid) if is_doubtful else image_root(path, known)
    if root is None:
        message = (
            f"Volume {volume_id}: its image was not found below the folders that the viewer knows. "
            "Start it with `medmtl view RESULTS --images FOLDER`, FOLDER being the INPUT of the "
            "analysis."
        )
        raise ImageMissingError(message)
    return CaseImage(root, path, volume_id, series_uid, geometry, record)


def _of_series(roots: Sequence[Path], path: str, series_uid: str) -> Path | None:
    """Scanners call the files of every study alike: the input that holds this series."""
    folders = (root if root.is_file() else (root / path).parent for root in roots)
    return next(
        (root for root, place in zip(roots, folders, strict=True)
         if any(ref.series_uid == series_uid for ref in _volumes_of(place))),
        None,
    )  # fmt: skip


def image_root(path: str, roots: Iterable[Path]) -> Path | None:
    """The folder, or zip, from which a path of case.json leads to a file; never outside of it."""
    known = tuple(roots)
    direct = direct_roots(path, known)
    if direct or not _is_safe(path):
        return next(iter(direct), None)
    below = (folder for root in known for folder in _with_folders_below(root))
    deep = (folder for folder in below if (folder / path).exists())
    return next(deep, None) or next((root for root in known if root.is_file()), None)


def direct_roots(path: str, roots: Iterable[Path]) -> tuple[Path, ...]:
    """Every folder or zip of `roots` that holds a file of that path: several inputs may."""
    if not _is_safe(path):
        return ()
    return tuple(root for root in roots if (root / path).exists() or _is_in_zip(root, path))


def _is_safe(path: str) -> bool:
    wanted = PurePosixPath(path)
    return bool(path) and not wanted.is_absolute() and ".." not in wanted.parts


def _is_in_zip(place: Path, name: str) -> bool:
    """Of several archives that were analysed into one folder, only one holds the image."""
    if not place.is_file() or not zipfile.is_zipfile(place):
        return False
    try:
        with zipfile.ZipFile(place) as archive:
            return name in archive.NameToInfo
    except (OSError, zipfile.BadZipFile):
        return False


def noted_inputs(run_folder: Path) -> tuple[Path, ...]:
    """Where the runs of `predict` into a result folder found their images."""
    found = []
    for note in sorted((run_folder / ".medmtl" / "inputs").glob("*.json")):
        try:
            found.append(Path(json.loads(note.read_bytes())["path"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return tuple(path for path in found if path.exists())


def _with_folders_below(root: Path, depth: int = 0) -> Iterator[Path]:
    yield root
    if depth == _DEPTH or not root.is_dir():
        return
    try:
        with os.scandir(root) as entries:
            names = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        if not name.startswith("."):
            yield from _with_folders_below(root / name, depth + 1)
