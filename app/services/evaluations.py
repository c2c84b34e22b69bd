"""Folders that `medmtl evaluate` wrote, below the folder of the viewer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.data.result_folder import holds_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Evaluation", "find_evaluations"]

_DEPTH = 4


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        name: Its folder, relative to that of the viewer.
        model: As metrics.json names it.
        split: Which cases.
        cases: How many.
        figures: Name, value, lower and upper end of the 95 % interval.
        report: report.html; None where there is none.
    """

    name: str
    model: str
    split: str
    cases: int
    figures: tuple[tuple[str, float, float | None, float | None], ...]
    report: Path | None


def find_evaluations(root: Path) -> tuple[Evaluation, ...]:
    """Every evaluation at most four levels down; a damaged one is left out."""
    found = (_read(folder, root) for folder in _folders(root, 0))
    return tuple(one for one in found if one is not None)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    except OSError:
        return
    if "metrics.json" in names and "bundle.toml" not in names:
        yield folder
    elif depth < _DEPTH and not holds_results(names):
        for name in sorted(name for name, is_dir in names.items() if is_dir and name[0] != "."):
            yield from _folders(folder / name, depth + 1)


def _read(folder: Path, root: Path) -> Evaluation | None:
    try:
        metrics = json.loads((folder / "metrics.json").read_bytes())
        model = metrics["model"]
        name = f"{model['name']} {model['version']}" if isinstance(model, dict) else str(model)
        report = folder / "report.html"
        return Evaluation(
            name=folder.relative_to(root).as_posix(),
            model=name,
            split=str(metrics.get("split", "")),
            cases=int(metrics["n_cases"]),
            figures=tuple(_figures(metrics)),
            report=report if report.is_file() else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _figures(metrics: dict[str, Any]) -> Iterator[tuple[str, float, float | None, float | None]]:
    segmentation, diagnosis = metrics.get("segmentation") or {}, metrics.get("diagnosis") or {}
    yield from _figure("Mean Dice", segmentation.get("mean_dice"))
    for name, scores in (segmentation.get("per_segment") or {}).items():
        yield from _figure(f"Dice {name}", scores.get("dice"))
    yield from _figure("Accuracy", diagnosis.get("accuracy"))
    yield from _figure("Macro AUROC", diagnosis.get("macro_auroc"))
    for name, scores in (diagnosis.get("per_finding") or {}).items():
        yield from _figure(f"AUROC {name}", scores.get("auroc"))


def _figure(
    name: str, score: dict[str, Any] | None
) -> Iterator[tuple[str, float, float | None, float | None]]:
    if score and score.get("value") is not None:
        low, high = score.get("ci95") or (None, None)
        yield name, float(score["value"]), low, high
