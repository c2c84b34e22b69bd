"""The part of the gate that compares a candidate with the present holder of an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.tracking.criterion import Criterion, count, measured_model, said
from medmtl.tracking.figures import Figure, figure, mean_figure, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmtl.tracking.criterion import Evidence
    from medmtl.tracking.gate_settings import GateSettings

__all__ = ["against_champion"]


def against_champion(
    candidate: Evidence, champion: Evidence, settings: GateSettings
) -> Iterator[Criterion]:
    """Answers lost, other cases, and figures that are worse by more than the tolerance."""
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
    limits = settings.champion
    shared = [name for name in champion.bundle.findings if name in candidate.bundle.findings]
    rows: list[tuple[str, tuple[str, ...], float, bool]] = [
        ("mean Dice", ("segmentation", "mean_dice"), limits.dice_tolerance, True),
        ("macro AUROC", ("diagnosis", "macro_auroc"), limits.auroc_tolerance, True),
    ]
    for title, path, tolerance, is_higher_better in rows:
        figures = (figure(candidate.metrics, *path), figure(champion.metrics, *path))
        yield from _not_worse(
            title, figures, tolerance, settings, is_higher_better=is_higher_better
        )
    for title, key, tolerance in (
        ("mean Brier", "brier", limits.brier_tolerance),
        ("mean ECE", "ece", limits.ece_tolerance),
    ):
        mine, theirs = (
            mean_figure(figure(one.metrics, "diagnosis", "per_finding", n, key) for n in shared)
            for one in (candidate, champion)
        )
        yield from _not_worse(title, (mine, theirs), tolerance, settings, is_higher_better=False)


def _not_worse(
    title: str,
    figures: tuple[Figure | None, Figure | None],
    tolerance: float,
    settings: GateSettings,
    *,
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
