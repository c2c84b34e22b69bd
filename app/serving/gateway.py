"""What pages register and routes serve: volumes, masks, maps, slices, and a way back for a mask."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from app.serving.coarse_map import coarse_map
from app.serving.file_cache import FileCache
from app.serving.maps_ahead import MapsAhead
from app.serving.peak import map_peak
from app.serving.regular import as_regular
from app.serving.tokens import TokenBook
from medmtl.report.nifti import write_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from app.serving.peak import Place
    from app.serving.sources import VolumeSource
    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["Gateway", "MaskTarget", "MaskWriter", "Role", "ServedFile", "SliceStack", "gateway"]

CACHE_BYTES = 4 << 30
"""A session of a hundred CTs; the least recently shown go first."""

DRAWN_VOLUMES = 6
"""Kept in memory for browsers without WebGL2: a study of two volumes with masks and maps."""

Role = Literal["image", "labels", "map"]


@dataclass(frozen=True)
class ServedFile:
    """One gzipped NIfTI file, made at the first request."""

    source: VolumeSource
    role: Role


class MaskWriter(Protocol):
    """What is called with an edited mask."""

    def __call__(
        self, label_map: NDArray[Any], geometry: Geometry, base: VolumeSource | None, /
    ) -> None:
        """Store it.

        Args:
            label_map: Shape (i, j, k) of the image's own grid, uint8 or uint16.
            geometry: That grid.
            base: The mask that was edited; None where there was none.
        """


@dataclass(frozen=True)
class MaskTarget:
    """Where an edited mask goes, on the source grid of `image`."""

    image: VolumeSource
    save: MaskWriter


@dataclass(frozen=True)
class SliceStack:
    """What slices are drawn from on the server, for browsers without WebGL2."""

    image: VolumeSource
    labels: VolumeSource | None
    maps: Mapping[str, VolumeSource]


def _prepare(volume: Volume, role: Role) -> Volume:
    if role == "map":
        return as_regular(coarse_map(volume))
    if role == "labels":
        largest = int(volume.array.max(initial=0))
        dtype = np.uint8 if largest < 1 << 8 else np.uint16
        return as_regular(volume.with_array(volume.array.astype(dtype, copy=False)))
    return as_regular(volume)


class Gateway:
    """The addresses of a viewer process.

    Args:
        cache: Where prepared files lie.
        is_active: Whether a Streamlit session is connected.
    """

    def __init__(self, cache: FileCache, *, is_active: Callable[[str], bool]) -> None:
        self._cache = cache
        self._grids: dict[str, Geometry] = {}
        self._peaks: dict[str, Place] = {}
        self._drawn = functools.lru_cache(maxsize=DRAWN_VOLUMES)(self._load)
        self._ahead = MapsAhead(lambda source: self.file(ServedFile(source, "map")))
        self.files: TokenBook[ServedFile] = TokenBook(is_active)
        self.masks: TokenBook[MaskTarget] = TokenBook(is_active)
        self.slices: TokenBook[SliceStack] = TokenBook(is_active)
        self.places: TokenBook[Callable[[], Place]] = TokenBook(is_active)

    def register_volume(self, session_id: str, source: VolumeSource) -> str:
        """The relative address of an image; it is read when the browser first asks."""
        return self._register(session_id, source, "image")

    def register_labels(self, session_id: str, source: VolumeSource) -> str:
        """The relative address of a label map, as uint8, or uint16 where it needs that."""
        return self._register(session_id, source, "labels")

    def register_map(self, session_id: str, source: VolumeSource) -> str:
        """The relative address of an activation map, as uint8 on a coarse grid."""
        return self._register(session_id, source, "map")

    def labels(self, address: str) -> VolumeSource | None:
        """What lies at an address of `register_labels`; None where nothing does."""
        served = self.files.redeem(address.rpartition("/")[2].partition(".")[0])
        return None if served is None or served.role != "labels" else served.source

    def _register(self, session_id: str, source: VolumeSource, role: Role) -> str:
        token = self.files.issue(
            session_id, key=f"{role}:{source.key}", resource=ServedFile(source, role)
        )
        return f"medmtl/volume/{token}.nii.gz"

    def register_mask_writer(
        self,
        session_id: str,
        image: VolumeSource,
        *,
        save: MaskWriter,
        name: str = "mask",
    ) -> str:
        """The relative address that takes an edited mask of `image`.

        Args:
            session_id: Who may send one.
            image: The volume it lies on.
            save: Called in a thread of the server, without a Streamlit context.
            name: Tells masks of one image apart.
        """
        target = MaskTarget(image, save)
        token = self.masks.issue(session_id, key=f"{name}:{image.key}", resource=target)
        return f"medmtl/mask/{token}"

    def register_place(self, session_id: str, *, key: str, find: Callable[[], Place]) -> str:
        """The relative address of where a finding is looked at, as JSON.

        Args:
            session_id: Who may ask.
            key: Another one for another place.
            find: Called in a thread of the server, without a Streamlit context.
        """
        token = self.places.issue(session_id, key=key, resource=find)
        return f"medmtl/place/{token}"

    def register_slices(
        self,
        session_id: str,
        image: VolumeSource,
        *,
        labels: VolumeSource | None = None,
        maps: Mapping[str, VolumeSource] | None = None,
    ) -> str:
        """The relative address of slices drawn here; `maps` by the name of their finding.

        All these maps are prepared beside, once the image is: another finding shows at once.
        """
        stack = SliceStack(image, labels, maps or {})
        self._ahead.note(image.key, stack.maps.values())
        # Browsers keep pictures: another mask on the same image has another address.
        key = f"slices:{image.key}:{labels.key if labels else ''}"
        token = self.slices.issue(session_id, key=key, resource=stack)
        return f"medmtl/slice/{token}"

    def file(self, served: ServedFile) -> Path:
        """The prepared file, made now where it is not there yet.

        Raises:
            MedmtlError: If the source cannot be read.
        """

        def make(path: Path) -> None:
            volume = self._read(served.source)
            if served.role == "map":
                self._peaks[served.source.key] = map_peak(volume.array, volume.geometry)
            write_image(path, _prepare(volume, served.role))

        path = self._cache.get(f"{served.source.key}.{served.role}.nii.gz", make)
        if served.role == "image":
            self._ahead.start(served.source.key)
        return path

    def peak(self, source: VolumeSource) -> Place:
        """The peak of a map, found as its file is prepared: a map is read once.

        Raises:
            MedmtlError: If the source cannot be read.
        """
        if source.key not in self._peaks:
            self.file(ServedFile(source, "map"))
        return self._peaks[source.key]

    def geometry(self, source: VolumeSource) -> Geometry:
        """The grid of a volume as its source has it; known without reading once it was served.

        Raises:
            MedmtlError: If the source cannot be read.
        """
        known = self._grids.get(source.key)
        return known if known is not None else self._read(source).geometry

    def volume(self, source: VolumeSource, role: Role) -> Volume:
        """A prepared volume in memory, for drawing here; the last few are kept.

        Raises:
            MedmtlError: If the source cannot be read.
        """
        return self._drawn(source.key, ServedFile(source, role))

    def _load(self, _: str, served: ServedFile) -> Volume:
        return _prepare(self._read(served.source), served.role)

    def _read(self, source: VolumeSource) -> Volume:
        volume = source.read()
        self._grids[source.key] = volume.geometry
        return volume


def _is_active(session_id: str) -> bool:
    from streamlit import runtime

    return runtime.exists() and runtime.get_instance().is_active_session(session_id)


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Removed when the process ends; readable by its user only."""
    return tempfile.TemporaryDirectory(prefix="medmtl-view-")


@functools.cache
def gateway() -> Gateway:
    """The one gateway of this process, shared by the pages and the routes."""
    return Gateway(FileCache(Path(_folder().name), max_bytes=CACHE_BYTES), is_active=_is_active)
