"""What a finished run shows: ROC, reliability, and validation cases beside their truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.inference.score_picture import load_picture
from medmtl.metrics.curves import roc_points
from medmtl.report.plots import curves_figure
from medmtl.report.reliability_plot import reliability_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medmtl.data.sources import DataSource
    from medmtl.metrics.scores import CaseScore
    from medmtl.tracking.tracker import Tracker

__all__ = ["example_cases", "log_figures"]


def log_figures(
    tracker: Tracker,
    scores: Sequence[CaseScore],
    *,
    metrics: Mapping[str, Any],
    records: Path,
    sources: Sequence[DataSource],
    out: Path,
    step: int,
) -> None:
    """Tell the tracker of a run's validation cases, and keep the pictures in `out/overlays`.

    Args:
        tracker: Of the run.
        scores: Of the validation cases.
        metrics: Content of metrics.json.
        records: Where the pictures of the cases lie, one folder per manifest.
        sources: Manifests of the validation cases.
        out: Of the run.
        step: The last one.
    """
    tracker.log_metrics(_final(metrics), step=step)
    names = list(dict.fromkeys(f.name for score in scores for f in score.findings))
    curves = {name: points for name in names if (points := _roc(scores, name)) is not None}
    if curves:
        labels = ("1 - specificity", "sensitivity")
        tracker.log_figure(
            curves_figure(curves, labels=labels, has_diagonal=True), "figures/roc.png"
        )
    bins = {
        name: {when: part[when]["reliability"] for when in ("before", "after") if when in part}
        for name, part in (metrics["calibration"] or {}).get("per_finding", {}).items()
    }
    if bins:
        tracker.log_figure(reliability_figure(bins), "figures/reliability.png")
    for score in example_cases(scores):
        for source in sources:
            folder, own = records / source.manifest.name, f"{source.manifest.name}."
            picture = load_picture(folder, score.case_id) or load_picture(
                folder,
                score.case_id.removeprefix(own),  # see `deliver.score_cases`
            )
            if picture:
                path = out / "overlays" / f"{score.case_id}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
                tracker.log_file(path, "overlays")


def _final(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The main figures of the delivered bundle, to tell runs apart by."""
    diagnosis = metrics["diagnosis"]
    main = {
        "mean_dice": metrics["segmentation"]["mean_dice"],
        "macro_auroc": diagnosis["macro_auroc"],
        "accuracy": diagnosis.get("accuracy"),
    }
    values = {f"final/{name}": part["value"] for name, part in main.items() if part}
    return {name: value for name, value in values.items() if value is not None}


def example_cases(scores: Sequence[CaseScore], *, count: int = 6) -> list[CaseScore]:
    """Cases from the worst to the best mean Dice, evenly spaced: no choice of the nicest."""
    rated = [
        (float(np.mean(values)), score)
        for score in scores
        if (values := [one.dice for one in score.segments if one.dice is not None])
    ]
    rated.sort(key=lambda pair: (pair[0], pair[1].case_id))
    places = np.linspace(0, len(rated) - 1, min(count, len(rated))).round().astype(int)
    return [rated[place][1] for place in dict.fromkeys(places.tolist())]


def _roc(scores: Sequence[CaseScore], name: str) -> Any:
    found = [f for score in scores for f in score.findings if f.name == name]
    return roc_points([f.truth for f in found], [f.probability for f in found])
