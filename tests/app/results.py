"""Result folders as `medmtl predict` leaves them, in milliseconds and without a model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = "0" * 64


def finding(
    name: str, probability: float, *, threshold: float = 0.5, **further: Any
) -> dict[str, Any]:
    return {
        "name": name,
        "probability": probability,
        "threshold": threshold,
        "decision": probability >= threshold,
        "calibrated": True,
        "cam": {},
        "evidence": {"cam_energy_in_segments": {}, "measurements": []},
        **further,
    }


def case_record(
    case_id: str, *findings: dict[str, Any], flags: dict[str, str] | None = None, **further: Any
) -> dict[str, Any]:
    """The content of a case.json; flags are severities by code."""
    return {
        "schema_version": 1,
        "status": "done",
        "notice": "Research software, not a medical device.",
        "case_id": case_id,
        "model": {"name": "torso", "version": "1.0.0", "sha256": SHA256},
        "source": {
            "kind": "dicom",
            "study_uid": "2.25.1",
            "volumes": [{
                "id": "ct", "series_uid": "2.25.2", "path": "a/1.dcm", "shape_ijk": [8, 8, 8],
                "spacing_mm": [1.0, 1.0, 1.0], "axis_code": "LPS",
            }],
        },
        "segments": [],
        "measurements": [],
        "findings": list(findings),
        "quality": {
            "flags": [
                {"code": code, "severity": severity, "message": f"About {code}."}
                for code, severity in (flags or {}).items()
            ]
        },
        "files": {},
        "resume": {},
        "timings_s": {"total": 1.0},
        **further,
    }  # fmt: skip


def write_results(folder: Path, *records: dict[str, Any]) -> Path:
    """A result folder with these cases."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text("{}", encoding="utf-8")
    for record in records:
        write_case(folder, record)
    return folder


def write_case(folder: Path, record: dict[str, Any]) -> None:
    case = folder / record["case_id"]
    case.mkdir(exist_ok=True)
    (case / "case.json").write_text(json.dumps(record), encoding="utf-8")
