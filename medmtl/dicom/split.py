"""One series into volumes: echoes, phases, b-values, acquisitions and stacks are never mixed.

Frames of equal orientation, matrix and spacing come in. With several frames at each position, an
attribute that tells them apart splits them. With one frame at each position, an attribute splits
only if its groups are equally large and interleave. Phases are ranked by time inside each position,
because trigger times of different slices are never exactly equal.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.dicom.duplicates import collapse_identical, duplicate_flag
from medmtl.dicom.phases import complete_positions, phase_flags, rank_by_time
from medmtl.dicom.stack import Stack, bucket_frames, is_interleaved

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from medmtl.dicom.frames import Frame

__all__ = ["split_frames"]

_BEFORE_TIME = (
    ("ImageType", "m"), ("ComplexImageComponent", "m"), ("MetaboliteMapDescription", "m"),
    ("EchoNumbers", "e"), ("EchoTime", "e"), ("InversionTime", "i"), ("DiffusionBValue", "b"),
    ("SiemensBValue", "b"), ("GEBValue", "b"), ("DiffusionGradientOrientation", "g"),
    ("StackID", "s"), ("TemporalPositionIdentifier", "t"),
)  # fmt: skip
_AFTER_TIME = (("ConvolutionKernel", "k"), ("KVP", "v"), ("AcquisitionNumber", "a"))
_INTERLEAVED = (*_BEFORE_TIME, ("AcquisitionNumber", "a"), ("TriggerTime", "t"))
_PHASE_LETTER = "t"
_SAME_MOMENT_MS = 10.0
"""Steps of a cine are longer; trigger times of one moment differ, each slice being gated anew."""


def _value(frame: Frame, keyword: str) -> Hashable:
    value = frame.values.get(keyword)
    if keyword == "EchoTime" and value is not None:
        return round(float(value), 1)  # scanners round it differently from slice to slice
    if isinstance(value, list):
        return tuple(value)
    return value


def _groups(frames: Sequence[Frame], keyword: str) -> list[list[Frame]]:
    """Frames by value, in the order of the values; frames without one come first."""
    found: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[_value(frame, keyword)].append(frame)
    ordered = sorted(found, key=lambda key: (key is not None, str(type(key)), key))
    groups = [found[key] for key in ordered]
    return _moments(groups) if keyword == "TriggerTime" else groups


def _moments(groups: Sequence[list[Frame]]) -> list[list[Frame]]:
    """Groups in the order of their trigger times, joined where these follow at once."""
    moments: list[list[Frame]] = []
    last_ms = math.nan
    for group in groups:
        time_ms = float(group[0].values.get("TriggerTime", math.nan))
        if time_ms - last_ms < _SAME_MOMENT_MS:
            moments[-1] = moments[-1] + group
        else:
            moments.append(group)
        last_ms = time_ms
    return moments


def _most(buckets: Sequence[Sequence[Frame]]) -> int:
    return max(len(bucket) for bucket in buckets)


def _separates(groups: Sequence[Sequence[Frame]], most: int) -> bool:
    """Whether every large group has fewer frames per position than all frames together."""
    large = [group for group in groups if len(group) >= 2]
    return len(large) >= 2 and all(_most(bucket_frames(group)) < most for group in large)


def _by_attribute(
    stack: Stack, keywords: Sequence[tuple[str, str]], most: int
) -> list[Stack] | None:
    """Split by the first attribute that tells frames at one position apart."""
    for keyword, letter in keywords:
        groups = _groups(stack.frames, keyword)
        if len(groups) > 1 and _separates(groups, most):
            return _named(stack, groups, letter)
    return None


def _named(stack: Stack, groups: Sequence[Sequence[Frame]], letter: str) -> list[Stack]:
    if letter == _PHASE_LETTER and stack.phase is None:
        return [
            replace(stack, frames=tuple(group), phase=rank, time_ms=_median_time(group))
            for rank, group in enumerate(groups)
        ]
    return [
        replace(stack, frames=tuple(group), suffix=f"{stack.suffix}-{letter}{rank + 1}")
        for rank, group in enumerate(groups)
    ]


def _median_time(frames: Sequence[Frame]) -> float | None:
    times = [frame.values.get("TriggerTime") for frame in frames]
    known = [float(time) for time in times if time is not None]
    return median(known) if len(known) == len(times) else None


def _interleaved(stack: Stack) -> list[Stack] | None:
    """Split stacks that lie between each other, one frame at each position."""
    if stack.phase is not None:
        return None
    for keyword, letter in _INTERLEAVED:
        groups = _groups(stack.frames, keyword)
        sizes = [len(group) for group in groups]
        if len(groups) < 2 or min(sizes) < 2 or max(sizes) - min(sizes) > 1:
            continue
        if is_interleaved(groups):
            flag = Flag(
                "interleaved-stacks-split",
                "warning",
                f"{len(groups)} interleaved stacks told apart by {keyword}.",
            )
            return [
                replace(part, flags=(*part.flags, flag)) for part in _named(stack, groups, letter)
            ]
    return None


def _without_copies(stack: Stack, buckets: Sequence[Sequence[Frame]]) -> Stack | None:
    """Collapse identical frames; None where there are none."""
    kept = [collapse_identical(bucket) for bucket in buckets]
    dropped = [len(bucket) - len(rest) for bucket, rest in zip(buckets, kept, strict=True)]
    if not any(dropped):
        return None
    frames = tuple(frame for rest in kept for frame in rest)
    return replace(stack, frames=frames, flags=(*stack.flags, duplicate_flag(dropped)))


def _phases(stack: Stack, buckets: list[list[Frame]], keyword: str) -> list[Stack] | None:
    if stack.phase is not None:
        return None
    complete, flags = complete_positions(buckets, keyword)
    ranked = rank_by_time(complete, keyword) if complete else None
    if ranked is None:
        return None
    flags = (*stack.flags, *flags, *phase_flags(complete, keyword))
    start = min(float(frame.values[keyword]) for frame in ranked[0])
    scale = 1.0 if keyword == "TriggerTime" else 1000.0
    offset = 0.0 if keyword == "TriggerTime" else start
    return [
        replace(
            stack,
            frames=tuple(group),
            phase=rank,
            time_ms=scale * (median(float(frame.values[keyword]) for frame in group) - offset),
            flags=flags,
        )
        for rank, group in enumerate(ranked)
    ]


def _conflict(buckets: Sequence[Sequence[Frame]], source: str) -> InputRefusedError:
    counts = Counter(len(bucket) for bucket in buckets)
    number = next(n for n, bucket in enumerate(buckets) if len(bucket) > 1)
    frame = buckets[number][0]
    height = float(frame.position @ frame.normal)
    return InputRefusedError(
        source,
        stage="select",
        code="conflicting-slices",
        found=f"{len(buckets[number])} different images at one position (slice {number + 1} of "
        f"{len(buckets)}, at {height:.2f} mm along the slice normal; images per position: "
        f"{', '.join(str(count) for count in sorted(counts))})",
        expected="one image at each position, or attributes that tell phases or echoes apart",
        advice="Separate the acquisitions before export.",
    )


def split_frames(
    frames: Sequence[Frame], *, source: str, suffix: str = ""
) -> tuple[list[Stack], list[InputRefusedError]]:
    """Split frames of equal orientation, matrix and spacing into volumes.

    Args:
        frames: At least one frame.
        source: Name of the series in refusals.
        suffix: What the stacks' suffixes begin with.

    Returns:
        Stacks with one frame at each position, and what was refused.
    """
    done: list[Stack] = []
    refused: list[InputRefusedError] = []
    pending = [Stack(tuple(frames), suffix)]
    while pending:
        stack = pending.pop(0)
        buckets = bucket_frames(stack.frames)
        most = _most(buckets)
        parts = _interleaved(stack) if most == 1 else _resolve(stack, buckets, most)
        if parts:
            pending = parts + pending
        elif most == 1:
            done.append(stack)
        else:
            refused.append(_conflict(buckets, source))
    return done, refused


def _resolve(stack: Stack, buckets: list[list[Frame]], most: int) -> list[Stack] | None:
    """Try every way to tell frames at one position apart, the surest first."""
    parts = _by_attribute(stack, _BEFORE_TIME, most) or _phases(stack, buckets, "TriggerTime")
    parts = parts or _by_attribute(stack, _AFTER_TIME, most)
    if parts:
        return parts
    smaller = _without_copies(stack, buckets)
    if smaller is not None:
        return [smaller]
    return _phases(stack, buckets, "AcquisitionTime")
