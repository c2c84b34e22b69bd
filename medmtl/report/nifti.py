"""Label maps and activation maps as NIfTI-1 on the source grid, streamed slab by slab.

NIfTI stores the first axis fastest, so the planes of the last axis (k) follow each other in the
file: a compressed volume is written without ever holding it whole.
https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from medmtl.core.durable import durable_file
from medmtl.core.resample import interpolate_slabs
from medmtl.report.parallel_gzip import write_gzip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["CAM_STEPS", "write_activation_map", "write_image", "write_label_map"]

CAM_STEPS = 255
"""Activation maps are multiples of 1/255: finer than their meaning, and they compress well."""

_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_PLANES = 16


def _header(geometry: Geometry, dtype: DTypeLike) -> bytes:
    """The 352 bytes before the voxels; sform and qform agree, or the qform is left unset."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.dtype(dtype).newbyteorder("<"))
    header.set_data_shape(geometry.shape)
    header.set_xyzt_units("mm")
    header.set_sform(geometry.affine_ras, code=_SCANNER)
    header.set_qform(geometry.affine_ras, code=_SCANNER)
    # A quaternion cannot say shear; a reader that prefers the qform would be misled.
    tolerance_mm = 1e-3 * min(geometry.spacing_mm)
    if not np.allclose(header.get_qform(), geometry.affine_ras, atol=max(tolerance_mm, 1e-4)):
        header["qform_code"] = 0
    header["vox_offset"] = 352
    header["scl_slope"], header["scl_inter"] = 1, 0
    return bytes(header.binaryblock) + b"\0\0\0\0"


def _write(path: Path, header: bytes, slabs: Iterable[NDArray[Any]]) -> None:
    with durable_file(path) as stream:
        write_gzip(stream, chain([header], (_in_file_order(slab) for slab in slabs)))


def _in_file_order(slab: NDArray[Any]) -> memoryview:
    """The bytes of (i, j, k), i fastest; no copy where they lie so already."""
    return np.ascontiguousarray(slab.T).reshape(-1).view(np.uint8).data


def write_label_map(path: Path, label_map: NDArray[Any], geometry: Geometry) -> None:
    """Write a label map as .nii.gz.

    Args:
        path: File to write; its name ends in .nii.gz.
        label_map: Shape (i, j, k) of `geometry`, uint8 or uint16, 0 is background.
        geometry: The source grid.

    Raises:
        ValueError: If dtype or shape are not as said.
        OSError: If the file cannot be written; nothing is left of it then.
    """
    if label_map.dtype not in (np.uint8, np.uint16) or label_map.shape != geometry.shape:
        message = (
            f"Label map must be uint8 or uint16 of shape {geometry.shape}. "
            f"Found {label_map.dtype} of shape {label_map.shape}."
        )
        raise ValueError(message)
    little = label_map.dtype.newbyteorder("<")
    slabs = (
        label_map[:, :, start : start + _PLANES].astype(little, copy=False)
        for start in range(0, geometry.shape[2], _PLANES)
    )
    _write(path, _header(geometry, label_map.dtype), slabs)


def write_activation_map(path: Path, cam: Volume, geometry: Geometry) -> None:
    """Write an activation map as float32 .nii.gz in 0..1, interpolated onto the source grid.

    Args:
        path: File to write; its name ends in .nii.gz.
        cam: Map in 0..1 on its own, usually coarser grid, parallel to `geometry`.
        geometry: The source grid. Outside of the map's extent the value is 0.

    Raises:
        ValueError: If the two grids are oblique to each other.
        OSError: If the file cannot be written; nothing is left of it then.
    """
    _write(path, _header(geometry, np.float32), _quantised(cam, geometry))


def write_image(path: Path, volume: Volume) -> None:
    """Write a volume in its native units as .nii.gz; float64 becomes float32.

    Args:
        path: File to write; its name ends in .nii.gz.
        volume: What to write; its dtype is kept where NIfTI readers know it.

    Raises:
        OSError: If the file cannot be written; nothing is left of it then.
    """
    array = volume.array
    kept = array.dtype.kind in "iu" and array.dtype.itemsize <= 4
    little = array.dtype.newbyteorder("<") if kept else np.dtype("<f4")
    slabs = (
        array[:, :, start : start + _PLANES].astype(little, copy=False)
        for start in range(0, volume.geometry.shape[2], _PLANES)
    )
    _write(path, _header(volume.geometry, little), slabs)


def _quantised(cam: Volume, geometry: Geometry) -> Iterator[NDArray[np.float32]]:
    bounded = np.clip(cam.array, 0.0, 1.0)  # and so is every value between
    for _, slab in interpolate_slabs(bounded, cam.geometry, geometry, finish=_quantise):
        yield slab.astype("<f4", copy=False)


def _quantise(values: NDArray[np.float32]) -> None:
    values *= CAM_STEPS
    np.rint(values, out=values)
    values /= CAM_STEPS
