"""Where a finding is looked at, and how high its map reaches there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import points_to_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Place", "map_peak"]


@dataclass(frozen=True)
class Place:
    """Where a finding is looked at.

    Attributes:
        point_lps: None where there is nothing to go to.
        highest: Largest value of its maps, 0 without one. A map is 1 at its peak on the network's
            own coarse grid; on the grid of the image that peak lies between voxels, and a map of
            few cells is nowhere near 1.
    """

    point_lps: tuple[float, float, float] | None
    highest: float


def map_peak(activation: NDArray[Any], geometry: Geometry) -> Place:
    """The voxel with the largest activation; no point where the map is zero everywhere.

    Args:
        activation: Shape (i, j, k), at least 0.
        geometry: Its grid.
    """
    if activation.size == 0 or not float(activation.max()) > 0:
        return Place(None, 0.0)
    index = np.unravel_index(int(np.argmax(activation)), activation.shape)
    x, y, z = points_to_space(geometry.affine_lps, np.array([index], dtype=float))[0]
    return Place((float(x), float(y), float(z)), float(activation[index]))
