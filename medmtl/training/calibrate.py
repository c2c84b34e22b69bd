"""Calibration of findings from answers to cases that the network was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Calibration", "fit_platt"]

_PRIOR = 0.05
"""Weight of the pull towards no change, in cases; keeps perfectly separated findings finite."""


@dataclass(frozen=True)
class Calibration:
    """The calibrated probability is sigmoid(scale * logit + offset)."""

    scale: float = 1.0
    offset: float = 0.0

    def apply(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities."""
        return np.asarray(expit(self.scale * logits + self.offset))


def fit_platt(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
    """Platt scaling (Advances in Large Margin Classifiers, 1999) with a positive scale.

    The targets are Platt's smoothed ones, so that few cases never give certainty.

    Args:
        logits: (N,) raw logits of one finding.
        targets: (N,) 1 or 0; NaN is unknown and left out.

    Returns:
        No change where only one answer is known.
    """
    known = ~np.isnan(targets)
    logits, targets = logits[known], targets[known]
    positive, negative = targets.sum(), (1 - targets).sum()
    if positive == 0 or negative == 0:
        return Calibration()
    smooth = np.where(targets > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: NDArray[np.float64]) -> float:
        log_scale, offset = parameters
        z = np.exp(log_scale) * logits + offset
        cross_entropy = np.logaddexp(0, z) - smooth * z
        return float(cross_entropy.sum() + _PRIOR * (log_scale**2 + offset**2))

    log_scale, offset = minimize(loss, np.zeros(2), method="L-BFGS-B").x
    return Calibration(float(np.exp(log_scale)), float(offset))
