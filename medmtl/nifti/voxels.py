"""The voxels of one NIfTI volume, in native units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from medmtl.core.study import VolumeRef
from medmtl.core.volume import Volume
from medmtl.nifti.header import Header, refuse

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["volume_ref"]

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


def _is_beyond_32_bits(values: NDArray[Any]) -> bool:
    """Whether whole numbers would be rounded: single precision holds 24 bits of them."""
    info = np.iinfo(np.int32)
    is_long = values.dtype.kind in "iu" and values.dtype.itemsize > info.dtype.itemsize
    return is_long and (int(values.min()) < info.min or int(values.max()) > info.max)


def volume_ref(
    path: Path, name: str, header: Header, *, index: int | None = None, keep_alive: Any = None
) -> VolumeRef:
    """The volume "image" of a file, as its header describes it.

    Args:
        path: NIfTI file.
        name: Path relative to the input, also in refusals.
        header: What its header says.
        index: Place along the fourth axis, None for a 3D image.
        keep_alive: Kept as long as the volume can still be read.
    """
    return VolumeRef(
        id="image",
        decode=_Decoder(path, index, keep_alive).read,
        geometry=header.geometry,
        modality="",
        source_files=(name,),
        flags=header.flags,
    )


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Reads the voxels of one volume."""

    path: Path
    index: int | None
    keep_alive: Any

    def read(self, ref: VolumeRef) -> Volume:
        """Read the volume that `ref` describes, scaled by slope and intercept once.

        Raises:
            InputRefusedError: If the voxels are damaged, not finite or beyond 32 bits.
        """
        name = ref.source_files[0]
        try:
            image = nib.load(self.path)
            proxy = image.dataobj
            raw = np.asanyarray(proxy if self.index is None else proxy[..., self.index])
            values = raw.reshape(ref.geometry.shape)
            is_stored_integer = image.header.get_data_dtype().kind in "iu"
        except Exception as error:  # of a stranger's file nibabel raises anything
            found = "voxels that cannot be read"
            raise refuse(name, "damaged-nifti", found, "intact data") from error
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int(values.size - np.isfinite(values).sum())
            raise refuse(name, "not-finite", f"{count} voxels that are not finite", "finite voxels")
        if _is_beyond_32_bits(values):
            found = f"whole numbers from {values.min()} to {values.max()}"
            raise refuse(name, "values-too-large", found, "whole numbers of at most 32 bits")
        return Volume(
            array=_compact(values, is_stored_integer=is_stored_integer),
            geometry=ref.geometry,
            id=ref.id,
            flags=ref.flags,
            path=name,
            time_ms=ref.time_ms,
            metadata=ref.metadata,
        )
