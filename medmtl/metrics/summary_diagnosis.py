"""Discrimination and calibration of the findings over cases, with intervals over patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics import classification
from medmtl.metrics.intervals import Interval, bootstrap, shared_patients
from medmtl.metrics.reliability import reliability_curve
from medmtl.metrics.summary_exclusive import exclusive_class, summarise_classes
from medmtl.metrics.weighted import (
    mean_of_means,
    weighted_auprc,
    weighted_auroc,
    weighted_balanced_accuracy,
    weighted_ece,
    weighted_mean,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.intervals import Statistic
    from medmtl.metrics.scores import CaseScore

__all__ = ["brief_diagnosis", "exclusive_class", "summarise_diagnosis"]


@dataclass(frozen=True, eq=False)
class _Known:
    """The cases whose truth of one finding is known; arrays of shape (cases,)."""

    patients: list[str]
    truth: list[bool | None]
    labels: NDArray[np.bool_]
    probability: NDArray[np.float64]
    decision: NDArray[np.bool_]

    def interval(
        self, value: float | None, statistic: Statistic, *, n: int | None = None
    ) -> dict[str, Any]:
        """A number over these cases with its interval, as in metrics.json."""
        return bootstrap(statistic, self.patients, value=value, n=n).as_json()


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
        summary = {**summarise_classes(cases, names), **summary}
    return summary


def brief_diagnosis(
    cases: Sequence[CaseScore], *, names: Sequence[str], is_exclusive: bool = False
) -> dict[str, Any]:
    """Only accuracy and discrimination, for a group of cases."""
    tables = {name: _known_cases(cases, name) for name in names}
    accuracy = summarise_classes(cases, names)["accuracy"] if is_exclusive and names else None
    return {
        **({"accuracy": accuracy} if accuracy else {}),
        "macro_auroc": _macro_auroc(list(tables.values())).as_json(),
        "per_finding": {name: _discrimination(table) for name, table in tables.items()},
    }


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


def _discrimination(table: _Known) -> dict[str, Any]:
    labels, scores, right = table.labels, table.probability, table.decision == table.labels
    present = int(labels.sum())
    return {
        "auroc": table.interval(
            classification.auroc(table.truth, scores), lambda w: weighted_auroc(w, labels, scores)
        ),
        "sensitivity": table.interval(
            classification.sensitivity(table.truth, table.decision),
            lambda w: weighted_mean(w[:, labels], right[labels]),
            n=present,
        ),
        "specificity": table.interval(
            classification.specificity(table.truth, table.decision),
            lambda w: weighted_mean(w[:, ~labels], right[~labels]),
            n=len(labels) - present,
        ),
        "n_present": present,
        "n_absent": len(labels) - present,
    }


def _finding(table: _Known) -> dict[str, Any]:
    labels, scores, right = table.labels, table.probability, table.decision == table.labels
    squared = (scores - labels) ** 2
    return {
        **_discrimination(table),
        "auprc": table.interval(
            classification.auprc(table.truth, scores), lambda w: weighted_auprc(w, labels, scores)
        ),
        "balanced_accuracy": table.interval(
            classification.balanced_accuracy(table.truth, table.decision),
            lambda w: weighted_balanced_accuracy(w, labels, right),
        ),
        "brier": table.interval(
            classification.brier(table.truth, scores), lambda w: weighted_mean(w, squared)
        ),
        "ece": table.interval(
            classification.expected_calibration_error(table.truth, scores),
            lambda w: weighted_ece(w, labels, scores),
        ),
        "confusion": {
            "classes": ["present", "absent"],
            "matrix": classification.confusion(table.truth, table.decision),
        },
        "reliability": [part.as_json() for part in reliability_curve(table.truth, scores)],
    }


def _macro_auroc(tables: Sequence[_Known]) -> Interval:
    """Mean AUROC over the findings that have one."""
    values = [classification.auroc(table.truth, table.probability) for table in tables]
    usable = [table for table, value in zip(tables, values, strict=True) if value is not None]
    if not usable:
        return Interval(None, None, 0)
    patients, places = shared_patients([table.patients for table in usable])

    def statistic(weights_rp: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean_of_means(
            [
                weighted_auroc(weights_rp[:, place], table.labels, table.probability)
                for place, table in zip(places, usable, strict=True)
            ]
        )

    mean = float(np.mean([value for value in values if value is not None]))
    return bootstrap(statistic, patients, value=mean)
