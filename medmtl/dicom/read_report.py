"""A measurement report (TID 1500), of medmtl or anybody: its groups, and their regions as masks.

A group's region is a segment of a DICOM segmentation that it cites, polygons in patient space, or
closed lines in the pixels of the volume's own source images. Others, such as ellipses, are none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.labels import Code
from medmtl.dicom.contours import FlatContour, place_contours
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.seg_placing import Frames, Placed, place, together
from medmtl.dicom.segmentation import Collector, Segmentation, refuse_segmentation
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.source import SourceFrame

__all__ = ["ReadGroup", "ReadReport", "read_report", "read_report_masks"]

_DEFAULT = ReadLimits()


@dataclass(frozen=True, eq=False)
class ReadGroup:
    """One measurement group.

    Attributes:
        tracking_id: "" where not given.
        tracking_uid: "" where not given.
        category: Of what was found; None where not given.
        type: What was found; None where not given.
        measurements: Name, value and unit of each number.
        evaluations: Name and value of each coded evaluation.
        segments: Instance UID of a segmentation, segment number (None for the frames' own), and
            frame numbers (from 1; none for all) of each segment that it cites.
        polygons: Frame of reference UID and points in mm, shape (N, 3), of each closed polygon.
        outlines: Instance UID and frame number (None for a single-frame image) of an image, and
            (column, row) of each closed line in it; (0.5, 0.5) is the centre of its first pixel.
        other_regions: How many regions are of a kind that is no mask.
    """

    tracking_id: str
    tracking_uid: str
    category: Code | None
    type: Code | None
    measurements: tuple[tuple[Code, float, Code], ...]
    evaluations: tuple[tuple[Code, Code], ...]
    segments: tuple[tuple[str, int | None, tuple[int, ...]], ...]
    polygons: tuple[tuple[str, NDArray[np.float64]], ...]
    outlines: tuple[tuple[str, int | None, NDArray[np.float64]], ...]
    other_regions: int


@dataclass(frozen=True, eq=False)
class ReadReport:
    """A report.

    Attributes:
        title: Coded title.
        is_verified: Whether somebody has signed it.
        predecessors: Instance UIDs of the versions that it replaces.
        comments: Every comment, from the top.
        groups: In the order of the report.
    """

    title: Code | None
    is_verified: bool
    predecessors: tuple[str, ...]
    comments: tuple[str, ...]
    groups: tuple[ReadGroup, ...]


def read_report(path: Path, *, limits: ReadLimits = _DEFAULT) -> ReadReport:
    """Read a report.

    Args:
        path: A DICOM structured report with measurement groups.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is no such report, or damaged.
    """
    try:
        answer = shared_worker(limits).report(path)
    except WorkerError as error:
        raise refuse_segmentation(path, error.code, error.found, error.expected) from error
    return ReadReport(
        title=_code(answer["title"]),
        is_verified=bool(answer["is_verified"]),
        predecessors=tuple(answer["predecessors"]),
        comments=tuple(answer["comments"]),
        groups=tuple(_group(item) for item in answer["groups"]),
    )


def read_report_masks(
    path: Path,
    geometry: Geometry,
    *,
    segmentations: Iterable[Path],
    source_frames: Sequence[SourceFrame] = (),
    frame_of_reference_uid: str = "",
    limits: ReadLimits = _DEFAULT,
) -> Segmentation:
    """The regions of a report on a grid, one segment per group that has any.

    Args:
        path: A DICOM structured report with measurement groups.
        geometry: The grid of the volume that the regions belong to.
        segmentations: Files among which the segmentations are that the report cites.
        source_frames: Of that volume, for lines that were drawn in their pixels; without them such
            lines are left out, and that is flagged.
        frame_of_reference_uid: Of that volume; regions in another one are refused. "" does not
            check.
        limits: What reading may cost.

    Returns:
        Segments numbered from 1 in the order of the groups, with the type and category of the
        group, labelled as the one segment that it cites, else by its tracking identifier.

    Raises:
        InputRefusedError: If the report or a segmentation cannot be read, lies in another frame of
            reference, or a segmentation that is cited is not among the files.
    """
    report = read_report(path, limits=limits)
    placed = [_in_space(group, source_frames, frame_of_reference_uid) for group in report.groups]
    with_region = [group for group in placed if group.segments or group.polygons]
    cited = {uid for group in with_region for uid, _, _ in group.segments}
    found = _cited(path, cited, segmentations, frame_of_reference_uid, limits)
    collector = Collector(geometry)
    for number, group in enumerate(with_region, start=1):
        parts = [
            _segment(found[uid].frames, segment, frames, geometry)
            for uid, segment, frames in group.segments
        ]
        parts.append(_polygons(path, group, geometry, frame_of_reference_uid))
        collector.add(_described(number, group, found), together(parts, geometry))
    left_out = sum(group.other_regions + len(group.outlines) for group in placed)
    message = f"{left_out} regions are no polygon, or of an image not given; they were left out."
    return collector.segmentation(
        frame_of_reference_uid=frame_of_reference_uid,
        series_uids=(),
        flags=(Flag("regions-left-out", "warning", message),) if left_out else (),
    )


def _code(parts: list[str]) -> Code | None:
    return Code(parts[0], parts[1], parts[2]) if parts and parts[0] else None


def _named(parts: list[str]) -> Code:
    return _code(parts) or Code("", "", "")


def _group(item: Mapping[str, Any]) -> ReadGroup:
    return ReadGroup(
        tracking_id=item["tracking_id"],
        tracking_uid=item["tracking_uid"],
        category=_code(item["category"]),
        type=_code(item["type"]),
        measurements=tuple((_named(n), v, _named(u)) for n, v, u in item["measurements"]),
        evaluations=tuple((_named(name), _named(value)) for name, value in item["evaluations"]),
        segments=tuple((uid, number, tuple(frames)) for uid, number, frames in item["segments"]),
        polygons=tuple(
            (frame, np.reshape(points[: len(points) // 3 * 3], (-1, 3)))
            for frame, points in item["polygons"]
        ),
        outlines=tuple(
            (uid, frame, np.reshape(points[: len(points) // 2 * 2], (-1, 2)))
            for uid, frame, points in item["outlines"]
        ),
        other_regions=item["other_regions"],
    )


def _in_space(
    group: ReadGroup, source_frames: Sequence[SourceFrame], frame_of_reference_uid: str
) -> ReadGroup:
    """The group with every outline in an image that is given as a polygon in mm."""
    known = {(frame.sop_instance_uid, frame.frame_number): frame for frame in source_frames}
    polygons, left = list(group.polygons), []
    for uid, number, points in group.outlines:
        frame = known.get((uid, number))
        if frame is None:
            left.append((uid, number, points))
            continue
        row, column = np.reshape(frame.orientation, (2, 3))
        row_mm, column_mm = frame.spacing_mm
        # PS3.3 C.18.6.1.2: (0, 0) is the corner of the first pixel, half a pixel from its centre.
        steps = np.stack([row * column_mm, column * row_mm])
        in_mm = np.asarray(frame.position_lps) + (points - 0.5) @ steps
        polygons.append((frame_of_reference_uid, in_mm))
    return replace(group, polygons=tuple(polygons), outlines=tuple(left))


@dataclass(frozen=True, eq=False)
class _Cited:
    """The frames of a segmentation, and the label of each segment number."""

    frames: Frames
    labels: Mapping[int, str]


def _cited(
    path: Path,
    wanted: set[str],
    files: Iterable[Path],
    frame_of_reference_uid: str,
    limits: ReadLimits,
) -> dict[str, _Cited]:
    """Every segmentation that is cited, by its instance UID."""
    found: dict[str, _Cited] = {}
    for file in files if wanted else ():
        try:
            answer, pixels = shared_worker(limits).segmentation(file)
        except WorkerError:
            continue  # another object of the folder; one that is missed is named below
        uid = str(answer["instance"])
        if uid not in wanted:
            continue
        if frame_of_reference_uid and answer["frame_of_reference"] != frame_of_reference_uid:
            text = "another frame of reference than the image's"
            raise refuse_segmentation(file, "other-frame-of-reference", text, "the image's own")
        labels = {int(item["number"]): str(item["label"]) for item in answer["segments"]}
        found[uid] = _Cited(Frames.of(answer, pixels), labels)
    missing = len(wanted - set(found))
    if missing:
        raise InputRefusedError(
            path.name,
            stage="read",
            code="missing-segmentation",
            found=f"{missing} of {len(wanted)} cited segmentations not among the files",
            expected="each segmentation that the report cites, undamaged",
            advice="Export the segmentation together with its report.",
        )
    return found


def _segment(
    frames: Frames, number: int | None, chosen: tuple[int, ...], geometry: Geometry
) -> Placed:
    """One cited segment; of single frames where the report names them."""
    if chosen:
        is_chosen = np.isin(np.arange(1, len(frames.numbers) + 1), chosen)
        if number is None:
            number = int(frames.numbers[is_chosen][0]) if is_chosen.any() else 0
        if not frames.is_label_map:
            frames = replace(frames, numbers=np.where(is_chosen, frames.numbers, -1))
    return place(frames, 1 if number is None else number, geometry)


def _polygons(
    path: Path, group: ReadGroup, geometry: Geometry, frame_of_reference_uid: str
) -> Placed:
    for frame, _ in group.polygons:
        if frame_of_reference_uid and frame != frame_of_reference_uid:
            text = "a region in another frame of reference than the image's"
            raise refuse_segmentation(path, "other-frame-of-reference", text, "the image's own")
    try:
        found = [FlatContour.of(points) for _, points in group.polygons]
        contours = [contour for contour in found if contour is not None]
        return place_contours(contours, geometry, among=contours)
    except ValueError as error:
        text = f"a region with {error}"
        raise refuse_segmentation(path, "contour-data", text, "flat polygons") from error


def _described(number: int, group: ReadGroup, found: Mapping[str, _Cited]) -> dict[str, Any]:
    label = ""
    if len(group.segments) == 1 and not group.polygons:
        uid, segment, _ = group.segments[0]
        label = found[uid].labels.get(segment or 0, "")

    def parts(code: Code | None) -> list[str]:
        return [code.value, code.meaning, code.scheme] if code else []

    return {
        "number": number,
        "label": label or group.tracking_id,
        "category": parts(group.category),
        "type": parts(group.type),
        "tracking_uid": group.tracking_uid,
        "algorithm_type": "",
    }
