"""What an RT Structure Set holds, contour by contour; runs inside the worker process.

Contours lie in the patient coordinates of a frame of reference (PS3.3 C.8.8.5, C.8.8.6); which
image one was drawn on is not needed to place it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.dicom.full_header import open_dataset
from medmtl.dicom.pixel_format import PixelError
from medmtl.dicom.seg_frames import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

__all__ = ["RT_STRUCTURE_SET", "read_structure_set"]

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_AREAS = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR"})
"""Kinds that enclose an area; points and open lines are no mask."""
_CONTOUR_DATA = 0x30060050


def read_structure_set(path: Path, *, limit: int) -> tuple[dict[str, Any], bytes]:
    """Read a structure set.

    Args:
        path: A DICOM file.
        limit: Most bytes of points that may come back.

    Returns:
        A description (series, frame_of_reference, segments; each of these with its own
        frame_of_reference, the number of points of each closed contour, and how many contours are
        no area), and the points as little endian doubles (x, y, z in mm), in that order.

    Raises:
        NotDicomError: If the file is no DICOM file.
        PixelError: If it is no structure set, or contradicts itself.
    """
    dataset = open_dataset(path, limit=limit, pixels=True)
    if str(dataset.get("SOPClassUID", "")) != RT_STRUCTURE_SET:
        raise PixelError("not-a-structure-set", "another kind of object", "an RT Structure Set")
    frames = [_text(one, "FrameOfReferenceUID") for one in _items(dataset, _FRAMES)]
    common = _text(dataset, "FrameOfReferenceUID") or (frames[0] if len(frames) == 1 else "")
    codes = {
        int(one.get("ReferencedROINumber", -1)): code_of(one, "RTROIIdentificationCodeSequence")
        for one in _items(dataset, "RTROIObservationsSequence")
    }
    drawn = {
        int(one.get("ReferencedROINumber", -1)): list(_items(one, "ContourSequence"))
        for one in _items(dataset, "ROIContourSequence")
    }
    segments, points, size = [], [], 0
    for region in _items(dataset, "StructureSetROISequence"):
        number = int(region.ROINumber)
        contours = drawn.get(number, [])
        areas = [one for one in contours if _text(one, "ContourGeometricType") in _AREAS]
        mine = [_points(one) for one in areas]
        size += sum(one.nbytes for one in mine)
        if size > limit:
            raise PixelError("too-large", f"more than {limit} bytes of points", f"{limit} bytes")
        points += mine
        segments.append(
            {
                **_segment(region, number, codes.get(number, [])),
                "frame_of_reference": _text(region, "ReferencedFrameOfReferenceUID") or common,
                "counts": [len(one) for one in mine],
                "not_areas": len(contours) - len(areas),
            }
        )
    _check_numbers([int(one["number"]) for one in segments])
    payload = b"".join(one.astype("<f8").tobytes() for one in points)
    series = sorted(set(_series(dataset)))
    answer = {"series": series, "frame_of_reference": common, "segments": segments}
    return {**answer, "bytes": len(payload)}, payload


_FRAMES = "ReferencedFrameOfReferenceSequence"


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")


def _check_numbers(numbers: list[int]) -> None:
    if not numbers or len(set(numbers)) != len(numbers):
        raise PixelError("roi-numbers", f"{len(numbers)} regions", "regions, each with its number")


def _segment(region: Dataset, number: int, code: list[str]) -> dict[str, Any]:
    return {
        "number": number,
        "label": _text(region, "ROIName")[:64],
        "category": [],
        "type": code,
        "tracking_uid": "",
        "algorithm_type": _text(region, "ROIGenerationAlgorithm"),
    }


def _points(contour: Dataset) -> NDArray[np.float64]:
    """Shape (N, 3), read from the stored text: pydicom takes microseconds for each number."""
    raw = contour.get_item(_CONTOUR_DATA) if _CONTOUR_DATA in contour else None
    value = raw.value if raw is not None else b""
    if isinstance(value, bytes):
        numbers = np.array([float(part) for part in value.split(b"\\") if part.strip(b" \0")])
    else:
        numbers = np.array([float(part) for part in value or ()])
    if numbers.size % 3 or not np.isfinite(numbers).all():
        raise PixelError("contour-data", f"{numbers.size} numbers", "three for each point")
    return numbers.reshape(-1, 3)


def _series(dataset: Dataset) -> Iterator[str]:
    for frame in _items(dataset, _FRAMES):
        for study in _items(frame, "RTReferencedStudySequence"):
            for series in _items(study, "RTReferencedSeriesSequence"):
                yield _text(series, "SeriesInstanceUID")
