"""A stack: the frames of one volume, before they are ordered; and how positions are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.flags import Flag
    from medmtl.dicom.frames import Frame

__all__ = ["Stack", "bucket_frames", "heights_mm", "is_interleaved"]

_SAME_POSITION_MM = 0.01
_SHARE_OF_THICKNESS = (0.01, 0.02, 0.05)


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames that belong to one volume.

    Attributes:
        frames: In any order.
        suffix: What tells the stack from others of its series, such as "-e1"; not the phase.
        phase: Rank among the phases of its series, None where it is no phase.
        time_ms: Median time of the phase.
        flags: Raised while splitting.
    """

    frames: tuple[Frame, ...]
    suffix: str = ""
    phase: int | None = None
    time_ms: float | None = None
    flags: tuple[Flag, ...] = ()


def heights_mm(frames: Sequence[Frame]) -> list[float]:
    """Positions along the normal of the first frame."""
    normal = frames[0].normal
    return [float(frame.position @ normal) for frame in frames]


def _bucket(frames: Sequence[Frame], tolerance_mm: float) -> list[list[Frame]]:
    heights = heights_mm(frames)
    order = np.argsort(heights, kind="stable")
    buckets: list[list[Frame]] = []
    last = -np.inf
    for index in order:
        if heights[index] - last > tolerance_mm:
            buckets.append([])
        buckets[-1].append(frames[index])
        last = heights[index]
    return buckets


def bucket_frames(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames by slice position, from the lowest along the normal.

    Positions within 0.01 mm are one. Where that gives unequal counts, wider tolerances up to 5 % of
    the slice thickness are tried, because phases of one slice can jitter.
    """
    thickness = max((float(frame.values.get("SliceThickness", 0)) for frame in frames), default=0)
    narrow = _bucket(frames, _SAME_POSITION_MM)
    if len({len(bucket) for bucket in narrow}) == 1 and len(narrow[0]) > 1:
        return narrow
    for share in _SHARE_OF_THICKNESS:
        wide = _bucket(frames, max(share * thickness, _SAME_POSITION_MM))
        counts = Counter(len(bucket) for bucket in wide)
        if len(counts) == 1 and len(wide) < len(narrow):
            return wide
    return narrow


def is_interleaved(groups: Sequence[Sequence[Frame]]) -> bool:
    """Whether the ranges of any two groups along the normal overlap."""
    normal = groups[0][0].normal
    ranges = []
    for group in groups:
        along = [float(frame.position @ normal) for frame in group]
        ranges.append((min(along), max(along)))
    ranges.sort()
    return any(
        following[0] < previous[1] - _SAME_POSITION_MM for previous, following in pairwise(ranges)
    )
