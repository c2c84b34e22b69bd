"""Sheared or unevenly spaced slices, resampled linearly to a rectilinear grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.dicom.grid import Rectification

__all__ = ["rectify"]

_DECIMALS = 6
"""Shifts and weights are rounded, or a slice that lies on the grid would fade at its edge."""


def rectify(
    array: NDArray[Any], plan: Rectification, *, shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Resample slices by a plan.

    Each slice is shifted in its plane, then neighbours are blended along the normal; at the height
    of a source slice that is the slice itself.

    Args:
        array: Source slices, shape (i, j, n).
        plan: Heights and shifts.
        shape: Target shape (i, j, k).

    Returns:
        Shape `shape`; where no slice reaches, the smallest value of the source.
    """
    empty = float(array.min())
    target = np.full(shape, empty, dtype=np.float32)
    upper = np.searchsorted(plan.heights_mm, plan.target_heights_mm, side="left")
    placed: dict[int, NDArray[np.float32]] = {}
    for k, height in enumerate(plan.target_heights_mm):
        high = int(min(upper[k], array.shape[2] - 1))
        low = max(high - 1, 0)
        for number in (low, high):
            if number not in placed:
                placed[number] = _placed(array[..., number], plan.shifts_px[number], shape, empty)
        gap = plan.heights_mm[high] - plan.heights_mm[low]
        weight = 1.0 if gap <= 0 else (height - plan.heights_mm[low]) / gap
        weight = round(float(np.clip(weight, 0.0, 1.0)), _DECIMALS)
        target[..., k] = (1 - weight) * placed[low] + weight * placed[high]
        placed = {number: plane for number, plane in placed.items() if number >= low}
    return target


def _placed(
    plane: NDArray[Any], shift_px: NDArray[np.float64], shape: tuple[int, int, int], empty: float
) -> NDArray[np.float32]:
    """One slice in the target plane."""
    shift_px = np.round(shift_px, _DECIMALS)
    wide = np.full(shape[:2], empty, dtype=np.float32)
    wide[: plane.shape[0], : plane.shape[1]] = plane
    if not np.abs(shift_px).max() > 0:
        return wide
    return np.asarray(
        ndimage.shift(wide, shift_px, order=1, mode="constant", cval=empty), dtype=np.float32
    )
