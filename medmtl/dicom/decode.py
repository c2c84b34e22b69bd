"""Pixels of a stack: decoded in the worker, rescaled exactly once, put on the grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.volume import Volume
from medmtl.dicom.provenance import volume_source
from medmtl.dicom.worker_client import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.study import VolumeRef
    from medmtl.dicom.frames import Frame
    from medmtl.dicom.grid import Layout

__all__ = ["Decoder"]

_ADVICE = "Copy or export the file again from its source."
_INTEGERS = (np.int16, np.uint16, np.int32)
_LARGEST = 2**31


@dataclass(frozen=True)
class _Rescale:
    """Output = stored x slope + intercept (PS3.3 C.11.1.1.2)."""

    slope: float
    intercept: float

    @classmethod
    def of(cls, frame: Frame) -> _Rescale:
        values = frame.values
        return cls(float(values.get("RescaleSlope", 1)), float(values.get("RescaleIntercept", 0)))

    @property
    def is_integral(self) -> bool:
        return self.slope.is_integer() and self.intercept.is_integer()

    def apply(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        return stored.astype(np.float64) * self.slope + self.intercept


def _working_dtype(frames: Sequence[Frame]) -> type[np.int32] | type[np.float32]:
    """int32 where every possible value of every frame is a whole number that fits."""
    for frame in frames:
        rescale = _Rescale.of(frame)
        bits = int(frame.values.get("BitsStored", 16))
        extreme = abs(rescale.slope) * 2.0**bits + abs(rescale.intercept)
        if not rescale.is_integral or extreme >= _LARGEST:
            return np.float32
    return np.int32


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    """The same whole numbers in the smallest type that holds them."""
    low, high = int(array.min()), int(array.max())
    for dtype in _INTEGERS:
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return array.astype(dtype, copy=False)
    return array


@dataclass(frozen=True, eq=False)
class Decoder:
    """Reads the pixels of one accepted stack.

    Attributes:
        layout: Sorted frames and grid.
        worker: Process that decodes.
        keep_alive: Holds the unpacked files of a zip.
    """

    layout: Layout
    worker: Worker
    keep_alive: Any = None

    def read(self, ref: VolumeRef) -> Volume:
        """Decode the volume that `ref` describes.

        Raises:
            InputRefusedError: If a frame cannot be decoded safely; it names the file.
        """
        frames = self.layout.frames
        rows, columns = frames[0].shape
        dtype = _working_dtype(frames)
        slices = np.empty((len(frames), rows, columns), dtype=dtype)
        for number, frame in enumerate(frames):
            slices[number] = self._slice(frame)
        array: NDArray[Any] = slices.transpose(2, 1, 0)
        if dtype is np.int32:
            array = _smallest(array)
        plan = self.layout.rectification
        if plan is not None:
            from medmtl.dicom.rectify import rectify  # SciPy is slow to import and rarely needed

            array = rectify(array, plan, shape=self.layout.geometry.shape)
        return Volume(
            array=array,
            geometry=self.layout.geometry,
            id=ref.id,
            modality=ref.modality,
            flags=ref.flags,
            series_uid=ref.series_uid,
            frame_of_reference_uid=str(frames[0].values.get("FrameOfReferenceUID", "")),
            path=ref.source_files[0],
            time_ms=ref.time_ms,
            metadata=ref.metadata,
            source=volume_source(frames, self.worker),
        )

    def _slice(self, frame: Frame) -> NDArray[np.float64]:
        """Rescaled values of one frame, shape (rows, columns)."""
        rows, columns = frame.shape
        try:
            stored = self.worker.decode(
                frame.instance.file.path,
                frame=frame.index,
                rows=rows,
                columns=columns,
                lut="ModalityLUTSequence" in frame.values,
            )
        except WorkerError as error:
            raise self._refusal(frame, error.code, error.found, error.expected) from error
        values = _Rescale.of(frame).apply(stored)
        if not math.isfinite(float(np.abs(values).max())):
            raise self._refusal(frame, "not-finite", "values that are not finite", "finite values")
        return values

    def _refusal(self, frame: Frame, code: str, found: str, expected: str) -> InputRefusedError:
        return InputRefusedError(
            frame.instance.file.name,
            stage="decode",
            code=code,
            found=found,
            expected=expected,
            advice=_ADVICE,
        )
