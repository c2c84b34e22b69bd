"""What both recipes do with a trained network: settings, calibration, card, bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.inference.bundle import CodeSettings, FindingSettings, SegmentSettings
from medmtl.metrics.scores import CaseScore
from medmtl.training.calibrate import Calibration, fit_platt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.core.labels import Code, LabelSchema
    from medmtl.inference.bundle import BundleSettings

__all__ = ["as_json", "calibrate", "card_text", "finding_settings", "segment_settings"]


def segment_settings(
    schema: LabelSchema, volumes_ml: Mapping[str, Sequence[float]]
) -> tuple[SegmentSettings, ...]:
    """Segments of a bundle, with the range of volumes seen in training (1st, 99th percentile)."""
    return tuple(
        SegmentSettings(
            label=segment.label,
            name=segment.name,
            code=_code(segment.code),
            is_lesion=segment.is_lesion,
            expected_ml=None if segment.is_lesion else _range(volumes_ml[segment.name]),
        )
        for segment in schema.segments
    )


def finding_settings(
    schema: LabelSchema,
    calibrations: Mapping[str, Calibration],
    thresholds: Mapping[str, float] | None = None,
) -> tuple[FindingSettings, ...]:
    """Findings of a bundle; uncalibrated where there is no calibration."""
    return tuple(
        FindingSettings(
            name=finding.name,
            code=_code(finding.code),
            segments=finding.segments,
            requires_segment=finding.requires_segment,
            threshold=(thresholds or {}).get(finding.name, 0.5),
            scale=round(calibrations.get(finding.name, Calibration()).scale, 6),
            offset=round(calibrations.get(finding.name, Calibration()).offset, 6),
            calibrated=finding.name in calibrations,
        )
        for finding in schema.findings
    )


def calibrate(scores: Sequence[CaseScore]) -> dict[str, Calibration]:
    """Platt scaling of every finding, from scores of an uncalibrated bundle."""
    logits: dict[str, list[float]] = {}
    targets: dict[str, list[float]] = {}
    for score in scores:
        for finding in score.findings:
            p = float(np.clip(finding.probability, 1e-9, 1 - 1e-9))
            logits.setdefault(finding.name, []).append(float(np.log(p / (1 - p))))
            truth = np.nan if finding.truth is None else float(finding.truth)
            targets.setdefault(finding.name, []).append(truth)
    return {
        name: fit_platt(np.array(values), np.array(targets[name]))
        for name, values in logits.items()
    }


def figures_table(metrics: Mapping[str, Any]) -> str:
    """The figures of a metrics.json as a Markdown table, with intervals."""
    rows = ["| figure | value | 95 % interval |", "|---|---|---|"]
    segmentation, diagnosis = metrics["segmentation"], metrics["diagnosis"]
    rows.append(_row("mean Dice", segmentation["mean_dice"]))
    for name, values in segmentation["per_segment"].items():
        rows.append(_row(f"Dice, {name.replace('_', ' ')}", values["dice"]))
        rows.append(_row(f"HD95 mm, {name.replace('_', ' ')}", values["hd95_mm"]))
    if diagnosis.get("accuracy"):
        rows.append(_row("accuracy, findings and none of them", diagnosis["accuracy"]))
    rows.append(_row("macro AUROC", diagnosis["macro_auroc"]))
    for name, values in diagnosis["per_finding"].items():
        rows.append(_row(f"AUROC, {name.replace('_', ' ')}", values["auroc"]))
    return "\n".join(rows)


def card_text(
    settings: BundleSettings, *, training: str, evaluation: str, metrics: Mapping[str, Any]
) -> str:
    """The model card."""
    findings = ", ".join(finding.name.replace("_", " ") for finding in settings.findings)
    segments = ", ".join(segment.name.replace("_", " ") for segment in settings.segments)
    return f"""# {settings.name} {settings.version}

{settings.notice}

- Segments: {segments}.
- Findings: {findings}.
- Intended use: {settings.intended_use}
- Limits: {settings.limits}
- Licence of the weights: {settings.licence}.

## Training

{training}

## Evaluation

{evaluation}

{figures_table(metrics)}

Intervals are percentile bootstraps over patients. The same figures, with the rules for empty masks
and unknown labels, are in `metrics.json`.
"""


def _row(name: str, figure: Any) -> str:
    if not isinstance(figure, dict) or figure.get("value") is None:
        return f"| {name} | not measured | |"
    interval = figure.get("ci95") or (None, None)
    shown = "" if interval[0] is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    return f"| {name} | {figure['value']:.3f} | {shown} |"


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    if not len(values):
        return None
    low, high = np.percentile(np.asarray(values, dtype=float), [1, 99])
    return round(float(low), 1), round(float(high), 1)


def _code(code: Code | None) -> CodeSettings | None:
    return (
        CodeSettings(value=code.value, meaning=code.meaning, scheme=code.scheme) if code else None
    )


def as_json(metrics: Mapping[str, Any]) -> str:
    """The text of metrics.json."""
    return json.dumps(metrics, indent=2, sort_keys=False, allow_nan=False) + "\n"
