"""The full header reader: pydicom, for everything that `fast_header` does not take on.

Runs inside the worker process, where memory and time are limited.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medmtl.dicom.tags import PER_FRAME_TAGS, TAGS, Values, interpret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["NotDicomError", "dicomdir_files", "open_dataset", "read_full"]

_DICOMDIR = "1.2.840.10008.1.3.10"
_SIGNS = ("SOPClassUID", "MediaStorageSOPClassUID", "Rows", "Modality")
_FIRST_GROUPS = {b"\x02\x00", b"\x00\x02", b"\x08\x00", b"\x00\x08"}
_MAX_FRAMES = 100_000
_LETTERS = {"us": "H", "ul": "I", "fd": "d", "fd+": "d"}


class NotDicomError(Exception):
    """The file is no DICOM file."""


def _inflated(content: bytes, *, limit: int) -> bytes:
    """The same Part 10 file with its deflated data set unpacked, at most `limit` bytes."""
    meta = pydicom.filereader.read_preamble(io.BytesIO(content), force=False)
    stream = io.BytesIO(content)
    stream.seek(len(meta or b"") + 4)
    pydicom.filereader._read_file_meta_info(stream)
    start = stream.tell()
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    data = unpacker.decompress(content[start:], limit)
    if unpacker.unconsumed_tail or not unpacker.eof:
        message = "deflated data set is cut off or larger than the limit"
        raise ValueError(message)
    return data


def _looks_like_dicom(start: bytes) -> bool:
    """Whether a file without "DICM" begins like a data set, or only lost the magic word."""
    if len(start) < 16:
        return False
    if start[132:136] == b"\x02\x00\x00\x00" and start[136:138] == b"UL":
        return True
    group = start[:2]
    number_is_small = start[3:4] in {b"\x00", b"\x10"}
    if group not in {b"\x08\x00", b"\x02\x00", b"\x00\x08"} or not number_is_small:
        return False
    return start[4:6].isalpha() or int.from_bytes(start[4:8], "little") < 4096


def open_dataset(path: Path, *, limit: int, pixels: bool) -> FileDataset:
    """Read a file with pydicom, whatever its transfer syntax.

    Args:
        path: A regular file.
        limit: Largest size of a deflated data set in bytes.
        pixels: Whether to read the pixel data as well.

    Raises:
        NotDicomError: If the file is no DICOM file.
        ValueError: If a deflated data set is damaged or too large.
    """
    with path.open("rb") as file:
        start = file.read(1024)
    has_magic = start[128:132] == b"DICM"
    if has_magic and start[132:134] not in _FIRST_GROUPS:
        message = "no file meta information after the magic word"
        raise ValueError(message)
    if not has_magic and not _looks_like_dicom(start):
        raise NotDicomError
    if not has_magic and start[132:136] == b"\x02\x00\x00\x00":
        content = path.read_bytes()
        source: Any = io.BytesIO(content[:128] + b"DICM" + content[132:])
    else:
        source = path
    if has_magic and DeflatedExplicitVRLittleEndian.encode() in start:
        return _open_deflated(path, limit=limit, pixels=pixels)
    return pydicom.dcmread(source, force=not has_magic, stop_before_pixels=not pixels)


def _open_deflated(path: Path, *, limit: int, pixels: bool) -> FileDataset:
    meta = pydicom.filereader.read_file_meta_info(path)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    data = _inflated(path.read_bytes(), limit=limit)
    stop = _before_pixels if not pixels else None
    dataset = pydicom.filereader.read_dataset(
        io.BytesIO(data), is_implicit_VR=False, is_little_endian=True, stop_when=stop
    )
    return FileDataset(None, dataset, file_meta=meta, is_implicit_VR=False, is_little_endian=True)


def _before_pixels(tag: Any, vr: str | None, length: int) -> bool:
    del vr, length
    return int(tag) >= 0x7FE00008


def _raw_bytes(element: DataElement | RawDataElement, kind: str, *, big_endian: bool) -> bytes:
    """Value bytes of an element, packed again where pydicom has already decoded it."""
    value = element.value
    if kind == "flag":
        return b"\x01"
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode("ascii", "replace")
    parts = value if isinstance(value, list | tuple | MultiValue) else [value]
    if kind in _LETTERS:
        return struct.pack(f"{'>' if big_endian else '<'}{len(parts)}{_LETTERS[kind]}", *parts)
    return "\\".join(str(part) for part in parts).encode("ascii", "replace")


def _collect(dataset: Dataset, tags: Mapping[int, tuple[str, str]], *, big_endian: bool) -> Values:
    raw = {}
    for tag, (_, kind) in tags.items():
        if tag in dataset:
            element = dataset.get_item(tag)
            if isinstance(element, RawDataElement | DataElement):
                raw[tag] = _raw_bytes(element, kind, big_endian=big_endian)
    return interpret(raw, big_endian=big_endian, tags=tags)


def _walk_groups(item: Dataset) -> Iterator[Dataset]:
    """The items inside the functional groups of one frame, two levels deep."""
    for element in item:
        if element.tag.is_private or element.VR != "SQ" or element.keyword not in _GROUPS:
            continue
        for inner in element.value:
            yield inner
            yield from _walk_groups(inner)


_GROUPS = frozenset(
    {
        "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
        "PixelValueTransformationSequence", "FrameContentSequence", "MREchoSequence",
        "MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence",
        "MRDiffusionSequence", "DiffusionGradientDirectionSequence",
        "CardiacSynchronizationSequence", "MRMetaboliteMapSequence",
        "TemporalPositionSequence",
    }
)  # fmt: skip


def _group_values(item: Dataset, *, big_endian: bool) -> Values:
    values: Values = {}
    bad: tuple[str, ...] = ()
    for inner in _walk_groups(item):
        found = _collect(inner, PER_FRAME_TAGS, big_endian=big_endian)
        bad += found.pop("bad", ())
        values.update(found)
    if bad:
        values["bad"] = bad
    return values


def _frames(dataset: FileDataset, *, big_endian: bool) -> list[Values]:
    """Values of each frame of a multi-frame image (PS3.3 C.7.6.16.1)."""
    shared: Values = {}
    for item in dataset.get("SharedFunctionalGroupsSequence", None) or []:
        shared.update(_group_values(item, big_endian=big_endian))
    frames = list(dataset.get("PerFrameFunctionalGroupsSequence", None) or [])
    if len(frames) > _MAX_FRAMES:
        message = "too many frames"
        raise ValueError(message)
    return [shared | _group_values(item, big_endian=big_endian) for item in frames]


def _root_values(dataset: FileDataset) -> tuple[Values, bool]:
    meta = dataset.file_meta or Dataset()
    big_endian = dataset.original_encoding[1] is False
    values = _collect(dataset, TAGS, big_endian=big_endian)
    for keyword in ("TransferSyntaxUID", "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"):
        if meta.get(keyword):
            values[keyword] = str(meta[keyword].value).strip("\x00 ")
    return values, big_endian


def read_full(path: Path, *, limit: int) -> Values:
    """Read the wanted attributes of any DICOM file, and those of its frames.

    Returns:
        Values by keyword; "frames" lists those of each frame of a multi-frame image.

    Raises:
        NotDicomError: If the file is no DICOM file.
    """
    dataset = open_dataset(path, limit=limit, pixels=False)
    values, big_endian = _root_values(dataset)
    if not any(values.get(keyword) for keyword in _SIGNS):
        if dataset.preamble:
            message = "a data set without any known attribute"
            raise ValueError(message)
        raise NotDicomError
    if "PerFrameFunctionalGroupsSequence" in dataset:
        values["frames"] = _frames(dataset, big_endian=big_endian)
    return values


def dicomdir_files(path: Path, *, limit: int) -> list[list[str]]:
    """Path components of the files that a DICOMDIR lists.

    Raises:
        NotDicomError: If the file is no media directory (PS3.10 8.6).
    """
    dataset = open_dataset(path, limit=limit, pixels=False)
    meta = dataset.file_meta
    if meta is None or meta.get("MediaStorageSOPClassUID") != _DICOMDIR:
        raise NotDicomError
    files = []
    for record in dataset.get("DirectoryRecordSequence", None) or []:
        parts = record.get("ReferencedFileID", None)
        if parts:
            files.append([parts] if isinstance(parts, str) else [str(part) for part in parts])
    return files
