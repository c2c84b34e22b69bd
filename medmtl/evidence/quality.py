"""Is this image like those the model learned from? Flags before the network runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.flags import Flag
from medmtl.evidence.input_ranges import (
    PERCENTILES,
    grid_facts,
    intensity_percentiles,
    relative_median,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmtl.core.volume import Volume
    from medmtl.evidence.input_ranges import InputRanges

__all__ = ["check_input"]

_AXIS_NAMES = {
    "array": ("column", "row", "slice"),
    "patient": ("left-right", "front-back", "head-foot"),
}


def check_input(volume: Volume, ranges: InputRanges) -> tuple[Flag, ...]:
    """Flags of a volume that is unlike the training images.

    Codes: modality-unexpected, spacing-outside-training, field-of-view-small,
    field-of-view-large, slices-few, contrast-missing, intensity-outside-training,
    contrast-outside-training.

    Args:
        volume: The source volume in native units.
        ranges: Of the model's bundle; what it leaves out is not checked.
    """
    return (
        *_modality_flags(volume, ranges),
        *_spacing_flags(volume, ranges),
        *_extent_flags(volume, ranges),
        *_slice_flags(volume, ranges),
        *_intensity_flags(volume, ranges),
    )


def _modality_flags(volume: Volume, ranges: InputRanges) -> Iterator[Flag]:
    if ranges.modality and volume.modality and volume.modality != ranges.modality:
        yield Flag(
            "modality-unexpected",
            "error",
            f"Volume {volume.id}: modality {volume.modality}, but the model learned from "
            f"{ranges.modality} only. Do not use this result.",
        )


def _spacing_flags(volume: Volume, ranges: InputRanges) -> Iterator[Flag]:
    spacing_mm, _ = grid_facts(volume, ranges.axes)
    names = _AXIS_NAMES[ranges.axes]
    for name, value, (low, high) in zip(names, spacing_mm, ranges.spacing_mm or (), strict=False):
        if not low <= value <= high:
            yield Flag(
                "spacing-outside-training",
                "warning",
                f"Volume {volume.id}: spacing along the {name} axis is {value:.2f} mm, training "
                f"images had {low:.2f} to {high:.2f} mm. Check the masks slice by slice.",
            )


def _extent_flags(volume: Volume, ranges: InputRanges) -> Iterator[Flag]:
    _, extent_mm = grid_facts(volume, ranges.axes)
    names = _AXIS_NAMES[ranges.axes]
    for name, value, (low, high) in zip(names, extent_mm, ranges.extent_mm or (), strict=False):
        found = f"Volume {volume.id}: the field of view along the {name} axis is {value:.0f} mm"
        if value < low:
            yield Flag(
                "field-of-view-small",
                "warning",
                f"{found}, training images had at least {low:.0f} mm. Structures may be missing "
                "or cut off; volumes are then too small.",
            )
        if value > high:
            yield Flag(
                "field-of-view-large",
                "warning",
                f"{found}, training images had at most {high:.0f} mm. Look for masks far from "
                "the organ, or crop to the region the model is meant for.",
            )


def _slice_flags(volume: Volume, ranges: InputRanges) -> Iterator[Flag]:
    slices = volume.geometry.shape[2]
    if ranges.min_slices is not None and slices < ranges.min_slices:
        yield Flag(
            "slices-few",
            "warning",
            f"Volume {volume.id}: {slices} slices, training images had at least "
            f"{ranges.min_slices}. Volumes and findings that need the whole organ are uncertain.",
        )


def _intensity_flags(volume: Volume, ranges: InputRanges) -> Iterator[Flag]:
    percentiles = intensity_percentiles(volume.array)
    if percentiles[0] == percentiles[-1]:
        yield Flag(
            "contrast-missing",
            "error",
            f"Volume {volume.id}: nearly all voxels have the value {percentiles[0]:g}. The image "
            "is empty; export it again.",
        )
        return
    for rank, value, (low, high) in zip(
        PERCENTILES, percentiles, ranges.intensity or (), strict=False
    ):
        if not low <= value <= high:
            yield Flag(
                "intensity-outside-training",
                "warning",
                f"Volume {volume.id}: {rank} % of the voxels lie below {value:.0f}, in training "
                f"images below {low:.0f} to {high:.0f}. Check the rescale slope and intercept, "
                "the contrast phase and the body part.",
            )
    yield from _contrast_flags(volume, ranges, relative_median(percentiles))


def _contrast_flags(volume: Volume, ranges: InputRanges, value: float) -> Iterator[Flag]:
    low, high = ranges.relative_median or (0.0, 1.0)
    if not low <= value <= high:
        yield Flag(
            "contrast-outside-training",
            "warning",
            f"Volume {volume.id}: the median lies at {value:.2f} of the range from dark to "
            f"bright, in training images at {low:.2f} to {high:.2f}. The image may be inverted "
            "or another sequence.",
        )
