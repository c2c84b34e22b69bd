"""What both recipes do with the answers of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.training.calibrate import Calibration, fit_platt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = ["calibrate"]


def calibrate(scores: Sequence[CaseScore]) -> dict[str, Calibration]:
    """Platt scaling of every finding, from scores of an uncalibrated bundle."""
    logits: dict[str, list[float]] = {}
    targets: dict[str, list[float]] = {}
    for score in scores:
        for finding in score.findings:
            p = float(np.clip(finding.probability, 1e-9, 1 - 1e-9))
            logits.setdefault(finding.name, []).append(float(np.log(p / (1 - p))))
            truth = np.nan if finding.truth is None else float(finding.truth)
            targets.setdefault(finding.name, []).append(truth)
    return {
        name: fit_platt(np.array(values), np.array(targets[name]))
        for name, values in logits.items()
    }
