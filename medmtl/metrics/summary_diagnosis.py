"""Discrimination and calibration of the findings over cases, with intervals over patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics import classification
from medmtl.metrics.intervals import Interval, bootstrap
from medmtl.metrics.weighted import (
    mean_of_means,
    weighted_auprc,
    weighted_auroc,
    weighted_ece,
    weighted_mean,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.scores import CaseScore, FindingScore

__all__ = ["NO_FINDING", "exclusive_class", "summarise_diagnosis"]

NO_FINDING = "none"
"""Class of a case without any of the findings, where findings exclude each other."""


@dataclass(frozen=True, eq=False)
class _Known:
    """The cases whose truth of one finding is known; arrays of shape (cases,)."""

    patients: list[str]
    truth: list[bool | None]
    labels: NDArray[np.bool_]
    probability: NDArray[np.float64]
    decision: NDArray[np.bool_]


def summarise_diagnosis(
    cases: Sequence[CaseScore], *, names: Sequence[str], is_exclusive: bool = False
) -> dict[str, Any]:
    """The part `diagnosis` of metrics.json.

    Args:
        cases: What was measured.
        names: Findings that the model answers and the manifest knows.
        is_exclusive: Whether at most one finding can be present, so that an accuracy over the
            findings and none of them makes sense.
    """
    tables = {name: _known_cases(cases, name) for name in names}
    summary: dict[str, Any] = {
        "macro_auroc": _macro_auroc(list(tables.values())).as_json(),
        "per_finding": {name: _finding(table) for name, table in tables.items()},
    }
    if is_exclusive and names:
        summary = {**_accuracy(cases, names), **summary}
    return summary


def exclusive_class(findings: Sequence[FindingScore], *, of_truth: bool) -> str | None:
    """The one class of a case: the finding that is present, or none of them.

    Args:
        findings: All findings of the case.
        of_truth: The true class, else the one decided on. Of several decided findings the most
            probable counts; a truth that is not fully known and names no finding is None.
    """
    if of_truth:
        present = [finding.name for finding in findings if finding.truth]
        if present:
            return present[0]
        return None if any(finding.truth is None for finding in findings) else NO_FINDING
    decided = [finding for finding in findings if finding.decision]
    return max(decided, key=lambda f: f.probability).name if decided else NO_FINDING


def _known_cases(cases: Sequence[CaseScore], name: str) -> _Known:
    rows = [
        (case.patient_id, finding)
        for case in cases
        for finding in case.findings
        if finding.name == name and finding.truth is not None
    ]
    truth = [finding.truth for _, finding in rows]
    return _Known(
        patients=[patient for patient, _ in rows],
        truth=truth,
        labels=np.array(truth, dtype=bool),
        probability=np.array([finding.probability for _, finding in rows], dtype=np.float64),
        decision=np.array([finding.decision for _, finding in rows], dtype=bool),
    )


def _finding(table: _Known) -> dict[str, Any]:
    labels, scores, right = table.labels, table.probability, table.decision == table.labels
    squared = (scores - labels) ** 2

    def interval(value: float | None, statistic: Any, n: int | None = None) -> dict[str, Any]:
        return bootstrap(statistic, table.patients, value=value, n=n).as_json()

    present = int(labels.sum())
    return {
        "auroc": interval(
            classification.auroc(table.truth, scores), lambda w: weighted_auroc(w, labels, scores)
        ),
        "auprc": interval(
            classification.auprc(table.truth, scores), lambda w: weighted_auprc(w, labels, scores)
        ),
        "sensitivity": interval(
            classification.sensitivity(table.truth, table.decision),
            lambda w: weighted_mean(w[:, labels], right[labels]),
            present,
        ),
        "specificity": interval(
            classification.specificity(table.truth, table.decision),
            lambda w: weighted_mean(w[:, ~labels], right[~labels]),
            len(labels) - present,
        ),
        "brier": interval(
            classification.brier(table.truth, scores), lambda w: weighted_mean(w, squared)
        ),
        "ece": interval(
            classification.expected_calibration_error(table.truth, scores),
            lambda w: weighted_ece(w, labels, scores),
        ),
        "n_present": present,
        "n_absent": len(labels) - present,
    }


def _macro_auroc(tables: Sequence[_Known]) -> Interval:
    """Mean AUROC over the findings that have one."""
    values = [classification.auroc(table.truth, table.probability) for table in tables]
    usable = [table for table, value in zip(tables, values, strict=True) if value is not None]
    if not usable:
        return Interval(None, None, 0)
    patients = [patient for table in usable for patient in table.patients]
    ends = np.cumsum([len(table.patients) for table in usable])[:-1]

    def statistic(weights_rn: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = np.split(weights_rn, ends, axis=1)
        return mean_of_means(
            [
                weighted_auroc(part, table.labels, table.probability)
                for part, table in zip(parts, usable, strict=True)
            ]
        )

    mean = float(np.mean([value for value in values if value is not None]))
    return bootstrap(statistic, patients, value=mean, n=len(set(patients)))


def _accuracy(cases: Sequence[CaseScore], names: Sequence[str]) -> dict[str, Any]:
    """Share of cases in the right class, and the confusion matrix (rows are truth)."""
    classes = [*names, NO_FINDING]
    answers = [
        (case.patient_id, [finding for finding in case.findings if finding.name in names])
        for case in cases
    ]
    rows = [
        (patient, truth, exclusive_class(findings, of_truth=False))
        for patient, findings in answers
        if (truth := exclusive_class(findings, of_truth=True)) is not None
    ]
    right = np.array([truth == decided for _, truth, decided in rows], dtype=np.float64)
    matrix = np.zeros((len(classes), len(classes)), dtype=int)
    for _, truth, decided in rows:
        matrix[classes.index(truth), classes.index(str(decided))] += 1
    accuracy = bootstrap(
        lambda weights_rn: weighted_mean(weights_rn, right),
        [patient for patient, _, _ in rows],
        value=float(right.mean()) if len(right) else None,
    )
    return {
        "accuracy": accuracy.as_json(),
        "confusion": {"classes": classes, "matrix": matrix.tolist()},
    }
