"""Findings that exclude each other, as one class per case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.labels import NO_FINDING
from medmtl.metrics.intervals import Interval, bootstrap
from medmtl.metrics.weighted import weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.scores import CaseScore, FindingScore

__all__ = ["exclusive_class", "summarise_classes"]


def exclusive_class(
    findings: Sequence[FindingScore], names: Sequence[str], *, of_truth: bool
) -> str | None:
    """The one class of a case: the finding that is present, or none of them.

    Args:
        findings: Those of the case.
        names: The findings that exclude each other; others do not count.
        of_truth: The true class, else the one decided on. Of several decided findings the most
            probable counts; a truth that is not known of all and names no finding is None.
    """
    asked = [finding for finding in findings if finding.name in names]
    if of_truth:
        truths = {finding.name: finding.truth for finding in asked}
        present = [name for name, is_present in truths.items() if is_present]
        if present:
            return present[0]
        return NO_FINDING if all(truths.get(name) is False for name in names) else None
    decided = [finding for finding in asked if finding.decision]
    return max(decided, key=lambda f: f.probability).name if decided else NO_FINDING


def summarise_classes(cases: Sequence[CaseScore], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, balanced accuracy and the confusion matrix (rows are truth)."""
    classes = [*names, NO_FINDING]
    rows = [
        (case.patient_id, truth, exclusive_class(case.findings, names, of_truth=False))
        for case in cases
        if (truth := exclusive_class(case.findings, names, of_truth=True)) is not None
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
        "balanced_accuracy": _balanced(rows).as_json(),
        "confusion": {"classes": classes, "matrix": matrix.tolist()},
    }


def _balanced(rows: Sequence[tuple[str, str, str | None]]) -> Interval:
    """Mean over the classes that occur of the share of each that was called right.

    A replicate that lacks one of them has no value: without a hard class it would look better.
    """
    truths = np.array([truth for _, truth, _ in rows])
    right = np.array([truth == decided for _, truth, decided in rows], dtype=np.float64)
    members = [truths == name for name in dict.fromkeys(truths.tolist())]
    if not members:
        return Interval(None, None, 0)

    def statistic(weights_rn: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = [weighted_mean(weights_rn[:, m], right[m]) for m in members]
        return np.asarray(np.mean(shares, axis=0))

    value = float(np.mean([right[member].mean() for member in members]))
    return bootstrap(statistic, [patient for patient, _, _ in rows], value=value)
