"""Whether a network in int8 answers as in full precision: measured on cases with known truth."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = [
    "MAX_AUROC",
    "MAX_DICE",
    "MIN_EQUAL_DECISIONS",
    "Floats",
    "Measured",
    "Pair",
    "ParityReport",
    "compare_scores",
]

MAX_DICE, MAX_AUROC, MIN_EQUAL_DECISIONS = 0.005, 0.005, 0.99

Floats = Literal["f32", "bf16"]
"""In what the layers of a network in int8 run that are not in int8."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(_Frozen):
    """One number in full precision and in int8; None where it is not defined."""

    full: float | None
    int8: float | None

    def __str__(self) -> str:
        """Full precision, then int8."""
        return " -> ".join("-" if v is None else f"{v:.4g}" for v in (self.full, self.int8))

    @property
    def difference(self) -> float | None:
        """Absolute; None where either is not defined."""
        return None if self.full is None or self.int8 is None else abs(self.full - self.int8)


class Measured(_Frozen):
    """Both networks on the same cases.

    Attributes:
        n_cases: Validation cases.
        mean_dice: Mean over segments of the mean over cases.
        dice: The same for each segment.
        macro_auroc: Mean over findings of which both values occur.
        auroc: The same for each finding.
        decisions: Number of decisions compared.
        decisions_equal: Share of them that are equal; None without findings.
    """

    n_cases: int
    mean_dice: Pair
    dice: dict[str, Pair]
    macro_auroc: Pair
    auroc: dict[str, Pair]
    decisions: int
    decisions_equal: float | None


class ParityReport(_Frozen):
    """What was measured on the validation cases; stored beside the network in int8.

    Attributes:
        model: Name, version and checksum of the bundle.
        cases: Name of the manifest and, after a colon, its split of the validation cases.
        n_calibration: Inputs whose activations set the ranges.
        floats: In what the other layers ran, and have to run for this report to hold. Reports of
            before bfloat16 was used do not say it.
        kept_layers: Convolutions that are not in int8.
        network_s: Seconds of all passes over the validation cases.
        measured: On the validation cases.
    """

    model: str
    cases: str
    n_calibration: int
    floats: Floats = "f32"
    kept_layers: tuple[str, ...]
    network_s: Pair
    measured: Measured

    def problems(self) -> list[str]:
        """Why the network must not be used; empty where parity holds."""
        measured, found = self.measured, []
        if measured.dice:
            found += _beyond("mean Dice", measured.mean_dice, MAX_DICE)
        if measured.decisions:
            found += _beyond("macro AUROC", measured.macro_auroc, MAX_AUROC)
            share = measured.decisions_equal or 0.0
            if share < MIN_EQUAL_DECISIONS:
                found.append(f"decisions equal in {share:.2%}, expected {MIN_EQUAL_DECISIONS:.0%}")
        if not measured.dice and not measured.decisions:
            found.append("nothing was compared")
        return found

    def __str__(self) -> str:
        """One line for the terminal."""
        measured = self.measured
        return (
            f"{measured.n_cases} cases: mean Dice {measured.mean_dice}, macro AUROC "
            f"{measured.macro_auroc}, {measured.decisions} decisions equal in "
            f"{measured.decisions_equal or 0:.1%}, network {self.network_s} s, "
            f"{len(self.kept_layers)} convolutions not in int8, other layers in {self.floats}"
        )


def _beyond(name: str, pair: Pair, limit: float) -> list[str]:
    if pair.difference is None:
        return [f"{name} is not defined on these cases, expected a difference within {limit:g}"]
    if pair.difference <= limit:
        return []
    return [f"{name} differs by {pair.difference:.4f}, expected within {limit:g}"]


def compare_scores(full: Sequence[CaseScore], quantised: Sequence[CaseScore]) -> Measured:
    """Compare the scores of the same cases in the same order."""
    segments = dict.fromkeys(row.segment for score in full for row in score.segments)
    findings = dict.fromkeys(row.name for score in full for row in score.findings)
    dice = {name: Pair(full=_dice(full, name), int8=_dice(quantised, name)) for name in segments}
    areas = {name: Pair(full=_auroc(full, name), int8=_auroc(quantised, name)) for name in findings}
    same = [
        mine.decision == other.decision
        for one, two in zip(full, quantised, strict=True)
        for mine, other in zip(one.findings, two.findings, strict=True)
    ]
    return Measured(
        n_cases=len(full),
        mean_dice=_mean(dice),
        dice=dice,
        macro_auroc=_mean(areas),
        auroc=areas,
        decisions=len(same),
        decisions_equal=fmean(same) if same else None,
    )


def _dice(scores: Sequence[CaseScore], segment: str) -> float | None:
    values = [
        row.dice
        for score in scores
        for row in score.segments
        if row.segment == segment and row.dice is not None
    ]
    return fmean(values) if values else None


def _auroc(scores: Sequence[CaseScore], finding: str) -> float | None:
    from medmtl.metrics.classification import auroc  # scikit-learn; a report is read without

    rows = [row for score in scores for row in score.findings if row.name == finding]
    return auroc([row.truth for row in rows], [row.probability for row in rows])


def _mean(pairs: dict[str, Pair]) -> Pair:
    known = [p for p in pairs.values() if p.full is not None and p.int8 is not None]
    if not known:
        return Pair(full=None, int8=None)
    return Pair(
        full=fmean(p.full for p in known if p.full is not None),
        int8=fmean(p.int8 for p in known if p.int8 is not None),
    )
