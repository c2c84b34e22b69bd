"""Calibration of findings from answers to cases that the network was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize
from sklearn.isotonic import IsotonicRegression

from medmtl.postprocess.calibration import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from medmtl.training.answers import Answers
    from medmtl.training.calibrate_config import CalibrationConfig

    Fit = Callable[[NDArray[np.float64], NDArray[np.float64]], Calibration]

__all__ = [
    "METHODS",
    "Calibration",
    "fit_calibration",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
]

_PRIOR = 0.05
"""Weight of the pull towards no change, in cases; keeps perfectly separated findings finite."""


def fit_calibration(answers: Answers, config: CalibrationConfig) -> dict[str, Calibration]:
    """Calibrate each finding by the configured method.

    Args:
        answers: Of validation cases.
        config: Its `method` and `min_each`.

    Returns:
        By finding name; a finding that is left uncalibrated is not in it.
    """
    fit = METHODS.get(config.method)
    fitted = {}
    for name in answers.names:
        logits, labels = answers.known(name)
        if fit is not None and min(labels.sum(), (~labels).sum()) >= config.min_each:
            fitted[name] = fit(logits, labels.astype(np.float64))
    return fitted


def fit_platt(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
    """Platt scaling (Advances in Large Margin Classifiers, 1999) with a positive scale.

    The targets are Platt's smoothed ones, so that few cases never give certainty.

    Args:
        logits: (N,) raw logits of one finding.
        targets: (N,) 1 or 0; NaN is unknown and left out.

    Returns:
        No change where only one answer is known.
    """
    return _fit_sigmoid(logits, targets, has_offset=True)


def fit_temperature(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
    """Temperature scaling (Guo et al. 2017, arXiv:1706.04599): the decision at 0.5 stays.

    Arguments, smoothing and answer as those of `fit_platt`.
    """
    return _fit_sigmoid(logits, targets, has_offset=False)


def fit_isotonic(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> Calibration:
    """Isotonic regression (Zadrozny & Elkan 2002) by scikit-learn, as knots.

    Probabilities stay within Laplace's 1 / (n + 2) of 0 and 1: n cases never prove certainty.
    Arguments and answer as those of `fit_platt`.
    """
    logits, targets = _known(logits, targets)
    if not _has_both(targets):
        return Calibration()
    edge = 1 / (len(targets) + 2)
    model = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip")
    model.fit(logits, targets)
    knots = zip(model.X_thresholds_.tolist(), model.y_thresholds_.tolist(), strict=True)
    return Calibration(knots=tuple(knots))


METHODS: Mapping[str, Fit] = {
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}


def _fit_sigmoid(
    logits: NDArray[np.float64], targets: NDArray[np.float64], *, has_offset: bool
) -> Calibration:
    logits, targets = _known(logits, targets)
    if not _has_both(targets):
        return Calibration()
    positive, negative = targets.sum(), (1 - targets).sum()
    smooth = np.where(targets > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(parameters: NDArray[np.float64]) -> float:
        log_scale = parameters[0]
        offset = parameters[1] if has_offset else 0.0
        z = np.exp(log_scale) * logits + offset
        cross_entropy = np.logaddexp(0, z) - smooth * z
        return float(cross_entropy.sum() + _PRIOR * (log_scale**2 + offset**2))

    found = minimize(loss, np.zeros(2 if has_offset else 1), method="L-BFGS-B").x
    return Calibration(float(np.exp(found[0])), float(found[1]) if has_offset else 0.0)


def _known(
    logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = ~np.isnan(targets)
    return logits[known], targets[known]


def _has_both(targets: NDArray[np.float64]) -> bool:
    return bool((targets > 0).any() and (targets <= 0).any())
