"""What a DICOM segmentation holds, frame by frame; runs inside the worker process.

Nothing is assumed of the order of frames: each says where it lies and which segment it is of
(PS3.3 C.8.20, C.7.6.16.2).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.dicom.full_header import open_dataset
from medmtl.dicom.pixel_format import PixelError

if TYPE_CHECKING:
    from pathlib import Path

    from pydicom.dataset import Dataset, FileDataset

__all__ = ["SEGMENTATION_CLASSES", "code_of", "read_segmentation"]

SEGMENTATION_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": ("BINARY", "FRACTIONAL"),
    "1.2.840.10008.5.1.4.1.1.66.7": ("LABELMAP",),
}
_NATIVE = frozenset(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99"))
_MAX_FRAMES = 500_000


def read_segmentation(path: Path, *, limit: int) -> tuple[dict[str, Any], bytes]:
    """Read a segmentation.

    Args:
        path: A DICOM file.
        limit: Most bytes of pixels that may come back.

    Returns:
        A description (kind, rows, columns, bits, maximum, frame_of_reference, series, slice_mm,
        segments, frames), and the frames one behind the other without padding between them: one
        bit per pixel (least significant first) where `bits` is 1, else little endian integers.

    Raises:
        NotDicomError: If the file is no DICOM file.
        PixelError: If it is no segmentation, or contradicts itself.
    """
    dataset = open_dataset(path, limit=limit, pixels=True)
    kind = str(dataset.get("SegmentationType", "BINARY"))
    if kind not in SEGMENTATION_CLASSES.get(str(dataset.get("SOPClassUID", "")), ()):
        raise PixelError("not-a-segmentation", f"an object of kind {kind}", "a segmentation")
    frames = _frames(dataset, kind)
    bits, pixels = _pixels(dataset, kind, len(frames), limit)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    series = dataset.get("ReferencedSeriesSequence") or []
    answer = {
        "kind": kind,
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
        "bits": bits,
        "maximum": int(dataset.get("MaximumFractionalValue", 1)),
        "frame_of_reference": str(dataset.get("FrameOfReferenceUID", "")),
        "instance": str(dataset.get("SOPInstanceUID", "")),
        "series": [str(one.get("SeriesInstanceUID", "")) for one in series],
        "slice_mm": _slice_mm(dataset.PerFrameFunctionalGroupsSequence[0], shared),
        "segments": [_segment(item) for item in dataset.get("SegmentSequence", [])],
        "frames": frames,
        "bytes": len(pixels),
    }
    return answer, pixels


def _group(frame: Dataset, shared: Dataset, keyword: str) -> Dataset | None:
    """The item of a functional group: the frame's own before the shared one."""
    for place in (frame, shared):
        sequence = place.get(keyword)
        if sequence:
            return sequence[0]
    return None


def _numbers(item: Dataset | None, keyword: str, count: int) -> list[float]:
    values = item.get(keyword) if item is not None else None
    numbers = [float(value) for value in values or ()]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise PixelError("missing-geometry", f"no {keyword} in a frame", f"{count} numbers")
    return numbers


def _frames(dataset: FileDataset, kind: str) -> list[dict[str, Any]]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    stated = int(dataset.get("NumberOfFrames", 0))
    if shared is None or not groups or len(groups) != stated or stated > _MAX_FRAMES:
        raise PixelError("frame-count", f"{stated} frames, {len(groups)} described", "as many")
    return [_frame(group, shared, kind) for group in groups]


def _frame(group: Dataset, shared: Dataset, kind: str) -> dict[str, Any]:
    position = _group(group, shared, "PlanePositionSequence")
    orientation = _group(group, shared, "PlaneOrientationSequence")
    measures = _group(group, shared, "PixelMeasuresSequence")
    identity = _group(group, shared, "SegmentIdentificationSequence")
    number = identity.get("ReferencedSegmentNumber") if identity is not None else None
    if kind != "LABELMAP" and number is None:
        raise PixelError("missing-segment", "a frame of no segment", "a segment number")
    return {
        "segment": int(number) if kind != "LABELMAP" and number is not None else 0,
        "position": _numbers(position, "ImagePositionPatient", 3),
        "orientation": _numbers(orientation, "ImageOrientationPatient", 6),
        "spacing": _numbers(measures, "PixelSpacing", 2),
    }


def _slice_mm(frame: Dataset, shared: Dataset) -> float:
    """Distance between planes as the object says it; 0 where it does not."""
    measures = _group(frame, shared, "PixelMeasuresSequence")
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = measures.get(keyword) if measures is not None else None
        if value:
            return abs(float(value))
    return 0.0


def _segment(item: Dataset) -> dict[str, Any]:
    return {
        "number": int(item.SegmentNumber),
        "label": str(item.get("SegmentLabel", ""))[:64],
        "category": code_of(item, "SegmentedPropertyCategoryCodeSequence"),
        "type": code_of(item, "SegmentedPropertyTypeCodeSequence"),
        "tracking_uid": str(item.get("TrackingUID", "")),
        "algorithm_type": str(item.get("SegmentAlgorithmType", "")),
    }


def code_of(item: Dataset, keyword: str) -> list[str]:
    """Value, meaning and scheme; empty where there is none."""
    sequence = item.get(keyword)
    if not sequence:
        return []
    one = sequence[0]
    value = one.get("CodeValue") or one.get("LongCodeValue") or one.get("URNCodeValue") or ""
    return [str(value), str(one.get("CodeMeaning", "")), str(one.get("CodingSchemeDesignator", ""))]


def _pixels(dataset: FileDataset, kind: str, count: int, limit: int) -> tuple[int, bytes]:
    bits = int(dataset.get("BitsAllocated", 0))
    pixels = count * int(dataset.Rows) * int(dataset.Columns)
    size = -(-pixels * bits // 8)
    if size > limit or bits not in (1, 8, 16):
        raise PixelError(
            "too-large", f"{size} bytes of {bits} bits", f"{limit} bytes, 1 to 16 bits"
        )
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax in _NATIVE:
        data = bytes(dataset.PixelData)
        if len(data) not in (size, size + size % 2):
            raise PixelError("truncated", f"{len(data)} bytes of pixel data", f"{size} bytes")
        return bits, data[:size]
    array = np.asarray(dataset.pixel_array)
    if array.size != pixels:
        raise PixelError("frame-count", f"{array.size} pixels", f"{pixels} pixels")
    if kind == "BINARY":
        return 1, np.packbits(array.ravel() != 0, bitorder="little").tobytes()
    wide = 8 if array.max(initial=0) < 256 else 16
    return wide, array.astype("<u1" if wide == 8 else "<u2").tobytes()
