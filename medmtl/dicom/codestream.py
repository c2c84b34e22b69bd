"""What the first bytes of a compressed frame say, checked before any decoder sees them.

A header that claims 512 x 512 over a codestream of 60000 x 60000 is a decompression bomb, and a
wrong transfer syntax shows here. Sources: ITU-T T.81 B.2.2 (JPEG), T.87 C.2.2 (JPEG-LS),
T.800 A.5.1 (JPEG 2000), PS3.5 A.4 and 8.2.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CodestreamError", "Frame", "check_frame"]

_JPEG_SOF = {
    "1.2.840.10008.1.2.4.50": (0xC0,),
    "1.2.840.10008.1.2.4.51": (0xC0, 0xC1),
    "1.2.840.10008.1.2.4.57": (0xC3,),
    "1.2.840.10008.1.2.4.70": (0xC3,),
    "1.2.840.10008.1.2.4.80": (0xF7,),
    "1.2.840.10008.1.2.4.81": (0xF7,),
}
_JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
_RLE = "1.2.840.10008.1.2.5"
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_ANY_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


class CodestreamError(ValueError):
    """The compressed data contradict the header."""


@dataclass(frozen=True)
class Frame:
    """Size and depth of a compressed frame; `signed` is None where the format does not say."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool | None = None


def _word(data: bytes, place: int, size: int = 2) -> int:
    if place + size > len(data):
        message = "a compressed frame that ends inside its header"
        raise CodestreamError(message)
    return int.from_bytes(data[place : place + size], "big")


def _jpeg(data: bytes, *, allowed: tuple[int, ...]) -> Frame:
    if data[:2] != b"\xff\xd8":
        message = "data that are no JPEG stream"
        raise CodestreamError(message)
    place = 2
    while True:
        if _word(data, place, 1) != 0xFF:
            message = "a damaged JPEG header"
            raise CodestreamError(message)
        marker = _word(data, place + 1, 1)
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in _ANY_SOF:
            break
        place += 2 + _word(data, place + 2)
    if marker not in allowed:
        message = f"a JPEG stream of another process (marker FF{marker:02X})"
        raise CodestreamError(message)
    return Frame(
        rows=_word(data, place + 5),
        columns=_word(data, place + 7),
        samples=_word(data, place + 9, 1),
        precision=_word(data, place + 4, 1),
    )


def _jpeg_2000(data: bytes) -> Frame:
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0:
        message = "data that are no JPEG 2000 codestream"
        raise CodestreamError(message)
    size = [_word(data, start + 8 + 4 * n, 4) for n in range(4)]
    depth = _word(data, start + 42, 1)
    return Frame(
        rows=size[1] - size[3],
        columns=size[0] - size[2],
        samples=_word(data, start + 40),
        precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
    )


def _check_end(data: bytes) -> None:
    """A stream ends with its end marker (JPEG EOI and JPEG 2000 EOC are both FFD9)."""
    tail = data[-64:].rstrip(b"\x00")
    if b"\xff\xd9" not in tail[-4:]:
        message = "a compressed frame without its end marker, so it is cut off"
        raise CodestreamError(message)


def _check_rle(data: bytes, *, segments: int) -> None:
    count = int.from_bytes(data[:4], "little")
    offsets = [int.from_bytes(data[4 + 4 * n : 8 + 4 * n], "little") for n in range(15)]
    used = offsets[:count]
    if len(data) < 64 or count != segments or used[0] != 64 or any(offsets[count:]):
        message = "data that are no RLE frame of this depth"
        raise CodestreamError(message)
    if used != sorted(set(used)) or used[-1] >= len(data):
        message = "RLE segments outside the frame"
        raise CodestreamError(message)


def check_frame(
    data: bytes, *, syntax: str, rows: int, columns: int, allocated: int, signed: bool
) -> Frame | None:
    """Check one compressed frame against the header.

    Args:
        data: The frame, its fragments joined.
        syntax: Transfer syntax UID.
        rows: Rows of the header.
        columns: Columns of the header.
        allocated: Bits allocated of the header.
        signed: Whether the header says signed. An unsigned stream may hold such values bit by bit.

    Returns:
        What the stream states, None for RLE.

    Raises:
        CodestreamError: If the stream is of another kind, size, depth or sign.
    """
    if syntax == _RLE:
        _check_rle(data, segments=allocated // 8)
        return None
    frame = _jpeg_2000(data) if syntax in _JPEG_2000 else _jpeg(data, allowed=_JPEG_SOF[syntax])
    _check_end(data)
    if (frame.rows, frame.columns) != (rows, columns):
        message = f"a compressed frame of {frame.rows} x {frame.columns} pixels"
        raise CodestreamError(message)
    if frame.samples != 1 or frame.precision > allocated:
        message = f"a compressed frame of {frame.samples} samples of {frame.precision} bits"
        raise CodestreamError(message)
    if frame.signed and not signed:
        message = "a compressed frame of signed values in an unsigned image"
        raise CodestreamError(message)
    return frame
