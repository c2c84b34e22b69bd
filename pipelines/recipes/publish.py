"""What both recipes do with the answers of a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.training.calibrate import Calibration, fit_calibration
from medmtl.training.calibrate_config import CalibrationConfig
from medmtl.training.deliver import answers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.metrics.scores import CaseScore

__all__ = ["calibrate"]


def calibrate(scores: Sequence[CaseScore]) -> dict[str, Calibration]:
    """Platt scaling of every finding, from scores of an uncalibrated bundle."""
    names = [finding.name for finding in scores[0].findings] if scores else []
    answers = answers_of(scores, names, is_exclusive=False)
    return fit_calibration(answers, CalibrationConfig(method="platt", min_each=1))
