"""The voxels of one NIfTI volume, in native units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from medmtl.core.volume import Volume
from medmtl.nifti.header import DAMAGE, refuse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.study import VolumeRef

__all__ = ["read_volume"]

_INTEGERS = (np.int16, np.uint16, np.int32)


def _compact(values: NDArray[Any], *, is_stored_integer: bool) -> NDArray[Any]:
    """Whole numbers as the smallest integer type, scaled ones as float32."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 4:
        return np.asarray(values)
    if not is_stored_integer:
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if np.array_equal(values, np.rint(values)):
        for dtype in _INTEGERS:
            info = np.iinfo(dtype)
            if info.min <= values.min() and values.max() <= info.max:
                return values.astype(dtype)
    return values.astype(np.float32)


def read_volume(path: Path, *, index: int | None, ref: VolumeRef) -> Volume:
    """Read one volume, scaled by slope and intercept once.

    Args:
        path: NIfTI file.
        index: Place along the fourth axis, None for a 3D image.
        ref: What the header pass said of this volume.

    Raises:
        InputRefusedError: If the voxels are damaged or not finite.
    """
    name = ref.source_files[0]
    try:
        image = nib.load(path)
        proxy = image.dataobj
        shape = ref.geometry.shape
        raw = np.asanyarray(proxy[..., index] if index is not None else proxy)
        values = raw.reshape(shape)
        is_stored_integer = image.header.get_data_dtype().kind in "iu"
    except (*DAMAGE, MemoryError) as error:
        raise refuse(name, "damaged-nifti", "voxels that cannot be read", "intact data") from error
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise refuse(name, "not-finite", f"{count} voxels that are not finite", "finite voxels")
    return Volume(
        array=_compact(values, is_stored_integer=is_stored_integer),
        geometry=ref.geometry,
        id=ref.id,
        flags=ref.flags,
        path=name,
        time_ms=ref.time_ms,
        metadata=ref.metadata,
    )
