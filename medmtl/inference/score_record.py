"""Scores of finished cases on the disk, so that a killed evaluation goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from medmtl.core.durable import replace_file
from medmtl.inference.case_store import output_errors
from medmtl.metrics.lesions import LesionCounts
from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medmtl.data.cases import Case

__all__ = ["load_score", "save_score", "score_key", "score_of"]

_SCORE_VERSION = 4
"""Raised when a score holds more or means something else, so that it is computed anew."""


def score_key(case: Case, data_root: Path, *, model_key: str, settings: Sequence[Any]) -> str:
    """SHA-256 over all that a score depends on: model, row, files' sizes and times, settings.

    Args:
        case: Row of the manifest.
        data_root: Of its files.
        model_key: Of the model with its own settings.
        settings: Whatever else a score depends on: tolerances, what labels mean.
    """
    paths = [path for row in case.volumes for path in (row.image, row.segmentation) if path]
    files = []
    for path in paths:
        status = (data_root / path).stat()
        files.append([path, status.st_size, status.st_mtime_ns])
    row = asdict(case)
    for volume in row["volumes"]:
        del volume["attributes"]  # they group scores, and enter none
    parts = [_SCORE_VERSION, model_key, row, files, list(settings)]
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def load_score(folder: Path, case_id: str, *, key: str) -> CaseScore | None:
    """The score of an earlier run; None where there is none, or it answers another question."""
    try:
        record = json.loads((folder / f"{case_id}.json").read_text(encoding="utf-8"))
        if record["key"] != key:
            return None
        return score_of(record["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def score_of(record: Mapping[str, Any]) -> CaseScore:
    """The score that `dataclasses.asdict` and JSON made a record of."""
    classes = record["diagnosis_set"]
    return CaseScore(
        case_id=record["case_id"],
        patient_id=record["patient_id"],
        segments=tuple(_segment(row) for row in record["segments"]),
        findings=tuple(FindingScore(**row) for row in record["findings"]),
        not_analysed=tuple(record["not_analysed"]),
        flags=tuple(record["flags"]),
        slice_mm=record["slice_mm"],
        diagnosis_set=None if classes is None else tuple(classes),
    )


def _segment(row: Mapping[str, Any]) -> SegmentScore:
    lesions = row["lesions"]
    return SegmentScore(**{**row, "lesions": _lesions(lesions) if lesions else None})


def _lesions(row: Mapping[str, Any]) -> LesionCounts:
    lists = {name: tuple(row.get(name, ())) for name in ("diameters_mm", "is_found")}
    return LesionCounts(**{**row, **lists})


def save_score(folder: Path, score: CaseScore, *, key: str) -> None:
    """Write one score in one step.

    Raises:
        OutputError: If the folder cannot be written.
    """
    with output_errors(f"Score of case {score.case_id}"):
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"key": key, "score": asdict(score)}).encode()
        replace_file(folder / f"{score.case_id}.json", content)
