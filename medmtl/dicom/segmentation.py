"""The segments of somebody's file on the grid of a volume, wherever they were read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.labels import Code

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.dicom.seg_placing import Placed

__all__ = ["Collector", "Overlap", "ReadSegment", "Segmentation", "refuse_segmentation"]


@dataclass(frozen=True, eq=False)
class ReadSegment:
    """One segment on the grid.

    Attributes:
        number: Segment number of the object.
        label: Its label.
        category: Category code, None where not given.
        type: Type code, None where not given.
        tracking_uid: "" where not given.
        algorithm_type: "AUTOMATIC", "SEMIAUTOMATIC", "MANUAL" or "".
        box: Part of the grid that holds the segment; empty slices where it is empty.
        inside: The mask in that part, bool.
        voxels: Number of voxels.
    """

    number: int
    label: str
    category: Code | None
    type: Code | None
    tracking_uid: str
    algorithm_type: str
    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]
    voxels: int

    def mask(self, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        """The whole mask, shape (i, j, k)."""
        whole = np.zeros(shape, dtype=bool, order="F")
        whole[self.box] = self.inside
        return whole


@dataclass(frozen=True)
class Overlap:
    """Voxels that two segments share."""

    first: int
    second: int
    voxels: int


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segments of one object on one grid.

    Attributes:
        geometry: The grid.
        segments: In the order of their numbers.
        overlaps: Pairs of segments that share voxels.
        frame_of_reference_uid: Of the object.
        series_uids: Series that the object says it was made from.
        flags: What a user must know of the reading.
    """

    geometry: Geometry
    segments: tuple[ReadSegment, ...]
    overlaps: tuple[Overlap, ...]
    frame_of_reference_uid: str
    series_uids: tuple[str, ...]
    flags: tuple[Flag, ...]

    def label_map(self, labels: Mapping[int, int] | None = None) -> NDArray[Any]:
        """One label per voxel, shape (i, j, k), uint8 or uint16; of an overlap the last stays.

        Args:
            labels: Label of each segment number; the number itself where None.

        Raises:
            KeyError: If a segment's number is not in `labels`.
        """
        chosen = {s.number: s.number if labels is None else labels[s.number] for s in self.segments}
        dtype = np.uint8 if max(chosen.values(), default=0) < 256 else np.uint16
        whole = np.zeros(self.geometry.shape, dtype=dtype, order="F")
        for segment in self.segments:
            whole[segment.box][segment.inside] = chosen[segment.number]
        return whole


@dataclass(eq=False)
class Collector:
    """Takes one placed segment after the other, and notes what a user must know.

    Attributes:
        geometry: The grid.
        segments: So far.
        overlaps: So far.
        is_sampled: Whether any mask had to be sampled.
        is_outside: Whether any pixel lay outside of the grid.
    """

    geometry: Geometry
    segments: list[ReadSegment] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    is_sampled: bool = False
    is_outside: bool = False

    def __post_init__(self) -> None:
        """Start with an empty grid."""
        self._numbers = np.zeros(self.geometry.shape, dtype=np.uint16, order="F")

    def add(self, item: Mapping[str, Any], placed: Placed) -> None:
        """Take a segment: its description by the worker, and its mask."""
        self.is_sampled |= placed.is_sampled
        self.is_outside |= placed.lost > 0
        segment = _segment(item, placed.mask)
        here = self._numbers[segment.box]
        others, counts = np.unique(here[segment.inside], return_counts=True)
        self.overlaps += [
            Overlap(int(other), segment.number, int(count))
            for other, count in zip(others, counts, strict=True)
            if other
        ]
        here[segment.inside] = segment.number
        self.segments.append(segment)

    def segmentation(
        self, *, frame_of_reference_uid: str, series_uids: tuple[str, ...], flags: tuple[Flag, ...]
    ) -> Segmentation:
        """All of it, with further flags behind its own."""
        own = []
        if self.overlaps:
            total = sum(overlap.voxels for overlap in self.overlaps)
            message = f"{len(self.overlaps)} pairs of segments share {total} voxels."
            own.append(Flag("segments-overlap", "warning", message))
        if self.is_sampled:
            message = "The segmentation lies on another grid; masks were sampled at nearest pixels."
            own.append(Flag("segmentation-resampled", "warning", message))
        if self.is_outside:
            message = "A part of the segmentation lies outside of the image and was left out."
            own.append(Flag("segmentation-outside", "warning", message))
        return Segmentation(
            geometry=self.geometry,
            segments=tuple(self.segments),
            overlaps=tuple(self.overlaps),
            frame_of_reference_uid=frame_of_reference_uid,
            series_uids=series_uids,
            flags=(*own, *flags),
        )


def refuse_segmentation(path: Path, code: str, found: str, expected: str) -> InputRefusedError:
    """A refusal of one file."""
    return InputRefusedError(
        path.name,
        stage="read",
        code=code,
        found=found,
        expected=expected,
        advice="Export the segmentation again, for this image.",
    )


def _segment(item: Mapping[str, Any], mask: NDArray[np.bool_]) -> ReadSegment:
    box = _box(mask)
    inside = mask[box].copy(order="K")
    return ReadSegment(
        number=item["number"],
        label=item["label"],
        category=_code(item["category"]),
        type=_code(item["type"]),
        tracking_uid=item["tracking_uid"],
        algorithm_type=item["algorithm_type"],
        box=box,
        inside=inside,
        voxels=int(inside.sum()),
    )


def _code(parts: list[str]) -> Code | None:
    return Code(parts[0], parts[1], parts[2]) if parts and parts[0] else None


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """The part that holds the mask; one pass over all of it, then over that part alone."""
    k = _range(mask, (0, 1))
    i, j = _range(mask[:, :, k], (1, 2)), _range(mask[:, :, k], (0, 2))
    return i, j, k


def _range(mask: NDArray[np.bool_], others: tuple[int, int]) -> slice:
    found = np.flatnonzero(np.any(mask, axis=others))
    return slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0)
