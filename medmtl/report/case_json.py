"""case.json, the record of one finished case (CONTRACT, schema_version 1)."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from medmtl.core.labels import LabelSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medmtl.core.labels import FindingSpec, SegmentSpec
    from medmtl.core.prediction import (
        FindingResult,
        FindingUncertainty,
        ModelIdentity,
        Prediction,
        SegmentResult,
        SegmentUncertainty,
    )
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume

__all__ = ["SCHEMA_VERSION", "as_json_bytes", "case_record"]

SCHEMA_VERSION = 1


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: unknown is null."""
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def as_json_bytes(record: Mapping[str, Any]) -> bytes:
    """The record as UTF-8 JSON with a newline at the end; NaN and infinity become null."""
    text = json.dumps(_plain(dict(record)), indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def _model(model: ModelIdentity) -> dict[str, Any]:
    return {"name": model.name, "version": model.version, "sha256": model.sha256}


def _source_volume(volume: Volume) -> dict[str, Any]:
    place = {
        "id": volume.id,
        "series_uid": volume.series_uid,
        "modality": volume.modality,
        "frame_of_reference_uid": volume.frame_of_reference_uid,
        "path": volume.path,
    }
    return {**place, **volume.geometry.as_json()}


def _told(specs: Iterable[SegmentSpec | FindingSpec]) -> dict[str, dict[str, Any]]:
    """What the schema says beyond each name: its code, and that it is a lesion."""
    return {
        spec.name: {
            **({"code": asdict(spec.code, dict_factory=_stated)} if spec.code else {}),
            **({"is_lesion": True} if getattr(spec, "is_lesion", False) else {}),
        }
        for spec in specs
    }


def _stated(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def _segment(segment: SegmentResult, told: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "volume": segment.volume,
        "label": segment.label,
        "name": segment.name,
        **told.get(segment.name, {}),
        "volume_ml": _rounded(segment.volume_ml, 4),
        "voxels": segment.voxels,
        "mean_intensity": _rounded(segment.mean_intensity, 3),
        **_uncertainty(segment.uncertainty),
    }


def _finding(
    finding: FindingResult, cam_files: Mapping[str, str], told: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    energy = {name: _rounded(share, 6) for name, share in finding.cam_energy_in_segments.items()}
    return {
        "name": finding.name,
        **told.get(finding.name, {}),
        "probability": _rounded(finding.probability, 6),
        "threshold": _rounded(finding.threshold, 6),
        "decision": bool(finding.decision),
        "calibrated": bool(finding.calibrated),
        "cam": dict(cam_files),
        "evidence": {
            "cam_energy_in_segments": energy,
            "measurements": list(finding.measurements),
            **_contributions(finding),
        },
        **_prediction_set(finding),
        **_uncertainty(finding.uncertainty),
    }


def _contributions(finding: FindingResult) -> dict[str, Any]:
    """Largest first; nothing where the model cannot tell."""
    by_size = sorted(finding.contributions.items(), key=lambda item: -abs(item[1]))
    told = {name: _rounded(value, 4) for name, value in by_size}
    return {"contributions": told} if told else {}


def _prediction_set(finding: FindingResult) -> dict[str, Any]:
    """Nothing where the model has no conformal quantile."""
    found = finding.prediction_set
    if found is None:
        return {}
    return {
        "prediction_set": list(found.members),
        "coverage": found.coverage,
        "abstains": found.abstains,
    }


def _uncertainty(found: SegmentUncertainty | FindingUncertainty | None) -> dict[str, Any]:
    """Nothing where it was not asked for."""
    if found is None:
        return {}
    return {"uncertainty": {name: _rounded(value, 6) for name, value in asdict(found).items()}}


def _of_the_case(prediction: Prediction) -> dict[str, Any]:
    """What only some models and runs have."""
    record: dict[str, Any] = {}
    if prediction.channels:
        record["channels"] = [
            {
                "name": channel.name,
                "series_uid": channel.series_uid,
                "path": channel.path,
                "matched_by": channel.matched_by,
                "resampled": channel.is_resampled,
            }
            for channel in prediction.channels
        ]
    if prediction.diagnosis_set is not None:
        classes = prediction.diagnosis_set
        record["diagnosis_set"] = {
            "classes": list(classes.members),
            "coverage": classes.coverage,
            "abstains": classes.abstains,
        }
    if prediction.uncertainty is not None:
        record["uncertainty"] = {
            "method": prediction.uncertainty.method,
            "members": list(prediction.uncertainty.members),
        }
    return record


def case_record(
    study: Study,
    prediction: Prediction,
    *,
    cam_files: Mapping[str, Mapping[str, str]],
    files: Mapping[str, int],
    resume: Mapping[str, str],
    timings_s: Mapping[str, float],
) -> dict[str, Any]:
    """The content of case.json.

    Args:
        study: The study that was analysed.
        prediction: The answer.
        cam_files: Per finding, the activation map of each volume id, relative to the case folder.
        files: Size in bytes of every other file of the case, by path relative to its folder.
        resume: What must be unchanged for the case to count as finished.
        timings_s: Seconds per stage.
    """
    schema = prediction.schema or LabelSchema()
    of_segments, of_findings = _told(schema.segments), _told(schema.findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "done",
        "notice": prediction.notice,
        "case_id": study.case_id,
        "model": _model(prediction.model),
        "source": {
            "kind": study.kind,
            "study_uid": study.study_uid,
            "volumes": [_source_volume(part.volume) for part in prediction.volumes],
        },
        "segments": [_segment(segment, of_segments) for segment in prediction.segments],
        "measurements": [
            {"name": m.name, "value": _rounded(m.value, 4), "unit": m.unit, "from": m.source}
            for m in prediction.measurements
        ],
        "findings": [
            _finding(f, cam_files.get(f.name, {}), of_findings) for f in prediction.findings
        ],
        "findings_exclusive": schema.findings_exclusive,
        **_of_the_case(prediction),
        "quality": {
            "flags": [
                {"code": flag.code, "severity": flag.severity, "message": flag.message}
                for flag in prediction.flags
            ]
        },
        "files": dict(sorted(files.items())),
        "resume": dict(resume),
        "timings_s": {name: round(seconds, 3) for name, seconds in timings_s.items()},
    }
