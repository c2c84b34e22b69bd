"""What a header says of the stored pixel bits, and uncompressed bytes read by it.

Used by the worker process and, for plain files, by the reader itself (`native`): no pydicom here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NATIVE",
    "PixelError",
    "PixelFormat",
    "check_format",
    "native_values",
    "without_garbage",
]

NATIVE = {
    "1.2.840.10008.1.2": "<",
    "1.2.840.10008.1.2.1": "<",
    "1.2.840.10008.1.2.1.99": "<",
    "1.2.840.10008.1.2.2": ">",
}
"""Uncompressed transfer syntaxes and their byte order."""


class PixelError(ValueError):
    """Pixel data that contradict their header.

    Attributes:
        code: Short kebab-case reason.
        expected: What would have been accepted.
    """

    def __init__(self, code: str, found: str, expected: str) -> None:
        self.code = code
        self.expected = expected
        super().__init__(found)


@dataclass(frozen=True)
class PixelFormat:
    """What the header says of the pixels of one frame."""

    rows: int
    columns: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    frames: int

    @property
    def frame_bytes(self) -> int:
        """Size of one uncompressed frame."""
        return self.rows * self.columns * self.allocated // 8

    def dtype(self, *, signed: bool) -> np.dtype[Any]:
        """Little endian integers as wide as a cell."""
        return np.dtype(f"<{'i' if signed else 'u'}{self.allocated // 8}")

    def check_length(self, length: int) -> None:
        """Compare a length of uncompressed pixel data with the header.

        Raises:
            PixelError: If it is not that of the frames, with a byte of padding where it is odd.
        """
        expected = self.frame_bytes * self.frames
        if length not in (expected, expected + expected % 2):
            code = "truncated" if length < expected else "pixel-data-length"
            raise PixelError(code, f"{length} bytes of pixel data", f"{expected} bytes")


def check_format(form: PixelFormat) -> None:
    """Check that the stored bits lie inside a cell of a width that can be read.

    Raises:
        PixelError: If they do not.
    """
    fits = form.stored - 1 <= form.high_bit < form.allocated and form.stored >= 1
    if form.allocated not in (8, 16, 32) or not fits:
        found = f"{form.allocated} bits allocated, {form.stored} stored, high bit {form.high_bit}"
        raise PixelError("bit-depth", found, "8, 16 or 32 bits allocated that hold the stored bits")


def native_values(
    data: bytes, form: PixelFormat, *, order: str, is_words: bool, index: int
) -> NDArray[Any]:
    """The cells of one frame of uncompressed pixel data, shape (rows, columns), unsigned.

    Args:
        data: All frames.
        form: What the header says of them.
        order: "<" or ">".
        is_words: Whether the value representation is OW, not OB.
        index: Frame number, from 0.

    Raises:
        PixelError: If the data are not as long as the header says.
    """
    form.check_length(len(data))
    if order == ">" and form.allocated == 8 and is_words:
        # PS3.5 A.3: big endian OW words hold two 8-bit pixels, swapped; OB has no order.
        data += b"\0" * (len(data) % 2)
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    dtype = np.dtype(f"{order}u{form.allocated // 8}")
    count = form.rows * form.columns
    values = np.frombuffer(data, dtype, count=count, offset=index * form.frame_bytes)
    return values.reshape(form.rows, form.columns)


def without_garbage(values: NDArray[Any], form: PixelFormat) -> NDArray[Any]:
    """Keep the stored bits (PS3.5 8.1.1) and extend the sign: shifted up, and down again."""
    cells = values.astype(form.dtype(signed=False), copy=False)
    above, below = form.allocated - 1 - form.high_bit, form.allocated - form.stored
    if above:
        cells = cells << cells.dtype.type(above)
    cells = cells.view(form.dtype(signed=form.signed))
    return cells >> cells.dtype.type(below) if below else cells
