"""Pixels of a stack: decoded slice by slice in threads, rescaled exactly once, put on the grid.

Uncompressed slices of plain files are read in place; worker processes decode everything else.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.volume import Volume
from medmtl.dicom.native import is_native, native_frame
from medmtl.dicom.provenance import volume_source
from medmtl.dicom.slices import Slices
from medmtl.dicom.worker_client import Worker, WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.study import VolumeRef
    from medmtl.dicom.frames import Frame
    from medmtl.dicom.grid import Layout

__all__ = ["Decoder"]

_ADVICE = "Copy or export the file again from its source."
_LARGEST = 2**31
_LUT_BITS = 16
_THREADS = 4
"""Most slices decoded at the same time, so that small machines keep their memory."""
_SLICES_PER_WORKER = 24
"""A further worker process starts in half a second, which fewer compressed slices do not repay."""


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

    def largest(self, bits: int) -> float:
        """The largest magnitude that values of so many stored bits can take."""
        return abs(self.slope) * 2.0**bits + abs(self.intercept)

    def apply(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        return stored.astype(np.float64) * self.slope + self.intercept


def _is_integral(frames: Sequence[Frame]) -> bool:
    """Whether every possible value of every frame is a whole number that fits into int32."""
    for frame in frames:
        rescale = _Rescale.of(frame)
        bits = int(frame.values.get("BitsStored", 16))
        if "ModalityLUTSequence" in frame.values:
            bits = max(bits, _LUT_BITS)
        if not rescale.is_integral or rescale.largest(bits) >= _LARGEST:
            return False
    return True


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
        slices = Slices(len(frames), frames[0].shape, is_integral=_is_integral(frames))
        self._decode_into(slices)
        array: NDArray[Any] = slices.finished().transpose(2, 1, 0)
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

    def _decode_into(self, slices: Slices) -> None:
        """Decode all frames in threads; the first bad slice in order is the one that is named."""
        frames = self.layout.frames
        compressed = sum(not is_native(frame) for frame in frames)
        workers = self._workers(compressed)

        def decode(number: int) -> None:
            self._put(slices, number, self._stored(frames[number], workers))

        with ThreadPoolExecutor(_threads(), thread_name_prefix="medmtl-decode") as pool:
            slots = [pool.submit(decode, number) for number in range(len(frames))]
            try:
                for slot in slots:
                    slot.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _workers(self, compressed: int) -> SimpleQueue[Worker]:
        """Idle worker processes, as many as the compressed slices are worth."""
        count = max(1, min(_threads(), compressed // _SLICES_PER_WORKER))
        idle: SimpleQueue[Worker] = SimpleQueue()
        idle.put(self.worker)
        for number in range(1, count):
            idle.put(shared_worker(self.worker.limits, number=number))
        return idle

    def _stored(self, frame: Frame, workers: SimpleQueue[Worker]) -> NDArray[Any]:
        """Stored values of one frame, shape (rows, columns)."""
        stored = None
        if is_native(frame):
            stored = native_frame(frame, max_file_bytes=self.worker.limits.max_pixel_bytes)
        return self._by_worker(frame, workers) if stored is None else stored

    def _put(self, slices: Slices, number: int, stored: NDArray[Any]) -> None:
        frame = self.layout.frames[number]
        rescale = _Rescale.of(frame)
        if slices.is_integral:
            slope, intercept = int(rescale.slope), int(rescale.intercept)
            slices.put_whole(number, stored, slope=slope, intercept=intercept)
            return
        values = rescale.apply(stored)
        if not math.isfinite(float(np.abs(values).max())):
            raise self._refusal(frame, "not-finite", "values that are not finite", "finite values")
        slices.put(number, values)

    def _by_worker(self, frame: Frame, workers: SimpleQueue[Worker]) -> NDArray[Any]:
        rows, columns = frame.shape
        worker = workers.get()
        try:
            return worker.decode(
                frame.instance.file.path,
                frame=frame.index,
                rows=rows,
                columns=columns,
                lut="ModalityLUTSequence" in frame.values,
            )
        except WorkerError as error:
            raise self._refusal(frame, error.code, error.found, error.expected) from error
        finally:
            workers.put(worker)

    def _refusal(self, frame: Frame, code: str, found: str, expected: str) -> InputRefusedError:
        return InputRefusedError(
            frame.instance.file.name,
            stage="decode",
            code=code,
            found=found,
            expected=expected,
            advice=_ADVICE,
        )


def _threads() -> int:
    return min(_THREADS, os.cpu_count() or 1)
