"""One image or label map of a manifest, read from its file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.data.series_file import is_series_file, series_ref
from medmtl.dicom.limits import ReadLimits
from medmtl.nifti.header import Header, read_header
from medmtl.nifti.voxels import volume_ref

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["read_grid", "read_volume_file"]

_LIMITS = ReadLimits()


def read_volume_file(data_root: Path, name: str, *, limits: ReadLimits = _LIMITS) -> Volume:
    """Read the one volume of a NIfTI file, or of a DICOM series (see `series_file`).

    Args:
        data_root: Folder that `name` starts from.
        name: Path with forward slashes, also in refusals.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is damaged or holds several volumes.
    """
    path = data_root / name
    if is_series_file(name):
        return replace(series_ref(path, name, limits=limits).read(), id="image")
    return volume_ref(path, name, _single(path, name, limits)).read()


def read_grid(data_root: Path, name: str, *, limits: ReadLimits = _LIMITS) -> Geometry:
    """The grid of the one volume of a NIfTI file or DICOM series; no voxel is read.

    Args:
        data_root: Folder that `name` starts from.
        name: Path with forward slashes, also in refusals.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the header is damaged or tells of several volumes.
    """
    if is_series_file(name):
        return series_ref(data_root / name, name, limits=limits).geometry
    return _single(data_root / name, name, limits).geometry


def _single(path: Path, name: str, limits: ReadLimits) -> Header:
    header = read_header(path, name, max_bytes=limits.max_pixel_bytes)
    if header.count != 1:
        raise InputRefusedError(
            name,
            stage="read",
            code="several-volumes",
            found=f"{header.count} volumes in one file",
            expected="one volume, as one row of a manifest names one",
            advice="Split the file into one file per volume and give each its row.",
        )
    return header
