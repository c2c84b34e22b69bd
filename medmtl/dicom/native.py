"""Uncompressed pixels of a plain file, read from their place without a parser or a second process.

The bytes of a plain little endian file need no decoder: their place is known from the scan. The
header is read once more, because a file may have changed since; whatever is not exactly as before
goes to the worker, which reads it from the start and says what is wrong.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.dicom.fast_header import DoubtError, TruncatedError, read_fast
from medmtl.dicom.pixel_format import (
    NATIVE,
    PixelError,
    PixelFormat,
    check_format,
    without_garbage,
)
from medmtl.dicom.sources import open_regular
from medmtl.dicom.tags import interpret

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.dicom.frames import Frame
    from medmtl.dicom.tags import Values

__all__ = ["is_native", "native_frame"]

_PIXEL_KEYWORDS = (
    "TransferSyntaxUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "SamplesPerPixel",
)  # fmt: skip


def is_native(frame: Frame) -> bool:
    """Whether the scan found uncompressed pixels at a known place, to be taken as they are."""
    span = frame.instance.pixels
    return (
        span is not None
        and span.length is not None
        and frame.values.get("TransferSyntaxUID") in NATIVE
        and "ModalityLUTSequence" not in frame.values
    )


def native_frame(frame: Frame, *, max_file_bytes: int) -> NDArray[Any] | None:
    """Stored values of one frame, shape (rows, columns); None where the worker must look.

    Args:
        frame: A frame for which `is_native` holds.
        max_file_bytes: Larger files are left to the worker.
    """
    try:
        descriptor = open_regular(frame.instance.file.path)
    except OSError:
        return None
    try:
        return _read(descriptor, frame, max_file_bytes)
    except (OSError, DoubtError, TruncatedError, PixelError):
        return None
    finally:
        os.close(descriptor)


def _read(descriptor: int, frame: Frame, max_file_bytes: int) -> NDArray[Any] | None:
    header = read_fast(descriptor)
    span = frame.instance.pixels
    values = interpret(header.raw)
    is_same = header.pixels == span and all(
        values.get(keyword) == frame.values.get(keyword) for keyword in _PIXEL_KEYWORDS
    )
    if not is_same or span is None or span.length is None:
        return None
    if os.fstat(descriptor).st_size > max_file_bytes:
        return None
    form = _format(values)
    check_format(form)
    form.check_length(span.length)
    if not 0 <= frame.index < form.frames:
        return None
    cells = np.empty((form.rows, form.columns), form.dtype(signed=False))
    os.lseek(descriptor, span.offset + frame.index * form.frame_bytes, os.SEEK_SET)
    with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        if file.readinto(cells.data) != form.frame_bytes:
            return None
    return without_garbage(cells, form)


def _format(values: Values) -> PixelFormat:
    """The pixel format of a header.

    Raises:
        PixelError: If a value is missing.
    """
    try:
        return PixelFormat(
            rows=values["Rows"],
            columns=values["Columns"],
            allocated=values["BitsAllocated"],
            stored=values["BitsStored"],
            high_bit=values["HighBit"],
            signed=bool(values["PixelRepresentation"]),
            frames=values.get("NumberOfFrames") or 1,
        )
    except KeyError as error:
        raise PixelError("header", f"no {error.args[0]}", "a complete header") from error
