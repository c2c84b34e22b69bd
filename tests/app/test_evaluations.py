"""Evaluations below the folder of the viewer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from app.services.evaluations import find_evaluations
from tests.app.results import case_record, write_results

if TYPE_CHECKING:
    from pathlib import Path


def test_figures_and_report_are_found_and_other_folders_are_not(tmp_path: Path) -> None:
    write_results(tmp_path / "results", case_record("a"))
    place = tmp_path / "runs" / "test"
    place.mkdir(parents=True)
    metrics = {
        "model": {"name": "torso", "version": "1.0.0"},
        "split": "test",
        "n_cases": 12,
        "segmentation": {"mean_dice": {"value": 0.9, "ci95": [0.8, 0.95]}},
        "diagnosis": {"per_finding": {"nodule": {"auroc": {"value": None, "ci95": None}}}},
    }
    (place / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (place / "report.html").write_text("<html>", encoding="utf-8")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "metrics.json").write_text("{", encoding="utf-8")
    (found,) = find_evaluations(tmp_path)
    assert (found.name, found.model, found.split, found.cases) == (
        "runs/test", "torso 1.0.0", "test", 12,
    )  # fmt: skip
    assert found.figures == (("Mean Dice", 0.9, 0.8, 0.95),)
    assert found.report == place / "report.html"
