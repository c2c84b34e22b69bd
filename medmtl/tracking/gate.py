"""The written gate: whether a model may have an alias, criterion by criterion."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medmtl.tracking.criterion import Criterion, Evidence, at_least, at_most, count, measured_model
from medmtl.tracking.figures import figure, mean_figure
from medmtl.tracking.gate_champion import against_champion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmtl.tracking.gate_settings import GateSettings

__all__ = ["Criterion", "Evidence", "judge"]


def judge(
    candidate: Evidence, champion: Evidence | None, settings: GateSettings
) -> tuple[Criterion, ...]:
    """Every criterion of the gate, met or not; all must be met.

    Args:
        candidate: Who wants the alias.
        champion: Who has it; None where nobody does.
        settings: The limits.
    """
    criteria = [
        *_quality(candidate, settings),
        *_segmentation(candidate, settings),
        *_diagnosis(candidate, settings),
    ]
    if champion is not None:
        criteria += against_champion(candidate, champion, settings)
    return tuple(criteria)


def _quality(one: Evidence, settings: GateSettings) -> Iterator[Criterion]:
    metrics, bundle = one.metrics, one.bundle
    characters = len(bundle.card.strip())
    limit = settings.card.min_characters
    yield Criterion(
        "model card", characters >= limit, f"{characters} characters", f"at least {limit}"
    )
    if one.is_evaluation:
        yield measured_model("evaluated model", one)
        speed = metrics.get("speed")
        yield Criterion("speed", speed is None, str(speed or "the usual one"), "the usual one")
    split = str(metrics.get("split", ""))
    words = settings.unseen_splits
    yield Criterion(
        "unseen cases",
        any(re.search(rf"\b{re.escape(word)}\b", split, re.IGNORECASE) for word in words),
        f"split {split!r}" if split else "no split named",
        f"a split with one of: {', '.join(words)}",
    )
    cases = count(metrics, "n_cases")
    yield Criterion(
        "number of cases", cases >= settings.min_cases, str(cases), f"at least {settings.min_cases}"
    )
    failed = count(metrics, "n_failed")
    most = settings.max_failed_cases
    yield Criterion("cases that failed", failed <= most, str(failed), f"at most {most}")


def _segmentation(one: Evidence, settings: GateSettings) -> Iterator[Criterion]:
    limits, metrics = settings.segmentation, one.metrics
    if not one.bundle.segments:
        return
    part = "segmentation"
    mean = figure(metrics, part, "mean_dice")
    yield at_least("mean Dice", mean, limits.min_mean_dice, settings)
    for name in _judged(one.bundle.segments, settings):
        found = figure(metrics, part, "per_segment", name, "dice")
        yield at_least(f"Dice, {name}", found, limits.min_segment_dice, settings)


def _diagnosis(one: Evidence, settings: GateSettings) -> Iterator[Criterion]:
    limits, metrics = settings.diagnosis, one.metrics
    names = _judged(tuple(one.bundle.findings), settings)
    if not names:
        return
    macro = figure(metrics, "diagnosis", "macro_auroc")
    yield at_least("macro AUROC", macro, limits.min_macro_auroc, settings)
    for name in names:
        path = ("diagnosis", "per_finding", name)
        auroc = figure(metrics, *path, "auroc")
        yield at_least(f"AUROC, {name}", auroc, limits.min_finding_auroc, settings)
        brier = figure(metrics, *path, "brier")
        yield at_most(f"Brier, {name}", brier, limits.max_finding_brier, settings)
        ece = figure(metrics, *path, "ece")
        yield at_most(f"ECE, {name}", ece, limits.max_finding_ece, settings)
        if limits.require_calibrated:
            is_calibrated = one.bundle.findings[name]
            found = "calibrated" if is_calibrated else "not calibrated"
            yield Criterion(f"calibration, {name}", is_calibrated, found, "calibrated")
    pointing = mean_figure(
        figure(metrics, "evidence", "per_finding", name, "pointing_game") for name in names
    )
    limit = settings.evidence.min_mean_pointing_game
    yield at_least("mean pointing game", pointing, limit, settings)


def _judged(names: tuple[str, ...], settings: GateSettings) -> list[str]:
    return [name for name in names if name not in settings.may_be_unmeasured]
