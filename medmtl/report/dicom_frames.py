"""The frames of a segmentation: which there are, their pixels, their functional groups.

highdicom and pydicom take a millisecond for each frame, and 60 segments on 300 slices are up to
18,000 frames. Here what repeats is encoded once (explicit VR little endian, PS3.5 7.1.2, 7.5), and
a frame's functional groups are those bytes put one behind the other.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.frame import encode_frame
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import JPEGLSLossless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FrameList", "binary_frames", "labelmap_frames"]

_ITEM = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, eq=False)
class FrameList:
    """Frames in the order in which they are written.

    Attributes:
        places: (segment number, plane) of each frame; the number is 0 in a label map.
        pixels: The value of Pixel Data.
        is_encapsulated: Whether `pixels` is compressed.
    """

    places: tuple[tuple[int, int], ...]
    pixels: bytes | memoryview
    is_encapsulated: bool = False

    def elements(
        self,
        head: Dataset,
        *,
        positions: Sequence[Any],
        sources: Sequence[DicomSequence],
    ) -> tuple[bytes | memoryview, ...]:
        """Encoded Per-Frame Functional Groups Sequence and Pixel Data, to follow the head.

        Args:
            head: The segmentation without these two; its number of frames is set.
            positions: Plane Position Sequence of each plane.
            sources: Derivation Image Sequence of each plane.
        """
        shared = head.SharedFunctionalGroupsSequence[0]
        shared.pop("PlanePositionSequence", None)
        with_segment = head.SegmentationType == "BINARY" and (
            "SegmentIdentificationSequence" not in shared
        )
        head.NumberOfFrames = len(self.places)
        items = _Items(positions, sources, self.places, with_segment=with_segment)
        groups = b"".join(items.item(number, plane) for number, plane in self.places)
        padding = b"\0" * (len(self.pixels) % 2)
        if self.is_encapsulated:  # ends with the Sequence Delimitation Item (PS3.5 A.4)
            end = b"\xfe\xff\xdd\xe0\0\0\0\0"
            pixels: tuple[bytes | memoryview, ...] = (
                _long_header(0x7FE0, 0x0010, b"OB", 0xFFFFFFFF), self.pixels, padding, end,
            )  # fmt: skip
        else:
            size = len(self.pixels) + len(padding)
            pixels = (_long_header(0x7FE0, 0x0010, b"OB", size), self.pixels, padding)
        return (_long_header(0x5200, 0x9230, b"SQ", len(groups)), groups, *pixels)


def _long_header(group: int, element: int, vr: bytes, size: int) -> bytes:
    return struct.pack("<HH2sHI", group, element, vr, 0, size)


class _Items:
    """Encodes one item of the Per-Frame Functional Groups Sequence after the other."""

    def __init__(
        self,
        positions: Sequence[Any],
        sources: Sequence[DicomSequence],
        places: Sequence[tuple[int, int]],
        *,
        with_segment: bool,
    ) -> None:
        used = sorted({plane for _, plane in places})
        self.rank = {plane: place for place, plane in enumerate(used, start=1)}
        self.sources = {k: _encoded(DerivationImageSequence=sources[k]) for k in used}
        self.positions = {k: _encoded(PlanePositionSequence=positions[k]) for k in used}
        numbers = {number for number, _ in places} if with_segment else ()
        self.segments = {number: _segment(number) for number in numbers}

    def item(self, number: int, plane: int) -> bytes:
        """Ascending tags: derivation, frame content, plane position, segment."""
        indices = (self.rank[plane],) if number == 0 else (number, self.rank[plane])
        body = (
            self.sources[plane]
            + _frame_content(indices)
            + self.positions[plane]
            + self.segments.get(number, b"")
        )
        return _ITEM + struct.pack("<I", len(body)) + body


def _encoded(**elements: Any) -> bytes:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


def _segment(number: int) -> bytes:
    item = Dataset()
    item.ReferencedSegmentNumber = number
    return _encoded(SegmentIdentificationSequence=DicomSequence([item]))


def _frame_content(indices: tuple[int, ...]) -> bytes:
    """Frame Content Sequence with the Dimension Index Values (PS3.3 C.7.6.16.2.2)."""
    size = 4 * len(indices)
    values = struct.pack(f"<HH2sH{len(indices)}I", 0x0020, 0x9157, b"UL", size, *indices)
    item = _ITEM + struct.pack("<I", len(values)) + values
    return _long_header(0x0020, 0x9111, b"SQ", len(item)) + item


def _present(planes: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """Which segment is in which plane, shape (K, count + 1)."""
    return np.array([np.bincount(plane.ravel(), minlength=count + 1) > 0 for plane in planes])


def binary_frames(planes: NDArray[Any], count: int) -> FrameList:
    """One frame per segment and plane that meet, segments outermost, one bit per pixel.

    Args:
        planes: Segment numbers, shape (K, J, I).
        count: Number of segments. Where none has a voxel, one empty frame stands for all.
    """
    present = _present(planes, count)
    places = [
        (number, int(plane))
        for number in range(1, count + 1)
        for plane in np.flatnonzero(present[:, number])
    ] or [(1, 0)]
    size = planes[0].size
    if size % 8 == 0:
        packed = np.empty((len(places), size // 8), dtype=np.uint8)
        for row, (number, plane) in zip(packed, places, strict=True):
            row[:] = np.packbits((planes[plane] == number).ravel(), bitorder="little")
        return FrameList(tuple(places), packed.data.cast("B"))
    # PS3.5 8.1.1: frames follow each other without padding, so they share bytes.
    bits = np.empty((len(places), size), dtype=bool)
    for row, (number, plane) in zip(bits, places, strict=True):
        row[:] = (planes[plane] == number).ravel()
    return FrameList(tuple(places), np.packbits(bits, bitorder="little").tobytes())


def labelmap_frames(planes: NDArray[Any], count: int) -> FrameList:
    """One JPEG-LS frame of segment numbers per plane that is not empty.

    Args:
        planes: Segment numbers, shape (K, J, I).
        count: Number of segments. Where none has a voxel, one empty frame stands for all.
    """
    present = _present(planes, count)[:, 1:].any(axis=1)
    chosen = [int(plane) for plane in np.flatnonzero(present)] or [0]
    bits = planes.dtype.itemsize * 8
    encoded = [
        encode_frame(
            planes[plane],
            transfer_syntax_uid=JPEGLSLossless,
            bits_allocated=bits,
            bits_stored=bits,
            photometric_interpretation="MONOCHROME2",
            pixel_representation=0,
        )
        for plane in chosen
    ]
    places = tuple((0, plane) for plane in chosen)
    return FrameList(places, encapsulate(encoded), is_encapsulated=True)
