"""An RT Structure Set, of medmtl or anybody, as masks on the grid of a volume.

A contour is filled in its own plane and put where its points lie. Contours of one region in one
plane exclude each other where they overlap, so both ways of writing a hole (an inner contour, or a
channel into it) are read right. A contour between slices goes to the nearest one, which is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.flags import Flag
from medmtl.dicom.contours import FlatContour, place_contours
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.segmentation import Collector, Segmentation, refuse_segmentation
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.core.errors import InputRefusedError
    from medmtl.core.geometry import Geometry

__all__ = ["read_rtstruct"]

_DEFAULT = ReadLimits()


def read_rtstruct(
    path: Path,
    geometry: Geometry,
    *,
    frame_of_reference_uid: str = "",
    series_uid: str = "",
    limits: ReadLimits = _DEFAULT,
) -> Segmentation:
    """Read a structure set onto a grid.

    Args:
        path: A DICOM RTSTRUCT file.
        geometry: The grid of the volume that the masks belong to.
        frame_of_reference_uid: Of that volume; regions in another one are refused. "" does not
            check.
        series_uid: Of that volume. Contours of a structure set that cites it stand for the slices
            that they lie on; those of another series are as thick as the planes of the file are
            apart, so that a thicker series fills the slices between.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is no structure set, is damaged, or a region lies in another
            frame of reference.
    """
    try:
        answer, payload = shared_worker(limits).structure_set(path)
    except WorkerError as error:
        raise refuse_segmentation(path, error.code, error.found, error.expected) from error
    collector = Collector(geometry)
    lines, regions = 0, _regions(path, answer, payload)
    everything = [contour for _, contours in regions for contour in contours]
    is_own_series = bool(series_uid) and series_uid in answer["series"]
    for item, contours in regions:
        own = str(item["frame_of_reference"])
        if frame_of_reference_uid and own != frame_of_reference_uid:
            found = f"region {item['number']} in another frame of reference than the image's"
            raise refuse_segmentation(path, "other-frame-of-reference", found, "the image's own")
        lines += int(item["not_areas"]) + len(item["counts"]) - len(contours)
        placed = place_contours(contours, geometry, among=everything, is_own_series=is_own_series)
        collector.add(item, placed)
    message = f"{lines} contours are points or open lines and enclose nothing; they were left out."
    return collector.segmentation(
        frame_of_reference_uid=str(answer["frame_of_reference"]),
        series_uids=tuple(answer["series"]),
        flags=(Flag("contours-left-out", "warning", message),) if lines else (),
    )


def _regions(
    path: Path, answer: Mapping[str, Any], payload: bytes
) -> list[tuple[Mapping[str, Any], list[FlatContour]]]:
    """Each region with its contours, in the order of their numbers."""
    points = np.frombuffer(payload, "<f8").reshape(-1, 3)
    counts = [count for item in answer["segments"] for count in item["counts"]]
    contours = iter(np.split(points, np.cumsum(counts)[:-1]) if counts else [])
    regions = []
    for item in answer["segments"]:
        try:
            found = [FlatContour.of(next(contours)) for _ in item["counts"]]
        except ValueError as error:
            raise _bad_contours(path, item, error) from error
        regions.append((item, [contour for contour in found if contour is not None]))
    return sorted(regions, key=lambda region: int(region[0]["number"]))


def _bad_contours(path: Path, item: Mapping[str, Any], error: ValueError) -> InputRefusedError:
    found = f"region {item['number']}: {error}"
    return refuse_segmentation(path, "contour-data", found, "flat, closed contours in the room")
