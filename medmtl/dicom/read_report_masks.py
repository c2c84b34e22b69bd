"""The regions of a measurement report (TID 1500) as masks on the grid of a volume.

A group's region is a segment of a DICOM segmentation that it cites, polygons in patient space, or
closed lines in the pixels of the volume's own source images. Others, such as ellipses, are none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.dicom.contours import FlatContour, place_contours
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.read_report import read_report
from medmtl.dicom.seg_placing import Frames, Placed, place, together
from medmtl.dicom.segmentation import Collector, Segmentation, refuse_segmentation
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import Code
    from medmtl.core.source import SourceFrame
    from medmtl.dicom.read_report import ReadGroup

__all__ = ["read_report_masks"]

_DEFAULT = ReadLimits()


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
