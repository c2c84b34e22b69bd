"""A folder of NIfTI files with `stage.json`, as the page of the browser tests shows it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Stage", "StageVolume", "write_nifti"]


def write_nifti(path: Path, array: NDArray[Any], affine_ras: NDArray[np.float64]) -> str:
    """Write an array and give back the file's name."""
    image = nib.Nifti1Image(array, affine_ras)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path.name


@dataclass(frozen=True)
class StageVolume:
    """Files of one volume, by their names in the folder."""

    id: str
    image: str
    labels: str | None = None
    modality: str = "CT"
    window: tuple[float, float] | None = None
    time_index: int | None = None
    presets: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Stage:
    """What the page shows: volumes, names of the labels from 1, maps per finding and volume."""

    volumes: tuple[StageVolume, ...]
    segments: tuple[str, ...] = ()
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    layout: str = "mpr"

    def write(self, folder: Path) -> None:
        """Beside the files."""
        (folder / "stage.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Stage:
        """What `write` wrote."""
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        volumes = tuple(StageVolume(**one) for one in record.pop("volumes"))
        return cls(volumes=volumes, **record)
