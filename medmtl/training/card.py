"""The model card and the text of metrics.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.inference.bundle_settings import BundleSettings

__all__ = ["as_json", "card_text", "figures_table"]


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


def as_json(metrics: Mapping[str, Any]) -> str:
    """The text of metrics.json."""
    return json.dumps(metrics, indent=2, sort_keys=False, allow_nan=False) + "\n"
