"""Where to look: the peak of a map, the largest lesion, the middle of a structure (LPS mm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import ndimage

from medmtl.core.geometry import points_to_space
from medmtl.evidence.boxes import label_boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Place", "Point", "largest_piece", "map_peak", "structure_centre"]

Point: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """Where a finding is looked at.

    Attributes:
        point_lps: None where there is nothing to go to.
        highest: Largest value of its maps, 0 without one. A map is 1 at its peak on the network's
            own coarse grid; on the grid of the image that peak lies between voxels, and a map of
            few cells is nowhere near 1.
    """

    point_lps: Point | None
    highest: float


def map_peak(activation: NDArray[Any], geometry: Geometry) -> Place:
    """The voxel with the largest activation; no point where the map is zero everywhere.

    Args:
        activation: Shape (i, j, k), at least 0.
        geometry: Its grid.
    """
    if activation.size == 0:
        return Place(None, 0.0)
    index = np.unravel_index(int(np.argmax(activation)), activation.shape)
    highest = float(activation[index])
    if not highest > 0:
        return Place(None, 0.0)
    return Place(_to_lps(np.array(index, dtype=float), geometry), highest)


def largest_piece(label_map: NDArray[Any], label: int, geometry: Geometry) -> Point | None:
    """The middle of the largest connected piece of a label; None where there is none."""
    found = _boxed(label_map, label)
    if found is None:
        return None
    mask, start = found
    pieces, count = ndimage.label(mask)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        mask = pieces == int(sizes.argmax())
    return _to_lps(_middle(mask) + start, geometry)


def structure_centre(label_map: NDArray[Any], label: int, geometry: Geometry) -> Point | None:
    """The voxel of a label that lies nearest to its centre of mass; None where there is none.

    The centre of mass of two lungs lies between them, and that of a horseshoe outside of it.
    """
    found = _boxed(label_map, label)
    if found is None:
        return None
    mask, start = found
    return _to_lps(_middle(mask) + start, geometry)


def _boxed(
    label_map: NDArray[Any], label: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]] | None:
    """The mask inside its bounding box, and the box's first index."""
    box = label_boxes(label_map).get(label)
    if box is None:
        return None
    start = np.array([part.start for part in box], dtype=float)
    return np.asarray(label_map[box] == label), start


def _middle(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    indices = np.argwhere(mask)
    distance = ((indices - indices.mean(axis=0)) ** 2).sum(axis=1)
    return np.asarray(indices[int(distance.argmin())], dtype=float)


def _to_lps(index: NDArray[np.float64], geometry: Geometry) -> Point:
    x, y, z = (float(value) for value in points_to_space(geometry.affine_lps, index[None])[0])
    return x, y, z
