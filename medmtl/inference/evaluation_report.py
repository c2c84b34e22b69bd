"""metrics.json, cases.csv and report.html of an evaluation."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from medmtl.core.durable import replace_file
from medmtl.inference.case_store import output_errors
from medmtl.inference.evaluation_html import report_page
from medmtl.metrics.agreement import LIMIT_SDS
from medmtl.metrics.classification import ECE_BINS
from medmtl.metrics.intervals import RESAMPLES, SEED
from medmtl.metrics.lesions import MIN_IOU
from medmtl.metrics.scores import CaseScore
from medmtl.metrics.subgroups import MIN_PATIENTS, summarise_subgroups
from medmtl.metrics.summary import summarise
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import ModelIdentity
    from medmtl.data.cases import Manifest
    from medmtl.metrics.subgroups import Column

    Result = CaseScore | Failure

__all__ = ["cases_table", "metrics_record", "write_report"]

SCHEMA_VERSION = 1
CASES_FILE = "cases.csv"
REPORT_FILE = "report.html"
FEW_CASES = 50
"""Below this a 95 % interval of a share is wider than about 28 points at its worst."""


_SEGMENT_COLUMNS = (
    "dice", "hd95_mm", "nsd", "truth_ml", "predicted_ml", "jaccard", "assd_mm",
)  # fmt: skip
_LESION_COLUMNS = ("truth", "predicted", "matched", "iou_sum")


def metrics_record(
    results: Sequence[Result],
    *,
    model: ModelIdentity,
    manifest: Manifest,
    manifest_sha256: str,
    split: str,
    tolerance_mm: float,
    columns: Sequence[Column] = (),
    min_patients: int = MIN_PATIENTS,
    speed: str | None = None,
) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        results: One score or failure per case; failures are counted and enter no number.
        model: Who answered.
        manifest: Whose truth it was measured against.
        manifest_sha256: Of its files.
        split: Which cases.
        tolerance_mm: Of the normalised surface Dice.
        columns: What to group by.
        min_patients: Groups of fewer patients are suppressed.
        speed: At which the model answered; None for its usual one.
    """
    scores = [result for result in results if isinstance(result, CaseScore)]
    schema = manifest.schema
    answered = {finding.name for score in scores for finding in score.findings}
    findings = [name for name in schema.finding_names if name in answered]
    is_exclusive = schema.findings_exclusive and len(findings) == len(schema.findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": model.name, "version": model.version, "sha256": model.sha256},
        **({"speed": speed} if speed else {}),
        "manifest": {"name": manifest.name, "sha256": manifest_sha256},
        "split": split,
        "n_cases": len(scores),
        "n_patients": len({score.patient_id for score in scores}),
        "n_failed": len(results) - len(scores),
        "warnings": _warnings(len(scores)),
        **summarise(scores, findings=findings, is_exclusive=is_exclusive),
        "subgroups": summarise_subgroups(
            scores, columns, findings=findings, is_exclusive=is_exclusive, min_patients=min_patients
        ),
        "per_case": CASES_FILE,
        "not_evaluated": _not_evaluated(scores, schema, findings),
        "rules": _rules(tolerance_mm),
    }


def _warnings(n_cases: int) -> list[dict[str, str]]:
    """What a reader must know before any number."""
    if n_cases >= FEW_CASES:
        return []
    message = (
        f"Only {n_cases} cases were measured, fewer than {FEW_CASES}: the intervals are wide and "
        "themselves uncertain. Take no difference between models, findings or groups as shown."
    )
    return [{"code": "few-cases", "message": message}]


def _not_evaluated(
    scores: Sequence[CaseScore], schema: LabelSchema, findings: Sequence[str]
) -> dict[str, Any]:
    """What the manifest knows and no number stands for."""
    measured = {row.segment for score in scores for row in score.segments}
    return {
        "segments": [name for name in schema.segment_names if name not in measured],
        "findings": [name for name in schema.finding_names if name not in findings],
        "volumes_not_analysed": sum(len(score.not_analysed) for score in scores),
    }


def _rules(tolerance_mm: float) -> dict[str, Any]:
    return {
        "both_masks_empty": "no Dice, distance, NSD or volume error",
        "one_mask_empty": "Dice 0, NSD 0, no HD95 or ASSD, counted as missed",
        "unknown_truth": "enters no number",
        "nsd_tolerance_mm": tolerance_mm,
        "lesion_match": f"pieces of 26 neighbours, one to one, IoU above {MIN_IOU}",
        "limits_of_agreement": f"bias ± {LIMIT_SDS} standard deviations of the volume error",
        "ece_bins_of_equal_width": ECE_BINS,
        "ci95": f"percentile bootstrap over patients, {RESAMPLES} resamples, seed {SEED}",
    }


def cases_table(results: Sequence[Result]) -> bytes:
    """cases.csv: one row per case; what does not exist is an empty cell."""
    rows = [_row(result) for result in results]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    fixed = ["case_id", "patient_id", "status", "reason", "not_analysed"]
    columns = [*fixed, *(name for name in columns if name not in fixed)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def _row(result: Result) -> dict[str, Any]:
    if isinstance(result, Failure):
        reason = f"{result.stage}: {result.reason}"
        return {"case_id": result.case_id, "status": "failed", "reason": reason}
    row: dict[str, Any] = {
        "case_id": result.case_id,
        "patient_id": result.patient_id,
        "status": "done",
        "not_analysed": ";".join(result.not_analysed),
        "flags": ";".join(result.flags),
        "slice_mm": result.slice_mm,
        "mean_dice": result.mean_dice,
    }
    for segment in result.segments:
        for name in _SEGMENT_COLUMNS:
            row[f"{name}_{segment.volume_id}_{segment.segment}"] = getattr(segment, name)
        if segment.lesions is not None:
            for name in _LESION_COLUMNS:
                value = getattr(segment.lesions, name)
                row[f"lesions_{name}_{segment.volume_id}_{segment.segment}"] = value
    for finding in result.findings:
        row[f"truth_{finding.name}"] = None if finding.truth is None else int(finding.truth)
        row[f"probability_{finding.name}"] = finding.probability
        row[f"decision_{finding.name}"] = int(finding.decision)
        row[f"pointing_game_{finding.name}"] = finding.pointing_game
        row[f"energy_in_segments_{finding.name}"] = finding.energy_in_segments
        row[f"energy_in_true_segments_{finding.name}"] = finding.energy_in_true_segments
    return row


def write_report(
    out: Path, record: dict[str, Any], results: Sequence[Result], *, records: Path | None = None
) -> None:
    """Write cases.csv and report.html, then metrics.json.

    Args:
        out: Folder to write to.
        record: The content of metrics.json.
        results: One score or failure per case.
        records: Folder of scores and pictures; None for a report without pictures.

    Raises:
        OutputError: If the folder cannot be written.
    """
    with output_errors("Evaluation"):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(out / CASES_FILE, cases_table(results))
        replace_file(out / REPORT_FILE, report_page(record, results, records=records).encode())
        text = json.dumps(record, indent=1, allow_nan=False)
        replace_file(out / "metrics.json", text.encode() + b"\n")
