"""How much of an activation map lies inside each segment, and where its peak is."""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import points_to_space
from medmtl.core.resample import parallel_axes
from medmtl.evidence.boxes import label_boxes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume

__all__ = ["energy_in_segments", "peak_lps", "segment_fractions"]

_SLAB_VOXELS = 2**19
"""Small enough that its memory is used again."""


def segment_fractions(
    label_map: NDArray[Any], geometry: Geometry, grid: Geometry, *, labels: Sequence[int]
) -> NDArray[np.float32]:
    """Share of each cell of an activation map's grid that each label covers, exactly.

    One pass over the label map serves the maps of all findings; memory is that of the answer plus
    a slab. Where a cell reaches beyond the image, the share is that of its part inside.

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
    along = parallel_axes(grid, geometry)  # axis of `grid` along each axis of `geometry`
    matrix = np.linalg.inv(grid.affine_lps) @ geometry.affine_lps
    on_i, on_j, on_k = (
        _overlap(matrix[along[axis], axis], matrix[along[axis], 3], size, grid.shape[along[axis]])
        for axis, size in enumerate(geometry.shape)
    )
    boxes = label_boxes(label_map)
    fractions = np.zeros((len(labels), *grid.shape), dtype=np.float32)
    for row, label in enumerate(labels):
        if label in boxes:
            i, j, k = boxes[label]
            mask = label_map[i, j, k] == label
            cells = _average(mask, on_i[:, i], on_j[:, j], on_k[:, k])
            fractions[row] = cells.transpose(np.argsort(along))
    return fractions


def _overlap(step: float, start: float, size: int, cells: int) -> NDArray[np.float32]:
    """How much of each cell each voxel fills along one axis, (cells, size); rows sum to 1 or 0.

    Args:
        step: Cells from one voxel to the next, negative where the axes are opposed.
        start: Position of the first voxel's centre in cells.
        size: Number of voxels.
        cells: Number of cells.
    """
    centre = start + step * np.arange(size)
    edge = np.arange(cells)[:, None]
    low = np.maximum(centre - abs(step) / 2, edge - 0.5)
    high = np.minimum(centre + abs(step) / 2, edge + 0.5)
    length = np.clip(high - low, 0, None)
    length[length < 1e-6] = 0
    return np.asarray(length / np.maximum(length.sum(axis=1, keepdims=True), 1e-6), np.float32)


def _average(
    mask: NDArray[np.bool_],
    on_i: NDArray[np.float32],
    on_j: NDArray[np.float32],
    on_k: NDArray[np.float32],
) -> NDArray[np.float32]:
    """A mask (i, j, k) averaged over cells, slab by slab, axes in the order of the mask."""
    total_kji = np.zeros((len(on_k), len(on_j), len(on_i)), dtype=np.float32)
    planes = max(1, _SLAB_VOXELS // mask[:, :, 0].size)
    for start in range(0, mask.shape[2], planes):
        slab_kji = mask[:, :, start : start + planes].T.astype(np.float32)
        rows_kji = on_j @ (slab_kji @ on_i.T)
        total_kji += np.tensordot(on_k[:, start : start + planes], rows_kji, axes=1)
    return total_kji.T


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
