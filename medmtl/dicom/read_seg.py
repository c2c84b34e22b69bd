"""A DICOM segmentation, of medmtl or anybody, as masks on the grid of a volume.

Each frame is put where its own position and orientation say, never where its number would.
Frames that lie on the grid are copied pixel by pixel; others (another resolution, an oblique or a
tilted stack) are sampled at the nearest pixel, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.labels import Code
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.seg_placing import Frames, place
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Overlap", "ReadSegment", "Segmentation", "read_seg"]

_DEFAULT = ReadLimits()


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
        whole = np.zeros(shape, dtype=bool)
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
        whole = np.zeros(self.geometry.shape, dtype=dtype)
        for segment in self.segments:
            whole[segment.box][segment.inside] = chosen[segment.number]
        return whole


def read_seg(
    path: Path,
    geometry: Geometry,
    *,
    frame_of_reference_uid: str = "",
    limits: ReadLimits = _DEFAULT,
) -> Segmentation:
    """Read a segmentation onto a grid.

    Args:
        path: A DICOM SEG file: binary, fractional (cut at half) or label map.
        geometry: The grid of the volume that the masks belong to.
        frame_of_reference_uid: Of that volume; the object must have the same. "" does not check.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is no segmentation, is damaged, or of another frame of
            reference.
    """
    try:
        answer, pixels = shared_worker(limits).segmentation(path)
    except WorkerError as error:
        raise _refusal(path, error.code, error.found, error.expected) from error
    own = str(answer["frame_of_reference"])
    if frame_of_reference_uid and own != frame_of_reference_uid:
        found = "another frame of reference than the image's"
        raise _refusal(path, "other-frame-of-reference", found, "the image's own")
    frames = Frames.of(answer, pixels)
    segments, shared = [], []
    label_map = np.zeros(geometry.shape, dtype=np.uint16)
    sampled = outside = False
    for item in sorted(answer["segments"], key=lambda item: item["number"]):
        if frames.is_label_map and item["number"] == 0:
            continue  # the background has a description of its own there
        placed = place(frames, item["number"], geometry)
        sampled, outside = sampled or placed.is_sampled, outside or placed.lost > 0
        segment = _segment(item, placed.mask)
        here = label_map[segment.box]
        others, counts = np.unique(here[segment.inside], return_counts=True)
        shared += [
            Overlap(int(other), segment.number, int(count))
            for other, count in zip(others, counts, strict=True)
            if other
        ]
        here[segment.inside] = segment.number
        segments.append(segment)
    flags = _flags(frames, shared, sampled=sampled, outside=outside)
    return Segmentation(
        geometry, tuple(segments), tuple(shared), own, tuple(answer["series"]), flags
    )


def _refusal(path: Path, code: str, found: str, expected: str) -> InputRefusedError:
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
    inside = mask[box].copy()
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
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0))
    return sides[0], sides[1], sides[2]


def _flags(
    frames: Frames, overlaps: list[Overlap], *, sampled: bool, outside: bool
) -> tuple[Flag, ...]:
    flags = []
    if overlaps:
        total = sum(overlap.voxels for overlap in overlaps)
        message = f"{len(overlaps)} pairs of segments share {total} voxels."
        flags.append(Flag("segments-overlap", "warning", message))
    if sampled:
        message = "The segmentation lies on another grid; masks were sampled at nearest pixels."
        flags.append(Flag("segmentation-resampled", "warning", message))
    if outside:
        message = "A part of the segmentation lies outside of the image and was left out."
        flags.append(Flag("segmentation-outside", "warning", message))
    if frames.is_fractional:
        message = "Fractional segmentation, cut at half of its maximum."
        flags.append(Flag("segmentation-fractional", "info", message))
    return tuple(flags)
