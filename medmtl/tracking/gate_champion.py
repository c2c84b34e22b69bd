"""The part of the gate that compares a candidate with the present holder of an alias."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from medmtl.tracking.criterion import Criterion, count, measured_model, said
from medmtl.tracking.figures import Figure, figure, mean_figure, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.tracking.criterion import Evidence
    from medmtl.tracking.gate_settings import GateSettings

__all__ = ["against_champion"]

_Pair: TypeAlias = tuple[Figure | None, Figure | None]
"""Candidate's and champion's; None where it was not measured."""


def against_champion(
    candidate: Evidence, champion: Evidence, settings: GateSettings
) -> Iterator[Criterion]:
    """Answers lost, other cases, and figures of shared answers that are worse than tolerated."""
    limits = settings.champion
    known = {*candidate.bundle.segments, *candidate.bundle.findings}
    lost = [
        name for name in (*champion.bundle.segments, *champion.bundle.findings) if name not in known
    ]
    yield Criterion(
        "answers of the champion",
        not lost,
        f"missing {', '.join(lost)}" if lost else "all of them",
        "every segment and finding that the champion answers",
    )
    if champion.is_evaluation:
        yield measured_model("evaluated champion", champion)
    if limits.require_same_cases:
        here, there = _cases(candidate), _cases(champion)
        yield Criterion(
            "same cases as the champion",
            here is not None and here == there,
            f"{_named(here)}, champion {_named(there)}",
            "one manifest and split for both; evaluate both on it, then give --evaluation and "
            "--champion-evaluation",
        )
    yield from _figures_against_champion(candidate, champion, settings)


def _figures_against_champion(
    candidate: Evidence, champion: Evidence, settings: GateSettings
) -> Iterator[Criterion]:
    limits, theirs = settings.champion, champion.bundle
    segments = [name for name in theirs.segments if name in candidate.bundle.segments]
    findings = [name for name in theirs.findings if name in candidate.bundle.findings]
    dice = (limits.dice_tolerance, limits.segment_dice_tolerance)
    auroc = (limits.auroc_tolerance, limits.finding_auroc_tolerance)
    for metric, names, (of_mean, of_each), is_higher_better in (
        ("Dice", segments, dice, True),
        ("AUROC", findings, auroc, True),
        ("Brier", findings, (limits.brier_tolerance, None), False),
        ("ECE", findings, (limits.ece_tolerance, None), False),
    ):
        judged = partial(_not_worse, settings=settings, is_higher_better=is_higher_better)
        pairs = {name: _pair(candidate, champion, name, metric.lower()) for name in names}
        both = [pair for pair in pairs.values() if None not in pair]
        yield from judged(f"mean {metric}", _means(both), of_mean)
        if of_each is None:
            continue
        for name, pair in pairs.items():
            if pair[0] is not None or name not in settings.may_be_unmeasured:
                yield from judged(f"{metric}, {name}", pair, of_each)


def _pair(candidate: Evidence, champion: Evidence, name: str, key: str) -> _Pair:
    """The figure of one segment or finding, of either model."""
    path = ("segmentation", "per_segment") if key == "dice" else ("diagnosis", "per_finding")
    mine, theirs = (figure(one.metrics, *path, name, key) for one in (candidate, champion))
    return mine, theirs


def _means(pairs: Sequence[_Pair]) -> _Pair:
    """Over the same segments or findings on both sides: more answers, easy ones, gain nothing."""
    return mean_figure(mine for mine, _ in pairs), mean_figure(theirs for _, theirs in pairs)


def _not_worse(
    title: str,
    figures: _Pair,
    tolerance: float,
    *,
    settings: GateSettings,
    is_higher_better: bool,
) -> Iterator[Criterion]:
    """One criterion; none where the champion has no such figure."""
    mine, theirs = figures
    if theirs is None:
        return
    by = settings.judge_by
    reference = theirs.judged(by, is_higher_better=is_higher_better)
    number = mine.judged(by, is_higher_better=is_higher_better) if mine else None
    is_met = False
    if number is not None and reference is not None:
        loss = reference - number if is_higher_better else number - reference
        is_met = loss <= tolerance + 1e-9  # a tolerance in decimals has no exact binary form
    yield Criterion(
        f"{title} against the champion",
        is_met,
        said(mine),
        f"at most {tolerance:g} worse than {said(theirs)}, judged by {by}",
    )


def _cases(one: Evidence) -> tuple[str, str, int] | None:
    """Which cases the figures stand on; None where they do not say."""
    sha256 = table(one.metrics, "manifest").get("sha256")
    split = one.metrics.get("split")
    if not isinstance(sha256, str) or not isinstance(split, str):
        return None
    return sha256, split, count(one.metrics, "n_cases")


def _named(cases: tuple[str, str, int] | None) -> str:
    if cases is None:
        return "no manifest named"
    sha256, split, count = cases
    return f"{count} cases of split {split!r} of manifest {sha256[:12]}"
