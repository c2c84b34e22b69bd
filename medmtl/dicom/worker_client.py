"""The parent's end of the worker process: ask, wait with a time limit, survive its death."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import weakref
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.dicom.limits import ReadLimits

__all__ = ["Worker", "WorkerError", "shared_worker"]

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "import warnings; warnings.simplefilter('ignore'); "
    "from medmtl.dicom.worker import main; main()"
)
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_MAX_LINE = 256 * 1024 * 1024


class WorkerError(Exception):
    """The worker could not do what was asked.

    Attributes:
        code: Short kebab-case reason; "not-dicom" where the file is no DICOM file.
        found: What was found.
        expected: What would have been accepted.
    """

    def __init__(self, code: str, found: str, expected: str) -> None:
        self.code = code
        self.found = found
        self.expected = expected
        super().__init__(f"{code}: {found}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait()


class Worker:
    """One worker process, started when first needed and again after it died. Thread-safe."""

    def __init__(self, limits: ReadLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """A copy sent to another process is the worker of that process."""
        return shared_worker, (self.limits,)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def header(self, path: Path) -> dict[str, Any]:
        """Values of a header by the full reader."""
        answer, _ = self._ask({"op": "header", "path": str(path)})
        return dict(answer["values"])

    def patient(self, path: Path) -> dict[str, str]:
        """Patient and study attributes as clean text: identities, for DICOM objects only."""
        answer, _ = self._ask({"op": "patient", "path": str(path)})
        return dict(answer["values"])

    def segmentation(self, path: Path) -> tuple[dict[str, Any], bytes]:
        """Description and pixels of a segmentation, see `seg_frames.read_segmentation`.

        Raises:
            WorkerError: If the file is no segmentation or cannot be read within the limits.
        """
        request = {"op": "seg", "path": str(path)}
        return self._ask(request, largest=self.limits.max_pixel_bytes)

    def structure_set(self, path: Path) -> tuple[dict[str, Any], bytes]:
        """Description and points of a structure set, see `rtstruct_contours.read_structure_set`.

        Raises:
            WorkerError: If the file is no structure set or cannot be read within the limits.
        """
        request = {"op": "rtstruct", "path": str(path)}
        return self._ask(request, largest=self.limits.max_pixel_bytes)

    def report(self, path: Path) -> dict[str, Any]:
        """Content of a structured report, see `sr_content.read_report_content`.

        Raises:
            WorkerError: If the file is no report or cannot be read within the limits.
        """
        answer, _ = self._ask({"op": "report", "path": str(path)})
        return answer

    def dicomdir(self, path: Path) -> list[list[str]]:
        """Path components of each file that a DICOMDIR lists."""
        answer, _ = self._ask({"op": "dicomdir", "path": str(path)})
        return [list(parts) for parts in answer["files"]]

    def decode(self, path: Path, *, frame: int, rows: int, columns: int, lut: bool) -> NDArray[Any]:
        """Stored values of one frame, shape (rows, columns), through the modality LUT if asked.

        Raises:
            WorkerError: If the pixels cannot be decoded within the limits.
        """
        request = {
            "op": "decode", "path": str(path), "frame": frame, "shape": [rows, columns], "lut": lut,
        }  # fmt: skip
        answer, payload = self._ask(request, largest=rows * columns * 4)
        values = np.frombuffer(payload, np.dtype(answer["dtype"]))
        return values.reshape(rows, columns)

    def _ask(self, request: dict[str, Any], *, largest: int = 0) -> tuple[dict[str, Any], bytes]:
        request["limit"] = self.limits.max_pixel_bytes
        with self._lock:
            process = self._started()
            seconds = self._seconds(request)
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            try:
                answer, payload = self._exchange(process, request, largest)
            except (OSError, ValueError) as error:
                timed_out = not timer.is_alive()
                self._end()
                raise _death(seconds, timed_out=timed_out) from error
            except BaseException:  # an interrupted exchange would answer the next question
                self._end()
                raise
            finally:
                timer.cancel()
        if "error" in answer:
            raise _problem(answer, self.limits)
        return answer, payload

    def _seconds(self, request: dict[str, Any]) -> float:
        is_decode = request["op"] in {"decode", "seg", "rtstruct", "report"}
        return self.limits.max_seconds if is_decode else self.limits.max_header_seconds

    def _exchange(
        self, process: subprocess.Popen[bytes], request: dict[str, Any], largest: int
    ) -> tuple[dict[str, Any], bytes]:
        if process.stdin is None or process.stdout is None:
            raise OSError
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline(_MAX_LINE))
        size = int(answer.get("bytes", 0))
        if size > largest:
            raise ValueError
        payload = process.stdout.read(size) if size else b""
        if len(payload) != size:
            raise ValueError
        return answer, payload

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            path = [entry for entry in sys.path if entry] + [_PACKAGE_ROOT]
            budget = str(self.limits.max_worker_bytes)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-c", _START, json.dumps(path), budget],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # library messages may quote header values
            )
            self._finalizer = weakref.finalize(self, _stop, self._process)
        return self._process

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._process = self._finalizer = None


@lru_cache(maxsize=16)
def shared_worker(limits: ReadLimits, *, number: int = 0) -> Worker:
    """Worker `number` of this process for these limits; starting one costs half a second."""
    del number  # it only tells the workers apart
    return Worker(limits)


def _death(seconds: float, *, timed_out: bool) -> WorkerError:
    if timed_out:
        return WorkerError("too-slow", f"more than {seconds:g} s", f"at most {seconds:g} s")
    return WorkerError("decoder-crash", "data that crash the decoder", "intact data")


def _problem(answer: dict[str, Any], limits: ReadLimits) -> WorkerError:
    code = str(answer["error"])
    if code == "memory":
        gib = limits.max_worker_bytes / 1024**3
        return WorkerError("too-large", f"more than {gib:g} GiB in the decoder", f"{gib:g} GiB")
    if code == "unreadable":
        return WorkerError(code, f"damaged data ({answer['kind']})", "intact data")
    return WorkerError(code, str(answer.get("found", "")), str(answer.get("expected", "")))
