"""Spline interpolation onto another number of voxels over the same extent, axis by axis.

A spline of several axes is one of each axis after the other, and along one axis it is a matrix,
whose columns are what SciPy makes of unit vectors. So the values are SciPy's up to the rounding of
double precision, for a small part of its time: instead of 64 taps for each voxel of the answer
there are three products of matrices, plane by plane.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import zoom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["spline_resize"]

_ROWS = 16


def spline_resize(values: NDArray[Any], shape: Sequence[int], *, order: int) -> NDArray[Any]:
    """`skimage.transform.resize(mode="edge", anti_aliasing=False)` of a plane or a volume.

    Args:
        values: Two or three axes, finite; computed in double precision, the dtype stays.
        shape: Of the answer.
        order: Of the spline, at least 1.
    """
    low, high = values.min(), values.max()
    ways = [_matrix(own, new, order) for own, new in zip(values.shape, shape, strict=True)]
    out = np.empty(shape, values.dtype)
    if values.ndim == 2:
        out[...] = np.clip(ways[0] @ values.astype(np.float64) @ ways[1].T, low, high)
        return out
    along, *in_plane = ways
    if out[0].size <= values[0].size:
        middle = np.stack([_plane(plane, in_plane) for plane in values], axis=1)
        for row, planes in enumerate(middle):
            out[:, row] = np.clip(along @ planes, low, high)
        return out
    flat = values.astype(np.float64).reshape(len(values), -1)
    for start in range(0, len(out), _ROWS):
        planes = (along[start : start + _ROWS] @ flat).reshape(-1, *values.shape[1:])
        for row, plane in enumerate(planes, start):
            out[row] = np.clip(_plane(plane, in_plane), low, high)
    return out


def _plane(values: NDArray[Any], ways: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    done: NDArray[np.float64] = ways[0] @ values.astype(np.float64) @ ways[1].T
    return done


@lru_cache(maxsize=16)
def _matrix(own: int, new: int, order: int) -> NDArray[np.float64]:
    """(new, own): what each voxel of the answer takes of each voxel along one axis."""
    factor = 1 / (own / new)
    columns = [
        zoom(unit, factor, order=order, mode="nearest", grid_mode=True) for unit in np.eye(own)
    ]
    return np.stack(columns, axis=1)
