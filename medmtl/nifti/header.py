"""What a NIfTI header says: grid, time axis, flags; or why it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.geometry import LPS_TO_RAS, Geometry, corner_distance_mm

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Header", "read_header", "refuse"]

_SAME_MM = 0.01
_LARGEST_COSINE = 0.02
_TO_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
_TO_MS = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
_NO_TIME_INTENTS = {"vector", "symmetric matrix", "matrix", "displacement vector", "rgb vector"}


@dataclass(frozen=True, eq=False)
class Header:
    """A NIfTI header that can be read.

    Attributes:
        geometry: Grid of one volume.
        count: Volumes along the fourth axis, 1 without one.
        step_ms: Time between volumes, None where unknown.
        is_integer: Whether the stored values are integers.
        flags: What the reader must know.
    """

    geometry: Geometry
    count: int
    step_ms: float | None
    is_integer: bool
    flags: tuple[Flag, ...]


def refuse(name: str, code: str, found: str, expected: str) -> InputRefusedError:
    """A refusal of one NIfTI file."""
    return InputRefusedError(
        name,
        stage="read",
        code=code,
        found=found,
        expected=expected,
        advice="Convert or export the image again.",
    )


def read_header(path: Path, name: str, *, max_bytes: int) -> Header:
    """Read and check a header; no voxels.

    Args:
        path: NIfTI file.
        name: Name in refusals, relative to the input.
        max_bytes: Largest size of one volume in memory.

    Raises:
        InputRefusedError: If the file is damaged or is no 3D or 4D scalar image.
    """
    try:
        return _checked(nib.load(path), name, max_bytes=max_bytes)
    except InputRefusedError:
        raise
    except Exception as error:  # of a stranger's file nibabel raises anything
        raise refuse(name, "damaged-nifti", "a damaged header", "a NIfTI-1 or -2 file") from error


def _checked(image: Any, name: str, *, max_bytes: int) -> Header:
    if not isinstance(image, nib.Nifti1Image):  # of which Nifti2Image is one, and CIFTI-2 is none
        raise refuse(name, "not-a-volume", f"a {type(image).__name__}", "a NIfTI-1 or -2 image")
    header = image.header
    dtype = header.get_data_dtype()
    affine, flags = _affine(header, name)
    intent = str(header.get_intent()[0])
    shape, count = _volume_shape(tuple(int(size) for size in image.shape), intent, name)
    if dtype.kind not in "iuf":
        raise refuse(name, "not-scalar", "colour or complex voxels", "one real number per voxel")
    if np.prod(shape, dtype=np.float64) * max(dtype.itemsize, 4) > max_bytes:
        raise refuse(name, "too-large", f"a volume of {shape} voxels", f"{max_bytes} bytes")
    if count > 1:
        flags = (*flags, Flag("4d-split", "info", f"4D image split into {count} volumes."))
    return Header(
        geometry=Geometry(shape, affine),
        count=count,
        step_ms=_step_ms(header) if count > 1 else None,
        is_integer=dtype.kind in "iu",
        flags=flags,
    )


def _volume_shape(
    shape: tuple[int, ...], intent: str, name: str
) -> tuple[tuple[int, int, int], int]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise refuse(name, "not-a-volume", f"shape {shape}", "three axes, or four with time")
    if len(shape) == 4 and intent.lower() in _NO_TIME_INTENTS:
        raise refuse(name, "not-a-time-axis", f"a fourth axis of intent {intent!r}", "time")
    if min(shape[:3]) < 2:
        raise refuse(name, "single-slice", f"shape {shape}", "at least two voxels along each axis")
    return (shape[0], shape[1], shape[2]), shape[3] if len(shape) == 4 else 1


def _step_ms(header: Any) -> float | None:
    unit = header.get_xyzt_units()[1]
    zooms = header.get_zooms()
    step = float(zooms[3]) * _TO_MS.get(unit, 0.0) if len(zooms) > 3 else 0.0
    return step if np.isfinite(step) and step > 0 else None


def _affine(header: Any, name: str) -> tuple[NDArray[np.float64], tuple[Flag, ...]]:
    """LPS affine in mm: the sform where it is set, else the qform, else the voxel sizes."""
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    flags: list[Flag] = []
    ras = sform if sform is not None else qform
    if sform is not None and qform is not None:
        flags += _conflict(sform, qform, header.get_data_shape())
    elif sform is not None:
        ras, flags = _with_voxel_sizes(sform, header.get_zooms())
    if ras is None:
        ras = header.get_base_affine()
        message = "Neither sform nor qform is set: left and right are not known."
        flags.append(Flag("orientation-unknown", "error", message))
    del sform_code, qform_code
    unit = header.get_xyzt_units()[0]
    ras = np.asarray(ras, dtype=np.float64).copy()
    if _TO_MM[unit] != 1.0:
        ras[:3] *= _TO_MM[unit]
        flags.append(Flag("units-converted", "info", f"Header in {unit}, converted to mm."))
    _check_affine(ras, name)
    return np.asarray(LPS_TO_RAS @ ras), tuple(flags)


def _conflict(
    sform: NDArray[np.float64], qform: NDArray[np.float64], shape: tuple[int, ...]
) -> list[Flag]:
    distance = corner_distance_mm(sform, qform, shape=(*shape, 1, 1, 1)[:3])
    voxel = float(np.linalg.norm(sform[:3, :3], axis=0).min())
    if distance <= max(_SAME_MM, 0.05 * voxel):
        return []
    message = f"sform and qform place corners up to {distance:.2f} mm apart; the sform is used."
    return [Flag("sform-qform-conflict", "warning", message)]


def _with_voxel_sizes(
    sform: NDArray[np.float64], zooms: tuple[float, ...]
) -> tuple[NDArray[np.float64], list[Flag]]:
    """The sform; where it holds directions only, with the header's voxel sizes (as ITK reads it).

    All files of the ACDC challenge are like that: columns of length 1, true sizes in pixdim.
    """
    sizes = np.linalg.norm(sform[:3, :3], axis=0)
    stated = np.asarray((*zooms, 1, 1, 1)[:3], dtype=np.float64)
    if np.allclose(sizes, stated, rtol=0.01):
        return sform, []
    scaled = sform.copy()
    used = "those of the sform are used"
    if np.allclose(sizes, 1.0, atol=1e-4) and np.isfinite(stated).all() and stated.min() > 0:
        scaled[:3, :3] = sform[:3, :3] / sizes * stated
        used = "those of the header are used, for the sform has directions only"
    message = f"Header and sform differ in voxel size; {used}."
    return scaled, [Flag("voxel-size-conflict", "warning", message)]


def _check_affine(ras: NDArray[np.float64], name: str) -> None:
    sizes = np.linalg.norm(ras[:3, :3], axis=0)
    if not np.isfinite(ras).all() or sizes.min() <= 1e-4 or sizes.max() > 1000:
        raise refuse(name, "invalid-affine", "an affine that is not usable", "finite voxel sizes")
    unit = ras[:3, :3] / sizes
    cosine = np.abs(unit.T @ unit - np.eye(3)).max()
    if cosine > _LARGEST_COSINE:
        degrees = float(np.degrees(np.arcsin(min(cosine, 1.0))))
        raise refuse(
            name, "sheared-affine", f"axes {degrees:.1f} degrees off a right angle", "right angles"
        )
