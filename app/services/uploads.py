"""A mask that a browser sent: limited in size, read as any other file, gone afterwards."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.core.errors import MedmtlError
from medmtl.data.correction import read_result_correction
from medmtl.dicom.limits import ReadLimits

if TYPE_CHECKING:
    from medmtl.data.correction import Correction
    from medmtl.data.result_case import ResultCase

__all__ = ["SUFFIXES", "read_upload"]

SUFFIXES = ("nii", "nii.gz", "dcm")
_LIMITS = ReadLimits()
_VOXEL_BYTES = 8  # the widest number that a label map may hold
_MB = 1 << 20


def read_upload(
    content: bytes, *, name: str, case: ResultCase, volume_id: str, max_mb: int
) -> Correction:
    """The corrected mask in a sent file.

    Args:
        content: Its bytes.
        name: As the browser says; only its ending counts, and no path is made of it.
        case: The case that is corrected.
        volume_id: Of its volumes.
        max_mb: Largest file.

    Raises:
        MedmtlError: If it is too large, of no known kind, damaged, or does not fit the volume.
    """
    if len(content) > max_mb * _MB:
        raise MedmtlError(
            f"The file was not used: found {len(content) / _MB:.0f} MB, expected at most {max_mb} "
            "MB. Send the mask alone, compressed (.nii.gz)."
        )
    suffix = next((one for one in SUFFIXES[::-1] if name.lower().endswith(f".{one}")), None)
    if suffix is None:
        raise MedmtlError(
            "The file was not used: found another ending, expected .nii, .nii.gz or .dcm. Send a "
            "NIfTI label map, a DICOM SEG or an RTSTRUCT."
        )
    with tempfile.TemporaryDirectory(prefix="medmtl-upload-") as place:
        path = Path(place) / f"upload.{suffix}"
        path.write_bytes(content)
        limits = _limits(case, volume_id)
        return read_result_correction(path, case=case, volume_id=volume_id, limits=limits)


def _limits(case: ResultCase, volume_id: str) -> ReadLimits:
    """A few kilobytes can unpack to gigabytes: no mask of this volume needs more than this."""
    voxels = int(case.volume(volume_id).label_map.size)
    needed = voxels * _VOXEL_BYTES * max(1, len(case.schema.segments))
    return replace(_LIMITS, max_pixel_bytes=min(_LIMITS.max_pixel_bytes, max(needed, _MB)))
