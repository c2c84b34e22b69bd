"""An activation map as bytes on a coarse grid: a few kilobytes instead of the source grid's 30 MB.

Maps come out of a layer coarser than the image, so block means lose little that the network knew:
on torso CT and cardiac MR the peak of 64 blocks a side keeps four fifths of its height, that of 32
only three fifths, which hid small peaks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import Geometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.volume import Volume

__all__ = ["LARGEST_SIDE", "coarse_map"]

LARGEST_SIDE = 64
"""Voxels along the longest axis: 2 to 10 kB once compressed."""


def _block_means(array: NDArray[Any], blocks: tuple[int, ...]) -> NDArray[np.float32]:
    means = np.asarray(array, dtype=np.float32)
    for axis, size in enumerate(blocks):
        starts = np.arange(0, means.shape[axis], size)
        counts = np.diff(np.append(starts, means.shape[axis]))
        shape = [1, 1, 1]
        shape[axis] = -1
        sums = np.add.reduceat(means, starts, axis=axis)
        means = np.asarray(sums / counts.reshape(shape), dtype=np.float32)
    return means


def coarse_map(volume: Volume) -> Volume:
    """A map in 0..1 as uint8 0..255; every voxel is the mean of a block of the source grid.

    The last block of an axis may stick out of the image; its mean is over what there is.
    """
    shape = volume.geometry.shape
    i, j, k = (-(-size // LARGEST_SIDE) for size in shape)
    means = _block_means(volume.array, (i, j, k))
    to_fine = np.diag([float(i), float(j), float(k), 1.0])
    to_fine[:3, 3] = [(size - 1) / 2 for size in (i, j, k)]
    geometry = Geometry(shape=means.shape, affine_lps=volume.geometry.affine_lps @ to_fine)
    values = np.rint(np.clip(means, 0.0, 1.0) * 255).astype(np.uint8)
    return replace(volume, array=values, geometry=geometry)
