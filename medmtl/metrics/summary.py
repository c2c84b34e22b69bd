"""All numbers of metrics.json from the rows of all cases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.metrics.summary_diagnosis import summarise_diagnosis
from medmtl.metrics.summary_segmentation import mean_interval, summarise_segmentation
from medmtl.metrics.summary_uncertainty import summarise_uncertainty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = ["summarise"]


def summarise(
    cases: Sequence[CaseScore], *, findings: Sequence[str], is_exclusive: bool = False
) -> dict[str, Any]:
    """The parts `segmentation`, `diagnosis`, `evidence` and `uncertainty` of metrics.json.

    Args:
        cases: What was measured, one entry per case that could be analysed.
        findings: Findings that both the model and the manifest know.
        is_exclusive: Whether at most one of them can be present and all are answered.
    """
    return {
        "segmentation": summarise_segmentation(cases),
        "diagnosis": summarise_diagnosis(cases, names=findings, is_exclusive=is_exclusive),
        "evidence": {"per_finding": {name: _evidence(cases, name) for name in findings}},
        "uncertainty": summarise_uncertainty(cases, names=findings, is_exclusive=is_exclusive),
    }


def _evidence(cases: Sequence[CaseScore], name: str) -> dict[str, Any]:
    """Localisation over the cases in which the finding is present."""
    rows = [
        (case.patient_id, finding)
        for case in cases
        for finding in case.findings
        if finding.name == name and finding.truth
    ]
    patients = [patient for patient, _ in rows]
    return {
        "pointing_game": mean_interval(patients, [f.pointing_game for _, f in rows]).as_json(),
        "energy_in_segments": mean_interval(
            patients, [f.energy_in_segments for _, f in rows]
        ).as_json(),
        "energy_in_true_segments": mean_interval(
            patients, [f.energy_in_true_segments for _, f in rows]
        ).as_json(),
    }
