"""Where to look: the largest lesion, the middle of a structure (LPS mm)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from medmtl.core.geometry import points_to_space
from medmtl.core.runs import Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Point", "label_at", "largest_piece", "structure_centre"]

Point: TypeAlias = tuple[float, float, float]


def largest_piece(label_map: NDArray[Any], label: int, geometry: Geometry) -> Point | None:
    """The middle of the largest connected piece of a label; None where there is none."""
    found = _boxed(label_map, label)
    if found is None:
        return None
    mask, start = found
    from scipy import ndimage  # half a second that no first page should wait for

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


def label_at(label_map: NDArray[Any], point: Point, geometry: Geometry) -> int:
    """The label of the voxel that holds a point; 0 outside of the grid."""
    to_index = np.asarray(np.linalg.inv(geometry.affine_lps), dtype=np.float64)
    index = np.rint(points_to_space(to_index, [point])[0]).astype(int)
    is_inside = bool(np.all((index >= 0) & (index < np.array(label_map.shape))))
    return int(label_map[tuple(index)]) if is_inside else 0


def _boxed(
    label_map: NDArray[Any], label: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]] | None:
    """The mask inside its bounding box, and the box's first index."""
    box = Runs.of_volume(label_map).boxes().get(label)
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
