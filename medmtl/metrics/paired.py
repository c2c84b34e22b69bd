"""Two models on the same cases: each difference with an interval over the same patients.

A replicate draws the patients once for both models, so what makes a patient hard for both cancels
(Efron & Tibshirani 1993, chapter 13; the paired comparison of two AUROCs after DeLong et al. 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medmtl.metrics.intervals import Interval, bootstrap, shared_patients
from medmtl.metrics.summary_exclusive import exclusive_class
from medmtl.metrics.weighted import mean_of_means, weighted_auroc, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from medmtl.metrics.scores import CaseScore, SegmentScore

__all__ = ["LOWER_IS_BETTER", "Comparison", "Verdict", "compare_scores"]

Verdict = Literal["gain", "no difference", "loss", "unknown"]
Values = NDArray[np.float64]
Weighted = Callable[[Values], Values]
"""Weights of shape (replicates, observations) to values of shape (replicates,)."""

LOWER_IS_BETTER = frozenset({"brier", "hd95_mm"})
MEAN = "mean"


@dataclass(frozen=True)
class Comparison:
    """One metric of one segment or finding, of two models.

    Attributes:
        metric: "dice", "hd95_mm", "auroc", "brier" or "accuracy".
        part: Segment or finding; MEAN for all of them.
        reference: Value of the first model on the cases that both have; None where there is none.
        other: Value of the second.
        difference: Second minus first.
        missed: Structures that have no distance since the first or second model left them out, or
            made them up; None for other metrics.
    """

    metric: str
    part: str
    reference: float | None
    other: float | None
    difference: Interval
    missed: tuple[int, int] | None = None

    @property
    def verdict(self) -> Verdict:
        """What the interval says of the second model: does it leave zero out, and on which side."""
        if self.difference.ci95 is None:
            return "unknown"
        low, high = self.difference.ci95
        if low <= 0 <= high:
            return "no difference"
        return "gain" if (low > 0) != (self.metric in LOWER_IS_BETTER) else "loss"

    def as_json(self) -> dict[str, Any]:
        """One row of compare.json."""
        return {
            "metric": self.metric,
            "part": self.part,
            "reference": self.reference,
            "other": self.other,
            "difference": self.difference.as_json(),
            "verdict": self.verdict,
            **({"missed": list(self.missed)} if self.missed else {}),
        }


@dataclass(frozen=True, eq=False)
class _Pairs:
    """One metric of both models: whose the weights are, and statistics of them.

    `n` is the number of observations, of which a patient with one weight can have several.
    """

    patients: list[str]
    reference: Weighted
    other: Weighted
    n: int

    def compare(self, metric: str, part: str) -> Comparison:
        once = np.ones((1, len(self.patients)))
        values = [_finite(run(once)) if self.patients else None for run in self._both()]
        first, second = values
        difference = None if first is None or second is None else second - first
        interval = bootstrap(
            lambda weights: self.other(weights) - self.reference(weights),
            self.patients,
            value=difference,
            n=self.n,
        )
        return Comparison(metric, part, first, second, interval)

    def _both(self) -> tuple[Weighted, Weighted]:
        return self.reference, self.other


def compare_scores(
    reference: Sequence[CaseScore],
    other: Sequence[CaseScore],
    *,
    findings: Sequence[str] = (),
    is_exclusive: bool = False,
) -> list[Comparison]:
    """Compare what two models answered, on the cases, segments and findings that both have.

    Args:
        reference: One score per case.
        other: One score per case, in any order.
        findings: Findings to compare.
        is_exclusive: Whether at most one of them can be present.

    Raises:
        ValueError: If a case occurs twice in one of them, or its patient differs.
    """
    pairs = _paired_cases(reference, other)
    return [
        *_segment_rows(pairs, "dice"),
        *_segment_rows(pairs, "hd95_mm"),
        *_finding_rows(pairs, findings),
        *(_accuracy(pairs, findings) if is_exclusive and findings else ()),
    ]


def _paired_cases(
    reference: Sequence[CaseScore], other: Sequence[CaseScore]
) -> list[tuple[CaseScore, CaseScore]]:
    first, second = ({case.case_id: case for case in cases} for cases in (reference, other))
    if len(first) != len(reference) or len(second) != len(other):
        raise ValueError("A case occurs twice in the scores of one model.")
    pairs = [(first[name], second[name]) for name in sorted(first.keys() & second.keys())]
    if any(one.patient_id != two.patient_id for one, two in pairs):
        raise ValueError("A case belongs to different patients in the two scores.")
    return pairs


def _segment_rows(
    pairs: Sequence[tuple[CaseScore, CaseScore]], metric: str
) -> Iterator[Comparison]:
    rows: dict[str, list[tuple[str, float, float]]] = {}
    for one, two in pairs:
        theirs = _by_place(two.segments)
        for place, score in _by_place(one.segments).items():
            if place not in theirs:
                continue
            first, second = _values(score, theirs[place], metric)
            if first is not None and second is not None:
                rows.setdefault(place[1], []).append((one.patient_id, first, second))
    parts = {name: _means(part) for name, part in rows.items()}
    if not parts:
        return
    mean = _mean_of(list(parts.values()))
    for name, part, segments in (
        (MEAN, mean, tuple(parts)),
        *((name, part, (name,)) for name, part in parts.items()),
    ):
        missed = _missed(pairs, segments) if metric == "hd95_mm" else None
        yield replace(part.compare(metric, name), missed=missed)


def _values(
    one: SegmentScore, other: SegmentScore, metric: str
) -> tuple[float | None, float | None]:
    """Of both models; None where there is nothing to measure.

    Where a structure is absent and one model alone draws it, its Dice is 0 and the other is right.
    """
    first: float | None = getattr(one, metric)
    second: float | None = getattr(other, metric)
    if metric == "dice" and (first is None) != (second is None):
        return 1.0 if first is None else first, 1.0 if second is None else second
    return first, second


def _missed(
    pairs: Sequence[tuple[CaseScore, CaseScore]], segments: Collection[str]
) -> tuple[int, int]:
    """How many structures that both models were measured on either one missed."""
    counts = [0, 0]
    for pair in pairs:
        sides = [_by_place(case.segments) for case in pair]
        for place in sides[0].keys() & sides[1].keys():
            if place[1] in segments:
                for number, side in enumerate(sides):
                    counts[number] += side[place].is_missed
    return counts[0], counts[1]


def _by_place(scores: Sequence[SegmentScore]) -> Mapping[tuple[str, str], SegmentScore]:
    return {(score.volume_id, score.segment): score for score in scores}


def _means(rows: Sequence[tuple[str, float, float]]) -> _Pairs:
    first, second = (np.array([row[n] for row in rows], dtype=np.float64) for n in (1, 2))
    return _Pairs(
        [row[0] for row in rows],
        lambda weights: weighted_mean(weights, first),
        lambda weights: weighted_mean(weights, second),
        len(rows),
    )


def _mean_of(parts: Sequence[_Pairs]) -> _Pairs:
    """Mean over the parts of each one's value, so that a rare lesion counts like an organ.

    A replicate draws the patients once for all parts, whoever is known in which.
    """
    patients, places = shared_patients([part.patients for part in parts])

    def of(runs: Sequence[Weighted]) -> Weighted:
        return lambda weights: mean_of_means(
            [run(weights[:, place]) for run, place in zip(runs, places, strict=True)]
        )

    return _Pairs(
        patients,
        of([part.reference for part in parts]),
        of([part.other for part in parts]),
        sum(part.n for part in parts),
    )


def _finding_rows(
    pairs: Sequence[tuple[CaseScore, CaseScore]], names: Sequence[str]
) -> Iterator[Comparison]:
    tables = {name: table for name in names if (table := _answers(pairs, name))}
    aurocs = {name: _auroc_pairs(table) for name, table in tables.items()}
    for name, table in tables.items():
        yield aurocs[name].compare("auroc", name)
        errors = [(p, (one - truth) ** 2, (two - truth) ** 2) for p, truth, one, two in table]
        yield _means(errors).compare("brier", name)
    if aurocs:
        yield _mean_of(list(aurocs.values())).compare("auroc", MEAN)


def _answers(
    pairs: Sequence[tuple[CaseScore, CaseScore]], name: str
) -> list[tuple[str, bool, float, float]]:
    """Patient, known truth, and the probability of either model."""
    table = []
    for one, two in pairs:
        first, second = ({f.name: f for f in case.findings}.get(name) for case in (one, two))
        if first is not None and second is not None and first.truth is not None:
            table.append((one.patient_id, first.truth, first.probability, second.probability))
    return table


def _auroc_pairs(table: Sequence[tuple[str, bool, float, float]]) -> _Pairs:
    labels = np.array([truth for _, truth, _, _ in table], dtype=bool)

    def of(column: Literal[2, 3]) -> Weighted:
        scores = np.array([row[column] for row in table], dtype=np.float64)
        return lambda weights: weighted_auroc(weights, labels, scores)

    return _Pairs([row[0] for row in table], of(2), of(3), len(table))


def _accuracy(
    pairs: Sequence[tuple[CaseScore, CaseScore]], names: Sequence[str]
) -> Iterator[Comparison]:
    rows = []
    for one, two in pairs:
        first, second = ([f for f in case.findings if f.name in names] for case in (one, two))
        truth = exclusive_class(first, names, of_truth=True)
        if truth is not None and len(first) == len(second) == len(names):
            right = [exclusive_class(s, names, of_truth=False) == truth for s in (first, second)]
            rows.append((one.patient_id, float(right[0]), float(right[1])))
    if rows:
        yield _means(rows).compare("accuracy", MEAN)


def _finite(value: Values) -> float | None:
    return float(value[0]) if np.isfinite(value[0]) else None
