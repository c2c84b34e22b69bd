"""A minimal header reader: little endian Part 10 files, wanted attributes only.

pydicom builds an object per element; over thousands of files that is nearly all of a scan. This
reader walks the elements and keeps about sixty values. Whenever anything is unusual it raises
`DoubtError` and the file goes to pydicom instead, in a process with a memory limit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from struct import Struct

from medmtl.dicom.tags import PIXEL_DATA, TAGS

__all__ = ["DoubtError", "PixelSpan", "RawHeader", "TruncatedError", "read_fast"]

_CHUNK = 16 * 1024
_MAX_DEPTH = 16
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_IMPLICIT = b"1.2.840.10008.1.2"
_NOT_PLAIN = {b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"}  # deflated, big endian
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_BINARY_TAGS = {tag: kind.upper().encode() for tag, (_, kind) in TAGS.items() if kind == "us"}
_LARGEST_VALUE = 4096
_head = Struct("<HH2sH").unpack_from
_long = Struct("<I").unpack_from
_plain = Struct("<HHI").unpack_from


class DoubtError(Exception):
    """The file is not plain enough for this reader."""


class TruncatedError(Exception):
    """The pixel data reach beyond the end of the file.

    Attributes:
        raw: The header up to there.
    """

    def __init__(self, raw: RawHeader) -> None:
        self.raw = raw
        super().__init__("truncated")


@dataclass(frozen=True)
class PixelSpan:
    """Where the pixel data lie; `length` is None for encapsulated data."""

    offset: int
    length: int | None


@dataclass(frozen=True)
class RawHeader:
    """Raw bytes of the wanted attributes, and the place of the pixel data."""

    raw: dict[int, bytes]
    pixels: PixelSpan | None


class _Window:
    """A part of the file in memory that moves along."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.base = 0
        self.data = os.read(descriptor, _CHUNK)

    def reach(self, position: int, count: int) -> int:
        """Make `count` bytes at file `position` available; return their place in `data`."""
        place = position - self.base
        if place >= 0 and place + count <= len(self.data):
            return place
        if position + count > self.size:
            raise DoubtError
        os.lseek(self.descriptor, position, os.SEEK_SET)
        self.base, self.data = position, os.read(self.descriptor, max(_CHUNK, count))
        if len(self.data) < count:
            raise DoubtError
        return 0


def _element(window: _Window, position: int, *, explicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR, length and start of the value of the element at `position`."""
    place = window.reach(position, 8)
    if not explicit:
        group, number, length = _plain(window.data, place)
        return group << 16 | number, b"", length, position + 8
    group, number, vr, length = _head(window.data, place)
    if vr in _SHORT:
        return group << 16 | number, vr, length, position + 8
    if group == 0xFFFE:
        return group << 16 | number, b"", _long(window.data, place + 4)[0], position + 8
    if vr not in _LONG:
        raise DoubtError
    place = window.reach(position, 12)
    return group << 16 | number, vr, _long(window.data, place + 8)[0], position + 12


def _skip_sequence(window: _Window, position: int, *, explicit: bool, depth: int) -> int:
    """End of a sequence of undefined length whose first item is at `position`."""
    if depth > _MAX_DEPTH:
        raise DoubtError
    while True:
        tag, _, length, position = _element(window, position, explicit=explicit)
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise DoubtError
        if length != _UNDEFINED:
            position += length
            continue
        while True:
            tag, vr, length, position = _element(window, position, explicit=explicit)
            if tag == _ITEM_END:
                break
            if length == _UNDEFINED:
                nested_explicit = explicit and vr != b"UN"  # PS3.5 6.2.2 note 4
                position = _skip_sequence(
                    window, position, explicit=nested_explicit, depth=depth + 1
                )
            else:
                position += length


def _read_meta(window: _Window, raw: dict[int, bytes]) -> int:
    """Read the file meta group; return where the data set begins."""
    if window.data[128:132] != b"DICM":
        raise DoubtError
    position = 132
    while True:
        place = window.reach(position, 8)
        if window.data[place : place + 2] != b"\x02\x00":
            return position
        tag, _, length, start = _element(window, position, explicit=True)
        if length > _LARGEST_VALUE and tag >> 16 == 2 and tag != 0x00020102:
            raise DoubtError
        if tag in TAGS:
            place = window.reach(start, length)
            raw[tag] = window.data[place : place + length]
        position = start + length


def _keep(window: _Window, raw: dict[int, bytes], tag: int, vr: bytes, start: int, n: int) -> None:
    if TAGS[tag][1] == "flag":
        raw[tag] = b"\x01"
        return
    if n > _LARGEST_VALUE or tag in raw:
        raise DoubtError
    if vr and (vr == b"UN" or (tag in _BINARY_TAGS and vr != _BINARY_TAGS[tag])):
        raise DoubtError
    place = window.reach(start, n)
    raw[tag] = window.data[place : place + n]


def _pixels(window: _Window, raw: dict[int, bytes], start: int, length: int) -> RawHeader:
    if length == _UNDEFINED:
        return RawHeader(raw, PixelSpan(start, None))
    header = RawHeader(raw, PixelSpan(start, length))
    if start + length > window.size:
        raise TruncatedError(header)
    return header


def read_fast(descriptor: int) -> RawHeader:
    """Read the wanted attributes of an open file.

    Args:
        descriptor: File descriptor of a regular file, at its beginning.

    Raises:
        DoubtError: If the file is anything but plain; use the full reader.
        TruncatedError: If the header is fine but the pixel data are cut off.
    """
    window = _Window(descriptor)
    raw: dict[int, bytes] = {}
    position = _read_meta(window, raw)
    syntax = raw.get(0x00020010, b"").strip(b" \x00")
    if not syntax or syntax in _NOT_PLAIN:
        raise DoubtError
    explicit = syntax != _IMPLICIT
    last = 0
    while position < window.size:
        place = position - window.base
        # Nearly all elements are short ones inside the window: they need no function call.
        if (
            explicit
            and place <= len(window.data) - 8
            and window.data[place + 4 : place + 6] in _SHORT
        ):
            group, number, vr, length = _head(window.data, place)
            tag, start = group << 16 | number, position + 8
        else:
            tag, vr, length, start = _element(window, position, explicit=explicit)
        if tag <= last or tag >> 16 == 0xFFFE:
            raise DoubtError
        last = tag
        if tag == PIXEL_DATA:
            return _pixels(window, raw, start, length)
        if tag in TAGS:
            _keep(window, raw, tag, vr, start, length if length != _UNDEFINED else 0)
        if length == _UNDEFINED:
            nested = explicit and vr != b"UN"
            position = _skip_sequence(window, start, explicit=nested, depth=0)
        else:
            position = start + length
            if position > window.size:
                raise DoubtError
    return RawHeader(raw, None)
