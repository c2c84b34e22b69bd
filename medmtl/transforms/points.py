"""Points between the source grid and the network grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.geometry import points_to_space

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = ["map_points", "points_to_network", "points_to_source"]


def map_points(points_index: ArrayLike, *, start: Geometry, end: Geometry) -> NDArray[np.float64]:
    """Map (N, 3) points from voxel indices (i, j, k) of one grid to those of another."""
    return points_to_space(np.linalg.inv(end.affine_lps) @ start.affine_lps, points_index)


def points_to_network(points_index: ArrayLike, prepared: NetworkInput) -> NDArray[np.float64]:
    """Map (N, 3) source indices to (i, j, k) indices of the network grid."""
    return map_points(points_index, start=prepared.source_geometry, end=prepared.geometry)


def points_to_source(points_index: ArrayLike, prepared: NetworkInput) -> NDArray[np.float64]:
    """Map (N, 3) indices (i, j, k) of the network grid to source indices."""
    return map_points(points_index, start=prepared.geometry, end=prepared.source_geometry)
