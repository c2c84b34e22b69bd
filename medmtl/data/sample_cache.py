"""Volumes on the network grid, kept on disk between runs.

Not MONAI's PersistentDataset: that one names an entry by the hash of the item's description alone,
so an image replaced under the same path is served as it was; it keeps whole dictionaries through
`torch.save` without a checksum, so a flipped bit goes into the training; and it asks for the steps
as MONAI transforms, of which ours are none. An entry here is an `.npz` file, whose members carry a
CRC-32 that NumPy checks, and nothing in it can run.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["GridVolume", "SampleCache", "entry_key", "file_facts"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_DAMAGED = (zipfile.BadZipFile, OSError, ValueError, KeyError, EOFError)
"""What `np.load` raises for an entry that was cut short, altered or is no archive at all."""


@dataclass(frozen=True, eq=False)
class GridVolume:
    """One volume on the network grid.

    Attributes:
        image_kji: float16, shape (K, J, I).
        labels_kji: uint8 of the same shape, the network's labels; None where there is no mask.
        spacing_mm: float32 (3,) along (K, J, I).
    """

    image_kji: NDArray[np.float16]
    labels_kji: NDArray[np.uint8] | None
    spacing_mm: NDArray[np.float32]


class SampleCache:
    """A folder of volumes on the network grid, one file each; safe for several writers.

    Args:
        folder: Made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"SampleCache({self.folder.name!r})"

    def get(self, key: str, build: Callable[[], GridVolume]) -> GridVolume:
        """The entry of a key, made by `build` where it is missing or damaged."""
        path = self.folder / key[:2] / f"{key}.npz"
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        except _DAMAGED as error:
            logger.warning(
                "cache entry %s is damaged (%s): made anew", key[:12], type(error).__name__
            )
        volume = build()
        try:
            _write(path, volume)
        except OSError as error:  # a full disk costs time, not the run
            logger.warning("cache entry %s could not be kept (%s)", key[:12], error.strerror)
        return volume


def entry_key(
    *,
    preprocessing_hash: str,
    image: Mapping[str, Any],
    mask: Mapping[str, Any] | None,
    labels: Mapping[int, int],
) -> str:
    """Hex SHA-256 of all that an entry depends on; anything else gives another key.

    Args:
        preprocessing_hash: Of `transforms.settings.config_hash`.
        image: `file_facts` of the image.
        mask: `file_facts` of the label map, None where there is none.
        labels: Network label of each label of the file.
    """
    facts = [_FORMAT, preprocessing_hash, image, mask, sorted(labels.items())]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_facts(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """What tells one state of a file from another: its place, stated checksum, size, and times.

    The place is that on this machine, so two copies of a data set never share an entry.
    """
    facts = path.stat()
    place = str(path.resolve())
    return {"path": place, "sha256": sha256, "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _write(path: Path, volume: GridVolume) -> None:
    """Whole or not at all; each writer has a file of its own aside."""
    arrays: dict[str, NDArray[Any]] = {"image": volume.image_kji, "spacing_mm": volume.spacing_mm}
    if volume.labels_kji is not None:
        arrays["labels"] = volume.labels_kji
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid4().hex}.tmp")
    try:
        with aside.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> GridVolume:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as entry:
        labels = entry["labels"] if "labels" in entry.files else None
        return GridVolume(entry["image"], labels, entry["spacing_mm"])
