"""The main numbers for parts of the cases: by sex, age band, vendor, or any other column.

A group of few patients says little about the group and much about its patients, so it is
suppressed: counted, but neither named nor measured. All cases less the groups shown are the rest,
so a rest of few patients is as telling, and hides further groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.summary_diagnosis import brief_diagnosis
from medmtl.metrics.summary_segmentation import brief_segmentation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = ["BANDS", "MIN_PATIENTS", "Column", "group_labels", "summarise_subgroups"]

MIN_PATIENTS = 5
BANDS: Mapping[str, tuple[float, ...]] = {
    "age_years": (18.0, 40.0, 60.0, 75.0),
    "slice_mm": (1.5, 3.0, 5.0),
}
"""Edges between groups of columns that have usual ones; a value on an edge belongs above it."""

_FEW_VALUES = 5  # so many different numbers, such as field strengths, are groups as they are


@dataclass(frozen=True)
class Column:
    """One column to group by.

    Attributes:
        name: Of the column.
        values: Text per case id; a case without one is in no group.
        edges: Between the groups of a number; None for `BANDS`, else thirds of the cases.
    """

    name: str
    values: Mapping[str, str]
    edges: tuple[float, ...] | None = None


def summarise_subgroups(
    cases: Sequence[CaseScore],
    columns: Sequence[Column],
    *,
    findings: Sequence[str],
    is_exclusive: bool = False,
    min_patients: int = MIN_PATIENTS,
) -> dict[str, Any]:
    """The part `subgroups` of metrics.json, one entry per column.

    Args:
        cases: What was measured.
        columns: What to group by.
        findings: Findings that both the model and the manifest know.
        is_exclusive: Whether at most one of them can be present and all are answered.
        min_patients: Groups of fewer patients are suppressed, and the next smallest ones until all
            that is not shown is of as many patients.
    """
    answers = {}
    for column in columns:
        labels = group_labels(column)
        groups: dict[str, list[CaseScore]] = {}
        for case in cases:
            if case.case_id in labels:
                groups.setdefault(labels[case.case_id], []).append(case)
        unknown = [case for case in cases if case.case_id not in labels]
        shown = _shown(groups, unknown, min_patients)
        hidden = [members for name, members in groups.items() if name not in shown]
        order = [name for name in dict.fromkeys(_ordered(labels.values())) if name in shown]
        answers[column.name] = {
            "groups": {name: _group(shown[name], findings, is_exclusive) for name in order},
            "suppressed": {
                "groups": len(hidden),
                "patients": _patients([case for members in hidden for case in members]),
            },
            "unknown_patients": _patients(unknown),
            "min_patients": min_patients,
        }
    return answers


def _shown(
    groups: Mapping[str, list[CaseScore]], unknown: Sequence[CaseScore], min_patients: int
) -> Mapping[str, list[CaseScore]]:
    """The groups without those that are small, or whose number would tell a small rest."""
    shown, rest = dict(groups), list(unknown)
    for name in sorted(groups, key=lambda name: (_patients(groups[name]), name)):
        if _patients(shown[name]) < min_patients or 0 < _patients(rest) < min_patients:
            rest += shown.pop(name)
    return shown


def group_labels(column: Column) -> dict[str, str]:
    """Group of each case: its value, or for a number the band that it lies in.

    A column is a number where every value is one and there are more than five different ones, or
    where its edges are known.
    """
    values = {case_id: value.strip() for case_id, value in column.values.items() if value.strip()}
    numbers = {case_id: number for case_id, value in values.items()
               if (number := _number(value)) is not None}  # fmt: skip
    edges = column.edges or BANDS.get(column.name)
    is_number = bool(numbers) and len(numbers) == len(values)
    if not is_number or (edges is None and len(set(numbers.values())) <= _FEW_VALUES):
        return values
    found = np.array(list(numbers.values()))
    if edges is None:
        edges = tuple(float(f"{edge:.3g}") for edge in np.quantile(found, [1 / 3, 2 / 3]))
    return {case_id: _band(number, sorted(set(edges))) for case_id, number in numbers.items()}


def _band(number: float, edges: Sequence[float]) -> str:
    place = int(np.searchsorted(edges, number, side="right"))
    if place == 0:
        return f"below {edges[0]:g}"
    if place == len(edges):
        return f"{edges[-1]:g} or more"
    return f"{edges[place - 1]:g} to below {edges[place]:g}"


def _ordered(labels: Iterable[str]) -> list[str]:
    """Bands by their lower edge, "below" first; names as sorted text."""

    def rank(label: str) -> tuple[float, str]:
        first = label.split(" ", 1)[0]
        number = _number(first)
        if first == "below" and " " in label:
            return -math.inf, label
        return (math.inf, label) if number is None else (number, label)

    return sorted(labels, key=rank)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _patients(cases: Sequence[CaseScore]) -> int:
    return len({case.patient_id for case in cases})


def _group(
    cases: Sequence[CaseScore], findings: Sequence[str], is_exclusive: bool
) -> dict[str, Any]:
    """The numbers of one group, without what takes long and nobody compares between groups."""
    return {
        "n_cases": len(cases),
        "n_patients": _patients(cases),
        "segmentation": brief_segmentation(cases),
        "diagnosis": brief_diagnosis(cases, names=findings, is_exclusive=is_exclusive),
    }
