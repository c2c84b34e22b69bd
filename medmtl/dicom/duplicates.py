"""Slices that are in the input twice: identical copies collapse, others are told apart."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from medmtl.core.flags import Flag
from medmtl.dicom.sources import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.dicom.frames import Frame

__all__ = ["collapse_identical", "duplicate_flag"]

_CHUNK = 1024 * 1024
_PIXEL_MEANING = (
    "TransferSyntaxUID", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "PhotometricInterpretation", "RescaleSlope", "RescaleIntercept",
    "ModalityLUTSequence",
)  # fmt: skip


def _digest(frame: Frame) -> bytes:
    """Hash of the encoded pixels and of what gives them meaning."""
    digest = hashlib.sha256()
    for keyword in _PIXEL_MEANING:
        digest.update(repr(frame.values.get(keyword)).encode())
    digest.update(str(frame.index).encode())
    span = frame.instance.pixels
    descriptor = open_regular(frame.instance.file.path)
    try:
        os.lseek(descriptor, span.offset if span else 0, os.SEEK_SET)
        left = span.length if span and span.length is not None else 1 << 62
        while left > 0 and (chunk := os.read(descriptor, min(_CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    except OSError:
        digest.update(frame.instance.file.name.encode())  # never equal to another file
    finally:
        os.close(descriptor)
    return digest.digest()


def collapse_identical(frames: Sequence[Frame]) -> list[Frame]:
    """Drop frames whose pixels equal those of an earlier one at the same position.

    Args:
        frames: Frames at one position.

    Returns:
        The frames that differ, in the order of their file names.
    """
    if len(frames) == 1:
        return list(frames)
    kept: dict[bytes, Frame] = {}
    for frame in sorted(frames, key=lambda one: (one.instance.file.name, one.index)):
        kept.setdefault(_digest(frame), frame)
    return list(kept.values())


def duplicate_flag(counts: Iterable[int]) -> Flag:
    """The flag of slices that were present more than once."""
    dropped = sum(counts)
    message = f"{dropped} identical copies of slices were left out."
    return Flag("duplicate-slices-collapsed", "warning", message)
