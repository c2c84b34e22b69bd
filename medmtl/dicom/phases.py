"""Cine and dynamic series: frames at one position ranked by time."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from medmtl.core.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.dicom.frames import Frame

__all__ = ["complete_positions", "phase_flags", "rank_by_time"]

_USUAL_SHARE = 0.6
_STEP_RANGE = (0.25, 1.75)


def _times(bucket: Sequence[Frame], keyword: str) -> list[float] | None:
    """Distinct times in ascending order, None where one is missing or repeated."""
    times = [frame.values.get(keyword) for frame in bucket]
    if any(time is None for time in times):
        return None
    ordered = sorted(float(time) for time in times if time is not None)
    return ordered if len(set(ordered)) == len(ordered) else None


def _last_repeat(bucket: Sequence[Frame], count: int, keyword: str) -> list[Frame] | None:
    """The last of several whole cine runs at one position, told apart by instance number."""
    ordered = sorted(bucket, key=lambda frame: int(frame.values.get("InstanceNumber", 0)))
    runs = [ordered[start : start + count] for start in range(0, len(ordered), count)]
    for run in runs:
        times = _times(run, keyword)
        if times is None or times != [float(frame.values[keyword]) for frame in run]:
            return None
    return runs[-1]


def complete_positions(
    buckets: Sequence[list[Frame]], keyword: str
) -> tuple[list[list[Frame]], tuple[Flag, ...]]:
    """Positions with the usual number of phases; incomplete ones are left out at the ends only.

    Args:
        buckets: Frames by position.
        keyword: The attribute that holds the time.

    Returns:
        Buckets of equal size (empty where none is safe), and flags that say what was left out.
    """
    count, positions = Counter(len(bucket) for bucket in buckets).most_common(1)[0]
    if count < 2 or positions < _USUAL_SHARE * len(buckets):
        return [], ()
    kept: list[list[Frame] | None] = []
    repeated = 0
    for bucket in buckets:
        if len(bucket) > count and len(bucket) % count == 0:
            repeated += 1
            kept.append(_last_repeat(bucket, count, keyword))
        else:
            kept.append(bucket if len(bucket) == count else None)
    return _ends_trimmed(kept, repeated=repeated)


def _ends_trimmed(
    kept: Sequence[list[Frame] | None], *, repeated: int
) -> tuple[list[list[Frame]], tuple[Flag, ...]]:
    present = [number for number, bucket in enumerate(kept) if bucket is not None]
    inner = kept[present[0] : present[-1] + 1]
    complete = [bucket for bucket in inner if bucket is not None]
    if len(complete) != len(inner):
        return [], ()
    flags = []
    if len(complete) < len(kept):
        message = f"{len(kept) - len(complete)} slices at an end lack phases and were left out."
        flags.append(Flag("incomplete-phases-dropped", "warning", message))
    if repeated:
        message = f"{repeated} slices were acquired more than once; the last run was used."
        flags.append(Flag("repeated-slice-last-kept", "warning", message))
    return complete, tuple(flags)


def rank_by_time(buckets: Sequence[Sequence[Frame]], keyword: str) -> list[list[Frame]] | None:
    """Frames by rank of time inside each position.

    Args:
        buckets: Frames by position, equally many at each.
        keyword: The attribute that holds the time.

    Returns:
        One list of frames per phase, or None where times are missing or repeated.
    """
    if any(_times(bucket, keyword) is None for bucket in buckets):
        return None
    ordered = [sorted(bucket, key=lambda frame: float(frame.values[keyword])) for bucket in buckets]
    return [list(phase) for phase in zip(*ordered, strict=True)]


def phase_flags(buckets: Sequence[Sequence[Frame]], keyword: str) -> tuple[Flag, ...]:
    """Flags where times are irregular or contradict the instance numbers."""
    flags = []
    if any(_is_irregular(bucket, keyword) for bucket in buckets):
        message = f"{keyword} does not grow evenly from phase to phase at every slice."
        flags.append(Flag("phase-times-irregular", "warning", message))
    if len({_agrees_with_instances(bucket, keyword) for bucket in buckets}) > 1:
        message = f"The order by {keyword} differs from the instance numbers at some slices."
        flags.append(Flag("phase-order-differs", "warning", message))
    return tuple(flags)


def _is_irregular(bucket: Sequence[Frame], keyword: str) -> bool:
    times = _times(bucket, keyword) or []
    steps = [later - earlier for earlier, later in pairwise(times)]
    usual = median(steps) if steps else 0.0
    low, high = _STEP_RANGE
    return any(not low * usual <= step <= high * usual for step in steps)


def _agrees_with_instances(bucket: Sequence[Frame], keyword: str) -> bool:
    ordered = sorted(bucket, key=lambda frame: float(frame.values[keyword]))
    numbers = [int(frame.values.get("InstanceNumber", 0)) for frame in ordered]
    return numbers == sorted(numbers)
