"""Numbers of one volume's segments: size, mean intensity, place, pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from medmtl.core.geometry import points_to_space
from medmtl.core.prediction import SegmentResult
from medmtl.core.runs import Runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume

__all__ = ["SegmentShape", "describe_segment", "measure_segments"]


@dataclass(frozen=True)
class SegmentShape:
    """Where one segment lies.

    Attributes:
        centroid_lps: Centre of mass in mm.
        touches_border: Whether it reaches the first or last plane of each array axis (i, j, k).
        pieces: Number of connected pieces; voxels that share a corner are connected.
    """

    centroid_lps: tuple[float, float, float]
    touches_border: tuple[bool, bool, bool]
    pieces: int


def measure_segments(
    volume: Volume, label_map: NDArray[Any], schema: LabelSchema, *, runs: Runs | None = None
) -> tuple[SegmentResult, ...]:
    """Volume and mean intensity (in the volume's own units) of every segment, in schema order.

    Args:
        volume: The source volume.
        label_map: Shape (i, j, k) of the volume.
        schema: Segments to measure; an empty one has 0 voxels and no mean intensity.
        runs: Of the label map, where they are known.

    Raises:
        ValueError: If the label map is not on the volume's grid.
    """
    if tuple(label_map.shape) != volume.geometry.shape:
        raise ValueError(f"Label map {label_map.shape} is not on {volume.geometry.shape}.")
    runs = runs or Runs.of_volume(label_map)
    largest = max((spec.label for spec in schema.segments), default=0)
    size = max(largest, int(runs.label.max(initial=0))) + 1
    voxels, sums = _count(volume.array, runs, size=size)
    voxel_ml = volume.geometry.voxel_mm3 / 1000
    return tuple(
        SegmentResult(
            volume=volume.id,
            label=spec.label,
            name=spec.name,
            volume_ml=float(voxels[spec.label] * voxel_ml),
            voxels=int(voxels[spec.label]),
            mean_intensity=(
                float(sums[spec.label] / voxels[spec.label]) if voxels[spec.label] else None
            ),
        )
        for spec in schema.segments
    )


def describe_segment(
    label_map: NDArray[Any], geometry: Geometry, *, label: int
) -> SegmentShape | None:
    """Centroid, contact with the border and pieces of one segment; None where it is empty."""
    box = Runs.of_volume(label_map).boxes().get(label)
    if box is None:
        return None
    mask = label_map[box] == label
    index = np.argwhere(mask).mean(axis=0) + [part.start for part in box]
    x, y, z = points_to_space(geometry.affine_lps, index[None])[0]
    i, j, k = (
        part.start == 0 or part.stop == size
        for part, size in zip(box, label_map.shape, strict=True)
    )
    _, pieces = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    return SegmentShape((float(x), float(y), float(z)), (i, j, k), int(pieces))


def _count(
    array: NDArray[Any], runs: Runs, *, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Voxels and sum of intensities of each label, plane by plane, of whole runs at a time."""
    sums = np.zeros(size, dtype=np.float64)
    _, rows, columns = runs.shape
    for k, here in enumerate(runs.planes()):
        if here.start == here.stop:
            continue
        ends = np.stack([runs.start[here], runs.stop[here]], axis=1).ravel() - k * rows * columns
        values = array[:, :, k].T.ravel()  # most volumes lie so in memory
        ends = ends[:-1] if ends[-1] == values.size else ends
        totals = np.add.reduceat(values, ends, dtype=np.float64)[::2]  # without what lies between
        sums += np.bincount(runs.label[here], weights=totals, minlength=size)
    voxels = np.bincount(runs.label, weights=runs.stop - runs.start, minlength=size)
    return voxels.astype(np.int64), sums
