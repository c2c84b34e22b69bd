"""What a measurement report (TID 1500) says, of medmtl or anybody: its groups and their regions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.labels import Code
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.segmentation import refuse_segmentation
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["ReadGroup", "ReadReport", "read_report"]

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
