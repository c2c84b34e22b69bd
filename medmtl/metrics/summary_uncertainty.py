"""What uncertainty is worth: risk and coverage, and whether prediction sets hold the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.core.labels import NO_FINDING
from medmtl.metrics.risk_coverage import answer_confidence, decision_confidence, risk_coverage
from medmtl.metrics.summary_exclusive import exclusive_class
from medmtl.metrics.summary_segmentation import mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.metrics.scores import CaseScore, FindingScore

    Row = tuple[str, FindingScore]
    """Patient and the answer to one finding whose truth is known."""

__all__ = ["summarise_uncertainty"]


def summarise_uncertainty(
    cases: Sequence[CaseScore], *, names: Sequence[str], is_exclusive: bool = False
) -> dict[str, Any]:
    """The part `uncertainty` of metrics.json.

    Args:
        cases: What was measured.
        names: Findings that the model answers and the manifest knows.
        is_exclusive: Whether at most one of them can be present and all are answered.

    Returns:
        `findings`: per finding the risk-coverage curve of wrong decisions, ordered by the
        probability's distance from the threshold and, where members were run, by their spread;
        `segments`: that of 1 - Dice, ordered by the members' pairwise Dice; `classes` for
        exclusive findings. What was not computed is not in it.
    """
    findings = {name: _finding(_known(cases, name)) for name in names}
    segments = {name: _segment(cases, name) for name in _segment_names(cases)}
    found = {
        "findings": {name: part for name, part in findings.items() if part},
        "segments": {name: part for name, part in segments.items() if part},
    }
    return {**found, "classes": _classes(cases, names)} if is_exclusive and names else found


def _known(cases: Sequence[CaseScore], name: str) -> list[Row]:
    return [
        (case.patient_id, finding)
        for case in cases
        for finding in case.findings
        if finding.name == name and finding.truth is not None
    ]


def _finding(rows: Sequence[Row]) -> dict[str, Any]:
    risk = [float(finding.is_wrong) for _, finding in rows]
    by_probability = [decision_confidence(f.probability, f.threshold) for _, f in rows]
    by_spread = [None if f.probability_std is None else -f.probability_std for _, f in rows]
    part = _curves(risk, {"by_probability": by_probability, "by_spread": by_spread})
    if any(finding.is_in_set is not None for _, finding in rows):
        patients = [patient for patient, _ in rows]
        part["prediction_sets"] = _sets(
            patients, [f.is_in_set for _, f in rows], [f.abstains for _, f in rows]
        )
    return part


def _segment(cases: Sequence[CaseScore], name: str) -> dict[str, Any]:
    rows = [part for case in cases for part in case.segments if part.segment == name]
    risk = [None if part.dice is None else 1 - part.dice for part in rows]
    return _curves(risk, {"by_pairwise_dice": [part.pairwise_dice for part in rows]})


def _segment_names(cases: Sequence[CaseScore]) -> list[str]:
    return list(dict.fromkeys(part.segment for case in cases for part in case.segments))


def _classes(cases: Sequence[CaseScore], names: Sequence[str]) -> dict[str, Any]:
    """Wrong classes by the largest class probability, and the sets of classes."""
    patients, risk, confidence = [], [], []
    is_in_set: list[bool | None] = []
    abstains: list[bool | None] = []
    for case in cases:
        findings = [finding for finding in case.findings if finding.name in names]
        truth = exclusive_class(findings, names, of_truth=True)
        if truth is None:
            continue
        patients.append(case.patient_id)
        risk.append(float(exclusive_class(findings, names, of_truth=False) != truth))
        confidence.append(answer_confidence([finding.probability for finding in findings]))
        classes = case.diagnosis_set
        is_in_set.append(None if classes is None else truth in classes)
        abstains.append(None if classes is None else len(classes) != 1)
    part = _curves(risk, {"by_probability": confidence})
    if any(value is not None for value in is_in_set):
        part["prediction_sets"] = _sets(patients, is_in_set, abstains)
    return part | {"classes": [*names, NO_FINDING]}


def _curves(
    risk: Sequence[float | None], orders: dict[str, Sequence[float | None]]
) -> dict[str, Any]:
    curves = {name: risk_coverage(risk, order) for name, order in orders.items()}
    return {name: curve.as_json() for name, curve in curves.items() if curve is not None}


def _sets(
    patients: Sequence[str], is_in_set: Sequence[bool | None], abstains: Sequence[bool | None]
) -> dict[str, Any]:
    """Share of the sets that hold the truth, and share without a single answer."""

    def share(values: Sequence[bool | None]) -> dict[str, Any]:
        numbers = [None if value is None else float(value) for value in values]
        return mean_interval(patients, numbers).as_json()

    return {"holds_truth": share(is_in_set), "abstains": share(abstains)}
