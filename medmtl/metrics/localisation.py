"""Where an activation map points, measured against the true masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.geometry import points_to_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["is_peak_inside"]


def is_peak_inside(cam: Volume, mask: NDArray[np.bool_], *, geometry: Geometry) -> bool | None:
    """The pointing game (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x) for one volume.

    A hit is a mask voxel inside the map's highest cell, or the cell's centre inside the mask;
    the tolerance is thus the map's own resolution. A map that is zero everywhere misses.

    Args:
        cam: Activation map on its own grid, which may be coarser than the mask's.
        mask: True where the evidence is expected, shape (i, j, k).
        geometry: Grid of the mask.

    Returns:
        None where the mask is empty.
    """
    if not mask.any():
        return None
    if not np.any(cam.array > 0):
        return False
    peak = np.array(np.unravel_index(int(np.argmax(cam.array)), cam.array.shape), dtype=np.float64)
    return _centre_in_mask(cam, peak, mask, geometry) or _mask_in_cell(cam, peak, mask, geometry)


def _centre_in_mask(
    cam: Volume, peak: NDArray[np.float64], mask: NDArray[np.bool_], geometry: Geometry
) -> bool:
    point_lps = points_to_space(cam.geometry.affine_lps, peak[None])
    index = np.rint(_indices(geometry, point_lps)[0]).astype(int)
    if (index < 0).any() or (index >= mask.shape).any():
        return False
    return bool(mask[tuple(index)])


def _mask_in_cell(
    cam: Volume, peak: NDArray[np.float64], mask: NDArray[np.bool_], geometry: Geometry
) -> bool:
    points_lps = points_to_space(geometry.affine_lps, np.argwhere(mask))
    index = _indices(cam.geometry, points_lps)
    return bool((np.abs(index - peak).max(axis=1) <= 0.5).any())


def _indices(geometry: Geometry, points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fractional indices of points of shape (N, 3) in mm."""
    inverse = np.asarray(np.linalg.inv(geometry.affine_lps), dtype=np.float64)
    return points_to_space(inverse, points_lps)
