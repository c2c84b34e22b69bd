"""The child process that parses and decodes untrusted files under a memory limit.

One request per line on standard input (JSON), one JSON line back, followed by raw bytes where the
answer says so. The parent (`worker_client`) keeps the clock and kills a process that hangs.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.dicom.full_header import NotDicomError, dicomdir_files, open_dataset, read_full
from medmtl.dicom.patient import read_patient
from medmtl.dicom.pixel_format import PixelError
from medmtl.dicom.pixels import stored_values
from medmtl.dicom.rtstruct_contours import read_structure_set
from medmtl.dicom.seg_frames import read_segmentation
from medmtl.dicom.sr_content import read_report_content

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import FileDataset

__all__ = ["main"]

_KNOWN = (
    ArithmeticError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError,
    RuntimeError, StopIteration, TypeError, ValueError, struct.error, zlib.error,
)  # fmt: skip
"""What pydicom and the codecs raise over damaged files (a changed byte can raise any of them)."""


def _limit_memory(budget_bytes: int) -> None:
    """Allow `budget_bytes` beyond what the process takes now; where the platform can."""
    try:
        import resource
    except ImportError:  # Windows: the size checks before each allocation still hold
        return
    statm = Path("/proc/self/statm")
    now = int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = now + budget_bytes
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Cache:
    """The last file, so that the frames of a multi-frame image are read once."""

    def __init__(self) -> None:
        self.key: tuple[str, int, int] | None = None
        self.dataset: FileDataset | None = None

    def open(self, path: Path, limit: int) -> FileDataset:
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size)
        if self.dataset is None or key != self.key:
            self.dataset = None
            self.dataset, self.key = open_dataset(path, limit=limit, pixels=True), key
        return self.dataset


def _through_lut(values: NDArray[Any], dataset: FileDataset) -> NDArray[Any]:
    """Apply the modality LUT (PS3.3 C.11.1.1)."""
    item = dataset.ModalityLUTSequence[0]
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 65536
    if dataset.PixelRepresentation and first >= 32768:
        first -= 65536
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        table = np.frombuffer(data, f"{order}u2" if len(data) == 2 * count else "u1")
    else:
        table = np.asarray(data, dtype=np.int64)
    if len(table) < count or bits not in range(8, 17):
        raise PixelError("modality-lut", f"{len(table)} entries", f"{count} entries")
    index = np.clip(values.astype(np.int64) - first, 0, count - 1)
    return np.asarray(table[index], dtype="<i4")


def _decode(request: dict[str, Any], cache: _Cache) -> tuple[dict[str, Any], bytes]:
    dataset = cache.open(Path(request["path"]), request["limit"])
    shape = (int(dataset.Rows), int(dataset.Columns))
    if list(shape) != request["shape"]:
        raise PixelError("header", f"shape {shape}", str(tuple(request["shape"])))
    if "PixelData" not in dataset:
        raise PixelError("no-pixel-data", "no pixel data", "pixel data")
    values = stored_values(dataset, index=request["frame"])
    if request["lut"]:
        values = _through_lut(values, dataset)
    payload = np.ascontiguousarray(values).tobytes()
    return {"dtype": values.dtype.str, "bytes": len(payload)}, payload


def _answer(request: dict[str, Any], cache: _Cache) -> tuple[dict[str, Any], bytes]:
    path, limit = Path(request["path"]), request["limit"]
    if request["op"] == "decode":
        return _decode(request, cache)
    if request["op"] == "dicomdir":
        return {"files": dicomdir_files(path, limit=limit)}, b""
    if request["op"] == "seg":
        return read_segmentation(path, limit=limit)
    if request["op"] == "rtstruct":
        return read_structure_set(path, limit=limit)
    if request["op"] == "report":
        return read_report_content(path, limit=limit), b""
    if request["op"] == "patient":
        return {"values": read_patient(path, limit=limit)}, b""
    return {"values": read_full(path, limit=limit)}, b""


def _safe_answer(line: bytes, cache: _Cache) -> tuple[dict[str, Any], bytes]:
    try:
        return _answer(json.loads(line), cache)
    except NotDicomError:
        return {"error": "not-dicom"}, b""
    except PixelError as error:
        return {"error": error.code, "found": str(error), "expected": error.expected}, b""
    except MemoryError:
        cache.dataset = None
        return {"error": "memory"}, b""
    except _KNOWN as error:
        # Only the kind: the text of a library error may quote a header value.
        return {"error": "unreadable", "kind": type(error).__name__}, b""


def main() -> None:
    """Answer requests until standard input closes."""
    _limit_memory(int(sys.argv[1]))
    cache = _Cache()
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        answer, payload = _safe_answer(line, cache)
        out.write(json.dumps(answer).encode() + b"\n")
        out.write(payload)
        out.flush()
