"""When a finished case is still the answer: same input, same model, same settings."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from medmtl.report.case_json import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.study import Study

__all__ = ["model_key", "source_fingerprint"]

_BLOCKS = 63
_BLOCK_BYTES = 4096


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def model_key(model: ModelIdentity, settings: Mapping[str, Any], formats: Sequence[str]) -> str:
    """SHA-256 over the model, its settings and the files that are written."""
    return _digest(
        [SCHEMA_VERSION, model.name, model.version, model.sha256, dict(settings), sorted(formats)]
    )


def source_fingerprint(study: Study, input_path: Path) -> str:
    """SHA-256 over the study's volumes and its files' names, sizes and modification times.

    No DICOM file is opened: telling 10,000 finished cases from new ones takes seconds. A copy with
    other times is analysed anew, which costs time but never leaves an answer to an older input.
    A NIfTI file has no UID, and tools write fixed times: parts of its content count as well, among
    them the checksum that ends a compressed one. Files inside an archive have the archive's size
    and time.
    """
    base = input_path if input_path.is_dir() else input_path.parent
    outer = _size_and_time(input_path)
    volumes = [
        [ref.id, ref.series_uid, ref.modality, list(ref.geometry.shape), ref.phase, ref.time_ms]
        for ref in study.volumes
    ]
    names = sorted({name for ref in study.volumes for name in ref.source_files})
    files = [[name, _size_and_time(base / name) or outer] for name in names]
    if study.kind == "nifti":
        files += [[name, _sample(base / name)] for name in names]
    return _digest([study.kind, study.study_uid, volumes, files or outer])


def _sample(path: Path) -> str | None:
    """SHA-256 of blocks at equal distances, the first and the last among them; None where unread.

    The affine of a NIfTI file lies in its first block.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            last = max(0, os.fstat(stream.fileno()).st_size - _BLOCK_BYTES)
            for number in range(_BLOCKS + 1):
                stream.seek(last * number // _BLOCKS)
                digest.update(stream.read(_BLOCK_BYTES))
    except OSError:
        return None
    return digest.hexdigest()


def _size_and_time(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
