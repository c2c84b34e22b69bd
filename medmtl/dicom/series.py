"""Selection inside one series: what of it is a volume, and why the rest is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.dicom.classify import is_enhanced
from medmtl.dicom.frames import Frame, Instance, frames_of, geometry_problem, make_frame, short_hash
from medmtl.dicom.grid import Layout, lay_out
from medmtl.dicom.split import split_frames
from medmtl.dicom.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.dicom.limits import ReadLimits

__all__ = ["Accepted", "SeriesKey", "SeriesResult", "select_series", "single_slice_refusal"]

SeriesKey = tuple[str, str, str]
"""Patient key, Study Instance UID, Series Instance UID: series of two patients never merge."""

ORIENTATION_TOLERANCE = 2e-3
"""Largest difference of direction cosines inside one stack (0.1 degrees)."""
SPACING_TOLERANCE = 5e-4
"""Largest relative difference of pixel spacings inside one stack."""
_SIDE_BY_SIDE_PX = 5.0
"""Stacks closer than this in their plane are one sheared stack rather than two."""
_SAME_THROUGHOUT = {
    "Modality": "modality", "PhotometricInterpretation": "photometric", "Units": "units",
}  # fmt: skip
_RESCALE = ("RescaleSlope", "RescaleIntercept")
_LARGEST_RESCALE = 1e12
"""Beyond this no single-precision value keeps a meaning."""
_EXPORT = "Export the series again from its source."


@dataclass(frozen=True, eq=False)
class Accepted:
    """A stack that can be read, and its grid."""

    stack: Stack
    layout: Layout


@dataclass(frozen=True, eq=False)
class SeriesResult:
    """What selection found in one series.

    Attributes:
        key: Patient, study and series.
        accepted: Readable stacks.
        refusals: Reasons for the rest.
        single: Frames of cine slices that stand alone, by suffix; several series may give a stack.
        left_out: Frames with a geometry that are in no accepted stack.
        lost: Number of images without a usable geometry.
    """

    key: SeriesKey
    accepted: tuple[Accepted, ...] = ()
    refusals: tuple[InputRefusedError, ...] = ()
    single: tuple[Stack, ...] = ()
    left_out: tuple[Frame, ...] = field(default=(), repr=False)
    lost: int = 0


def _refuse(source: str, code: str, found: str, expected: str, advice: str) -> InputRefusedError:
    return InputRefusedError(
        source, stage="select", code=code, found=found, expected=expected, advice=advice
    )


def _contradiction(instances: Sequence[Instance], source: str) -> InputRefusedError | None:
    """Attributes that must be the same in a whole series, and damage that leaves holes."""
    for instance in instances:
        if instance.is_truncated:
            return _refuse(
                instance.file.name, "truncated", "pixel data that end too early",
                "a whole file", "Copy the file again from its source.",
            )  # fmt: skip
    for keyword, word in _SAME_THROUGHOUT.items():
        values = {instance.text(keyword) for instance in instances} - {""}
        if len(values) > 1:
            return _refuse(
                source, f"mixed-{word}", f"{len(values)} values of {keyword}", "one in a series",
                _EXPORT,
            )  # fmt: skip
    return _rescale_problem(instances, source)


def _rescale_problem(instances: Sequence[Instance], source: str) -> InputRefusedError | None:
    values = [frame for instance in instances for frame in frames_of(instance)]
    has_slope = {"RescaleSlope" in frame for frame in values}
    has_intercept = {"RescaleIntercept" in frame for frame in values}
    has_lut = {"ModalityLUTSequence" in frame for frame in values}
    if (
        len(has_slope) > 1
        or len(has_intercept) > 1
        or len(has_lut) > 1
        or has_slope != has_intercept
    ):
        found = "rescale slope, intercept or modality LUT in a part of the images"
        return _refuse(source, "mixed-rescale", found, "both or none in every image", _EXPORT)
    if has_lut == {True} and has_slope == {True}:
        found = "both a modality LUT and a rescale slope"
        return _refuse(source, "ambiguous-rescale", found, "one of them", _EXPORT)
    for instance in instances:
        if any(frame.get("RescaleSlope", 1) == 0 for frame in frames_of(instance)):
            where = instance.file.name
            return _refuse(where, "zero-slope", "a rescale slope of 0", "another slope", _EXPORT)
        numbers = [frame.get(key, 0) for frame in frames_of(instance) for key in _RESCALE]
        if max(map(abs, numbers)) > _LARGEST_RESCALE:
            found = f"a rescale slope or intercept of {max(map(abs, numbers)):.0e}"
            return _refuse(
                instance.file.name, "implausible-rescale", found, "at most 1e+12", _EXPORT
            )
    return None


@lru_cache(maxsize=4096)
def _cached_problem(orientation: tuple[float, ...], spacing: tuple[float, ...]) -> object:
    """Orientation and spacing repeat from slice to slice; look at each pair once."""
    return geometry_problem(
        {
            "ImagePositionPatient": (0.0, 0.0, 0.0),
            "ImageOrientationPatient": orientation,
            "PixelSpacing": spacing,
        }
    )


def _geometry_problem(values: dict[str, object]) -> tuple[str, str, str] | None:
    position = values.get("ImagePositionPatient")
    orientation, spacing = values.get("ImageOrientationPatient"), values.get("PixelSpacing")
    plain = isinstance(orientation, tuple) and isinstance(spacing, tuple) and not values.get("bad")
    if plain and isinstance(position, tuple) and len(position) == 3:
        known = _cached_problem(orientation, spacing)
        if known is None and max(map(abs, position)) <= 1e5:
            return None
    return geometry_problem(values)


def _frames(
    instances: Sequence[Instance], source: str
) -> tuple[list[Frame], list[InputRefusedError]]:
    """Frames with a geometry, and one refusal for each kind of missing geometry."""
    frames: list[Frame] = []
    problems: dict[str, tuple[list[str], tuple[str, str, str]]] = {}
    for instance in instances:
        for index, values in enumerate(frames_of(instance)):
            problem = _geometry_problem(values)
            if problem is None:
                frames.append(make_frame(instance, index, values))
            else:
                problems.setdefault(problem[0], ([], problem))[0].append(instance.file.name)
    refusals = []
    for names, (code, found, expected) in problems.values():
        where = names[0] if len(set(names)) == 1 else source
        refusals.append(_refuse(where, code, f"{found} in {len(names)} images", expected, _EXPORT))
    return frames, refusals


def _close(one: Frame, other: Frame) -> bool:
    if one.shape != other.shape:
        return False
    if one.orientation is not other.orientation and (
        np.abs(one.orientation - other.orientation).max() > ORIENTATION_TOLERANCE
    ):
        return False
    return all(
        abs(mine - theirs) <= SPACING_TOLERANCE * mine
        for mine, theirs in zip(one.spacing, other.spacing, strict=True)
    )


def _by_geometry(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Groups of equal orientation, matrix and pixel spacing, the largest first."""
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((group for group in groups if _close(group[0], frame)), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return sorted(
        groups, key=lambda group: (-len(group), tuple(group[0].orientation), group[0].shape)
    )


def _by_column(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Stacks side by side: the same orientation, but far apart in the plane.

    Only where a few places hold many slices each; a sheared stack has as many places as slices.
    """
    row, column = frames[0].orientation[:3], frames[0].orientation[3:]
    half_pixel = min(frames[0].spacing) / 2
    apart_mm = _SIDE_BY_SIDE_PX * min(frames[0].spacing)
    places: list[tuple[np.ndarray, list[Frame]]] = []
    for frame in frames:
        point = np.array([frame.position @ row, frame.position @ column])
        near = next((p for p in places if np.abs(p[0] - point).max() <= half_pixel), None)
        if near is None:
            if len(places) > len(frames) // 3:
                return [list(frames)]
            places.append((point, [frame]))
        else:
            near[1].append(frame)
    if len(places) < 2 or min(len(group) for _, group in places) < 3:
        return [list(frames)]
    points = np.array([point for point, _ in places])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    if distances[~np.eye(len(places), dtype=bool)].min() < apart_mm:
        return [list(frames)]
    places.sort(key=lambda place: tuple(np.round(place[0], 3)))
    return [group for _, group in places]


def _frame_of_reference_problem(frames: Sequence[Frame], source: str) -> InputRefusedError | None:
    references = Counter(frame.values.get("FrameOfReferenceUID", "") for frame in frames)
    if len([uid for uid in references if uid]) > 1:
        found = f"{len(references)} frames of reference in one stack"
        return _refuse(source, "mixed-frames-of-reference", found, "one", _EXPORT)
    return None


def select_series(
    key: SeriesKey, instances: Sequence[Instance], *, limits: ReadLimits
) -> SeriesResult:
    """Find the readable volumes of one series.

    Args:
        key: Patient, study and series.
        instances: Images of the series, any order.
        limits: Largest volume.

    Returns:
        Accepted stacks, refusals, and cine slices that stand alone.
    """
    source = f"series {short_hash(key[2])}"
    problem = _contradiction(instances, source)
    if problem is not None:
        return SeriesResult(key, refusals=(problem,), left_out=tuple(_frames(instances, source)[0]))
    frames, refusals = _frames(instances, source)
    accepted: list[Accepted] = []
    single: list[Stack] = []
    left_out: list[Frame] = []
    groups = [column for group in _by_geometry(frames) for column in _by_column(group)]
    several = len([group for group in groups if len(group) > 1]) > 1
    for number, group in enumerate(groups):
        suffix = f"-s{number + 1}" if several else ""
        part = _select_group(group, source=source, suffix=suffix, limits=limits)
        accepted += part.accepted
        single += part.single
        refusals += part.refusals
        left_out += part.left_out
    lost = sum(len(frames_of(instance)) for instance in instances) - len(frames)
    return SeriesResult(key, tuple(accepted), tuple(refusals), tuple(single), tuple(left_out), lost)


def _select_group(
    group: list[Frame], *, source: str, suffix: str, limits: ReadLimits
) -> SeriesResult:
    problem = _frame_of_reference_problem(group, source)
    if problem is not None:
        return SeriesResult(("", "", ""), refusals=(problem,), left_out=tuple(group))
    stacks, refusals = split_frames(group, source=source, suffix=suffix)
    accepted: list[Accepted] = []
    single: list[Stack] = []
    left_out = [frame for frame in group if not stacks]
    for stack in stacks:
        if len(stack.frames) == 1:
            single.append(stack)
            left_out += stack.frames
            continue
        try:
            accepted += _laid_out(stack, source=source, limits=limits)
        except InputRefusedError as error:
            refusals.append(error)
            left_out += stack.frames
    return SeriesResult(
        ("", "", ""), tuple(accepted), tuple(refusals), tuple(single), tuple(left_out)
    )


def _laid_out(stack: Stack, *, source: str, limits: ReadLimits) -> list[Accepted]:
    """The grid of a stack, or of the blocks that its acquisition numbers or stack ids name."""
    try:
        layouts = [(stack, lay_out(stack.frames, source=source))]
    except InputRefusedError:
        blocks = _blocks(stack)
        if not blocks:
            raise
        layouts = [(block, lay_out(block.frames, source=source)) for block in blocks]
    for _, layout in layouts:
        _check_size(layout, source, limits)
    return [Accepted(one, layout) for one, layout in layouts]


def _blocks(stack: Stack) -> list[Stack]:
    """Consecutive stacks of one series, told apart by stack id or acquisition number."""
    for keyword, letter in (("StackID", "s"), ("AcquisitionNumber", "a")):
        groups: dict[object, list[Frame]] = {}
        for frame in stack.frames:
            groups.setdefault(frame.values.get(keyword), []).append(frame)
        if len(groups) > 1 and None not in groups and min(map(len, groups.values())) >= 3:
            ordered = sorted(groups.items(), key=lambda item: str(item[0]).zfill(12))
            return [
                Stack(
                    tuple(frames), f"{stack.suffix}-{letter}{rank + 1}", stack.phase,
                    stack.time_ms, (*stack.flags, _block_flag(len(groups), keyword)),
                )
                for rank, (_, frames) in enumerate(ordered)
            ]  # fmt: skip
    return []


def _block_flag(count: int, keyword: str) -> Flag:
    return Flag("stacks-split", "warning", f"{count} separate stacks told apart by {keyword}.")


def _check_size(layout: Layout, source: str, limits: ReadLimits) -> None:
    columns, rows, count = layout.geometry.shape
    needed = columns * rows * count * 4
    if needed > limits.max_pixel_bytes:
        raise _refuse(
            source, "too-large", f"a volume of {needed / 1024**3:.1f} GiB",
            f"at most {limits.max_pixel_bytes / 1024**3:.1f} GiB", "Raise the limit to read it.",
        )  # fmt: skip


def single_slice_refusal(stack: Stack, source: str) -> InputRefusedError:
    """The refusal of a slice that stands alone."""
    frame = stack.frames[0]
    where = frame.instance.file.name if not is_enhanced(frame.instance) else source
    return _refuse(
        where, "single-slice", "one slice of this orientation and size",
        "at least two parallel slices", "Add the other slices, or ignore this if it is a scout.",
    )  # fmt: skip
