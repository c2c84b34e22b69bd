"""Thickness of the left ventricle's wall from short-axis masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Wall", "measure_wall"]

MIN_CAVITY_SHARE = 0.3
"""Slices with a smaller cavity than this share of the largest are apex or outflow tract."""


@dataclass(frozen=True)
class Wall:
    """Thickness over the mid-ventricular slices.

    Attributes:
        mean_mm: Mean over the slices of the thickness of a ring with the same areas.
        max_mm: Diameter of the largest disc that fits into the wall of any slice.
    """

    mean_mm: float
    max_mm: float


def measure_wall(
    myocardium: NDArray[np.bool_], cavity: NDArray[np.bool_], geometry: Geometry
) -> Wall | None:
    """Wall thickness; None where no slice has both a cavity and a wall around it.

    Args:
        myocardium: Mask (i, j, k) on a short-axis grid.
        cavity: Mask of the left ventricle's cavity.
        geometry: Their grid; slices are across its slice axis.
    """
    axis = geometry.slice_axis
    in_plane = tuple(other for other in range(3) if other != axis)
    sampling = [geometry.spacing_mm[other] for other in in_plane]
    pixel_mm2 = sampling[0] * sampling[1]
    cavity_mm2 = cavity.sum(axis=in_plane) * pixel_mm2
    wall_mm2 = myocardium.sum(axis=in_plane) * pixel_mm2
    is_mid = (cavity_mm2 > MIN_CAVITY_SHARE * cavity_mm2.max()) & (wall_mm2 > 0)
    if not is_mid.any():
        return None
    outer = np.sqrt((cavity_mm2 + wall_mm2)[is_mid] / np.pi)
    mean_mm = float((outer - np.sqrt(cavity_mm2[is_mid] / np.pi)).mean())
    slices = np.moveaxis(myocardium, axis, 0)[is_mid]
    return Wall(mean_mm, max(_disc_mm(wall, sampling) for wall in slices))


def _disc_mm(wall: NDArray[np.bool_], sampling: list[float]) -> float:
    """Diameter of the largest disc inside the wall.

    The distance runs between voxel centres, so half a voxel of it at each end lies outside.
    """
    rows, columns = (np.flatnonzero(wall.any(axis=other)) for other in (1, 0))
    near = wall[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    distance = ndimage.distance_transform_edt(np.pad(near, 1), sampling=sampling)
    return float(2 * distance.max() - np.mean(sampling))
