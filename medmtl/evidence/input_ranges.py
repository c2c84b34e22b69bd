"""What the training images looked like: spacing, field of view and intensity, for the bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, FiniteFloat, PositiveInt

from medmtl.core.geometry import closest_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from medmtl.core.volume import Volume

__all__ = [
    "PERCENTILES",
    "InputRanges",
    "grid_facts",
    "input_ranges",
    "intensity_percentiles",
    "relative_median",
]

PERCENTILES = (1, 50, 99)
"""Percentiles of the voxel values that are compared with training."""

_SAMPLES = 2**20


def _check_order(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"A range is (low, high). Found {bounds}.")
    return bounds


Range = Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_check_order)]


class InputRanges(BaseModel):
    """What the training images looked like, widened; a field that is None is not checked.

    Attributes:
        modality: DICOM modality; images of unknown modality (NIfTI) are not flagged.
        axes: Order of the per-axis ranges: "array" (i, j, k) for stacks whose third axis is the
            slice axis, "patient" for the axes closest to left, posterior and superior.
        spacing_mm: (low, high) for each axis.
        extent_mm: Field of view, (low, high) for each axis.
        min_slices: Fewest slices along the third array axis.
        intensity: (low, high) of each of PERCENTILES in native units (HU); None where the unit
            means nothing, as in MR.
        relative_median: (low, high) of (p50 - p1) / (p99 - p1), which has no unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: str | None = None
    axes: Literal["array", "patient"] = "array"
    spacing_mm: tuple[Range, Range, Range] | None = None
    extent_mm: tuple[Range, Range, Range] | None = None
    min_slices: PositiveInt | None = None
    intensity: tuple[Range, Range, Range] | None = None
    relative_median: Range | None = None


def input_ranges(
    volumes: Iterable[Volume],
    *,
    modality: str,
    axes: Literal["array", "patient"] = "array",
    has_units: bool,
    widen: float = 0.2,
) -> InputRanges:
    """Ranges of the training images, for the bundle.

    Args:
        volumes: Training images in native units, read one at a time.
        modality: DICOM modality that the model expects.
        axes: See InputRanges.
        has_units: Whether voxel values mean the same on every scanner (HU).
        widen: By how much of itself (spacing, extent) or of the typical contrast (intensity) a
            range grows at both ends.

    Raises:
        ValueError: If there is no volume.
    """
    facts = [
        (*grid_facts(volume, axes), intensity_percentiles(volume.array), volume.geometry.shape[2])
        for volume in volumes
    ]
    if not facts:
        raise ValueError("Input ranges need at least one training volume. Found none.")
    spacing, extent, percentiles, slices = (np.array(column) for column in zip(*facts, strict=True))
    contrast = float(np.median(percentiles[:, 2] - percentiles[:, 0]))
    relative = np.array([relative_median(values) for values in percentiles])
    fields: dict[str, Any] = {
        "modality": modality,
        "axes": axes,
        "spacing_mm": _bounds(spacing, factor=1 + widen),
        "extent_mm": _bounds(extent, factor=1 + widen),
        "min_slices": max(1, int(slices.min() / (1 + widen))),
        "intensity": _bounds(percentiles, margin=widen * contrast) if has_units else None,
        "relative_median": _bounds(relative[:, None], margin=0.5 * widen)[0],
    }
    return InputRanges.model_validate(fields)


def _bounds(
    values: NDArray[np.float64], *, factor: float = 1.0, margin: float = 0.0
) -> list[tuple[float, float]]:
    """(low, high) of each column of (N, columns)."""
    low = values.min(axis=0) / factor - margin
    high = values.max(axis=0) * factor + margin
    return list(zip(np.round(low, 3).tolist(), np.round(high, 3).tolist(), strict=True))


def grid_facts(volume: Volume, axes: str) -> tuple[list[float], list[float]]:
    """Spacing and extent in mm along the three axes in the order that `axes` names."""
    spacing = volume.geometry.spacing_mm
    order: Sequence[int] = (0, 1, 2)
    if axes == "patient":
        order = np.argsort(closest_axes(volume.geometry.affine_lps)[0]).tolist()
    extent = [spacing[axis] * volume.geometry.shape[axis] for axis in order]
    return [spacing[axis] for axis in order], extent


def intensity_percentiles(array: NDArray[Any]) -> NDArray[np.float64]:
    """PERCENTILES over a regular subsample of about a million voxels."""
    step = max(1, round((array.size / _SAMPLES) ** (1 / 3)))
    values = array[::step, ::step, ::step].astype(np.float64)
    return np.asarray(np.percentile(values, PERCENTILES))


def relative_median(percentiles: NDArray[np.float64]) -> float:
    """(p50 - p1) / (p99 - p1) of PERCENTILES; 0 for a constant image."""
    low, middle, high = percentiles.tolist()
    return (middle - low) / (high - low) if high > low else 0.0
