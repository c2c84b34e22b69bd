"""How much of an activation map lies inside each segment, and where its peak is."""

from __future__ import annotations

from itertools import product, starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import points_to_space
from medmtl.core.resample import parallel_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume

__all__ = ["energy_in_segments", "peak_lps", "segment_fractions"]

_SLAB_VOXELS = 2**21


def segment_fractions(
    label_map: NDArray[Any], geometry: Geometry, grid: Geometry, *, labels: Sequence[int]
) -> NDArray[np.float32]:
    """Share of each cell of a coarse grid that each label covers.

    One pass over the label map serves the maps of all findings; memory is that of the answer plus
    a slab. A source voxel belongs to the cell that holds its centre; where the cells are the
    finer ones, the voxels are subdivided.

    Args:
        label_map: Shape (i, j, k) on `geometry`.
        geometry: Grid of the label map.
        grid: Grid of the activation map, its axes parallel to those of `geometry`.
        labels: Voxel values wanted.

    Returns:
        (len(labels), *grid.shape) in 0..1; 0 where the cell lies outside of the label map.

    Raises:
        ValueError: If the grids are oblique to each other.
    """
    size = int(np.prod(grid.shape))
    samples = np.ones((1, 1, 1))
    offsets = []
    for target, cell in _cells_of_axes(geometry, grid):
        shape = [1, 1, 1]
        shape[target] = -1
        per_cell = np.bincount(cell[cell >= 0], minlength=grid.shape[target])
        samples = samples * per_cell.reshape(shape)
        stride = int(np.prod(grid.shape[target + 1 :]))
        offsets.append(np.where(cell < 0, -size, cell * stride))
    counts = _count(label_map, offsets, size, labels)
    return (counts.reshape(-1, *grid.shape) / np.maximum(samples, 1)).astype(np.float32)


def _cells_of_axes(geometry: Geometry, grid: Geometry) -> list[tuple[int, NDArray[np.intp]]]:
    """For each axis of `geometry` the axis of `grid` along it and the cells (n, parts), or -1."""
    matrix = np.linalg.inv(grid.affine_lps) @ geometry.affine_lps
    along = parallel_axes(grid, geometry)
    answer = []
    for axis, target in enumerate(along):
        step = matrix[target, axis]
        parts = max(1, int(np.ceil(abs(step) - 1e-6)))
        index = np.arange(geometry.shape[axis])[:, None] + (np.arange(parts) + 0.5) / parts - 0.5
        cell = np.floor(step * index + matrix[target, 3] + 0.5 + 1e-9).astype(np.intp)
        cell[(cell < 0) | (cell >= grid.shape[target])] = -1
        answer.append((target, cell))
    return answer


def _count(
    label_map: NDArray[Any],
    offsets: Sequence[NDArray[np.intp]],
    size: int,
    labels: Sequence[int],
) -> NDArray[np.float64]:
    """Samples of each label in each cell, (len(labels) * size,); negative offsets lie outside."""
    counts = np.zeros(len(labels) * size)
    row_of_label = np.full(max(int(label_map.max()), *labels) + 1, -1)
    row_of_label[list(labels)] = np.arange(len(labels))
    planes = max(1, _SLAB_VOXELS // label_map[:, :, 0].size)
    for start in range(0, label_map.shape[2], planes):
        row = row_of_label[label_map[:, :, start : start + planes]]
        i, j, k = np.nonzero(row >= 0)
        row = row[i, j, k] * size
        for on_i, on_j, on_k in product(*(offset.T for offset in offsets)):
            cell = on_i[i] + on_j[j] + on_k[start:][k]
            np.add.at(counts, (row + cell)[cell >= 0], 1.0)
    return counts


def energy_in_segments(
    cams: Sequence[Volume], fractions: Sequence[NDArray[np.float32]], *, schema: LabelSchema
) -> dict[str, float]:
    """Share of the summed activation inside each segment, over all volumes of a study.

    The energy-based pointing game of Score-CAM (Wang et al. 2020, arXiv:1910.01279), per segment.

    Args:
        cams: Maps of one finding, one per volume.
        fractions: `segment_fractions` of each volume on the grid of its map, in schema order.
        schema: Names of the segments.

    Returns:
        Segment name to share in 0..1, together at most 1; all 0 where the maps are zero.
    """
    total = sum(float(cam.array.sum()) * cam.geometry.voxel_mm3 for cam in cams)
    inside = sum(starmap(_inside_mm3, zip(cams, fractions, strict=True)))
    shares = np.broadcast_to(inside / total if total > 0 else 0.0, len(schema.segments))
    return {name: float(share) for name, share in zip(schema.segment_names, shares, strict=True)}


def _inside_mm3(cam: Volume, fractions: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = np.einsum("sijk,ijk->s", fractions, cam.array, dtype=np.float64)
    return np.asarray(inside * cam.geometry.voxel_mm3)


def peak_lps(cam: Volume) -> tuple[float, float, float] | None:
    """Centre of the map's highest cell in LPS mm; None where the map is zero everywhere."""
    if not np.any(cam.array > 0):
        return None
    index = np.unravel_index(int(np.argmax(cam.array)), cam.array.shape)
    x, y, z = points_to_space(cam.geometry.affine_lps, [index])[0].tolist()
    return x, y, z
