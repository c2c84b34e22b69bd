"""One preallocated volume that slices are put into, in the smallest type that holds them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Slices"]

_INT16 = np.iinfo(np.int16)


class Slices:
    """Slices of one volume, put in any order and from several threads.

    Whole numbers start as int16 and move to int32 with the first slice that does not fit, so the
    common image is never held twice.

    Args:
        count: Number of slices.
        shape: Rows and columns.
        is_integral: Whether all values are whole numbers that fit into int32; else float32.
    """

    def __init__(self, count: int, shape: tuple[int, int], *, is_integral: bool) -> None:
        self.is_integral = is_integral
        self._lock = threading.Lock()
        self._array: NDArray[Any] = np.empty(
            (count, *shape), dtype=np.int16 if is_integral else np.float32
        )

    def put(self, number: int, values: NDArray[np.float64]) -> None:
        """Write the values of one slice, shape (rows, columns), where they are no whole numbers."""
        self._array[number] = values

    def put_whole(
        self, number: int, stored: NDArray[Any], *, slope: int = 1, intercept: int = 0
    ) -> None:
        """Write stored x slope + intercept of one slice of whole numbers.

        Computed in place, modulo the size of the type: the answer fits, so it is exact, whatever
        the steps before it ran over.
        """
        ends = (int(end) * slope + intercept for end in (stored.min(), stored.max()))
        with self._lock:  # or another thread may be widening the array
            if self._array.dtype == np.int16 and not all(_in_int16(end) for end in ends):
                self._array = self._array.astype(np.int32)
            plane = self._array[number]
            np.copyto(plane, stored, casting="unsafe")
            if slope != 1:
                plane *= _modulo(slope, plane.dtype)
            if intercept != 0:
                plane += _modulo(intercept, plane.dtype)

    def finished(self) -> NDArray[Any]:
        """All slices, (n, rows, columns): int16, uint16, int32 (the first that fits) or float32."""
        array = self._array
        if array.dtype == np.int32 and array.min() >= 0 and array.max() <= np.iinfo(np.uint16).max:
            return array.astype(np.uint16)
        return array


def _in_int16(value: int) -> bool:
    return _INT16.min <= value <= _INT16.max


def _modulo(value: int, dtype: np.dtype[Any]) -> Any:
    """The number of `dtype` that differs from `value` by a multiple of the size of the type."""
    return np.asarray(value, dtype=np.int64).astype(dtype)[()]
