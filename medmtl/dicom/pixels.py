"""Stored values of one frame, checked against the header; runs inside the worker process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.encaps import generate_fragments, get_frame, parse_basic_offsets
from pydicom.pixels import get_decoder

from medmtl.dicom.codestream import CodestreamError, Frame, check_frame
from medmtl.dicom.pixel_format import (
    NATIVE,
    PixelError,
    PixelFormat,
    check_format,
    native_values,
    without_garbage,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import FileDataset

__all__ = ["stored_values"]

ENCAPSULATED = frozenset(
    {"1.2.840.10008.1.2.5"}
    | {f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)}
)


def _frame_bytes(data: bytes, form: PixelFormat, *, index: int) -> bytes:
    """One compressed frame; refuses data that do not end properly or hold other frames."""
    if not data.rstrip(b"\x00").endswith(b"\xfe\xff\xdd\xe0") and not _items_fill(data):
        raise PixelError("truncated", "compressed data that end too early", "whole frames")
    if not parse_basic_offsets(data) and form.frames == 1:
        fragments = [bytes(fragment) for fragment in generate_fragments(data)]
        return b"".join(fragments[1:])
    return bytes(get_frame(data, index, number_of_frames=form.frames))


def _items_fill(data: bytes) -> bool:
    """Whether the items follow each other up to the very end (PS3.5 A.4)."""
    place = 0
    while place + 8 <= len(data):
        tag, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if tag == b"\xfe\xff\xdd\xe0":
            return True
        if tag != b"\xfe\xff\x00\xe0" or length == 0xFFFFFFFF:
            return False
        place += 8 + length
    return place == len(data)


def _encapsulated(
    dataset: FileDataset, form: PixelFormat, *, syntax: str, index: int
) -> tuple[NDArray[Any], Frame | None]:
    """Decoded frame and what its stream states, None for RLE."""
    data = _frame_bytes(bytes(dataset.PixelData), form, index=index)
    try:
        stated = check_frame(
            data,
            syntax=syntax,
            rows=form.rows,
            columns=form.columns,
            allocated=form.allocated,
            signed=form.signed,
        )
    except CodestreamError as error:
        raise PixelError(
            "compressed-data", str(error), f"{form.rows} x {form.columns}, {form.stored} bits"
        ) from error
    decoded, _ = get_decoder(syntax).as_array(dataset, index=index, raw=True)
    if decoded.shape != (form.rows, form.columns):
        raise PixelError(
            "decoded-shape", f"shape {decoded.shape}", f"({form.rows}, {form.columns})"
        )
    return decoded, stated


def _within_depth(values: NDArray[Any], form: PixelFormat, *, stated: Frame) -> NDArray[Any]:
    """The values of a stream that states its depth, which must be those of the header.

    A stream that is not itself signed may hold whole cells, with zeros above the high bit.
    """
    cells = without_garbage(values, form)
    if stated.precision > form.stored:
        is_cells = not stated.signed and not (values >> form.stored).any()
        fits = is_cells or np.array_equal(cells, values)
    else:
        fits = stated.precision == form.stored or not form.signed
    if not fits:
        found = f"{stated.precision} bits in the stream"
        raise PixelError("bit-depth", found, f"{form.stored} bits")
    return cells


def _format_of(dataset: FileDataset) -> PixelFormat:
    """Read the image pixel attributes (PS3.3 C.7.6.3)."""
    return PixelFormat(
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        allocated=int(dataset.BitsAllocated),
        stored=int(dataset.BitsStored),
        high_bit=int(dataset.HighBit),
        signed=bool(dataset.PixelRepresentation),
        frames=int(dataset.get("NumberOfFrames", None) or 1),
    )


def stored_values(dataset: FileDataset, *, index: int) -> NDArray[Any]:
    """Stored values of one frame, before any rescale.

    Args:
        dataset: A whole data set with pixel data.
        index: Frame number, from 0.

    Returns:
        Shape (rows, columns), little endian signed or unsigned integers.

    Raises:
        PixelError: If the data contradict the header.
    """
    form = _format_of(dataset)
    check_format(form)
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", "")) or "1.2.840.10008.1.2"
    if syntax in NATIVE:
        if dataset["PixelData"].is_undefined_length:
            raise PixelError("transfer-syntax", "compressed data", "uncompressed data")
        order = "<" if dataset.original_encoding[1] else ">"
        is_words = dataset["PixelData"].VR == "OW"
        values = native_values(dataset.PixelData, form, order=order, is_words=is_words, index=index)
        return without_garbage(values, form)
    if syntax not in ENCAPSULATED:
        raise PixelError("transfer-syntax", "a transfer syntax without decoder", "a known one")
    if not dataset["PixelData"].is_undefined_length:
        raise PixelError("transfer-syntax", "uncompressed data", "compressed data")
    if form.high_bit != form.stored - 1:
        raise PixelError("bit-depth", f"high bit {form.high_bit}", f"{form.stored - 1}")
    values, stated = _encapsulated(dataset, form, syntax=syntax, index=index)
    if stated is None:  # RLE packs whole cells, also the bits that are no value
        return without_garbage(values, form)
    return _within_depth(values, form, stated=stated)
