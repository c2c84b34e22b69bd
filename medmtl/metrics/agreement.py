"""How well predicted volumes agree with true ones: bias and limits of agreement.

After Bland & Altman 1986 (doi 10.1016/S0140-6736(86)90837-8). Several volumes of one patient stay
together in the intervals; the limits themselves are those of single volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.intervals import bootstrap
from medmtl.metrics.weighted import weighted_mean, weighted_sd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["LIMIT_SDS", "bland_altman"]

LIMIT_SDS = 1.96
"""Limits lie so many standard deviations from the bias: 95 % of differences if these are normal."""


def bland_altman(patients: Sequence[str], differences_ml: Sequence[float]) -> dict[str, Any]:
    """Bias, standard deviation and limits of agreement of predicted minus true volume.

    Args:
        patients: Patient of each volume.
        differences_ml: Predicted minus true, same length.

    Returns:
        `bias_ml`, `sd_ml`, `lower_ml` and `upper_ml`, each with value, ci95 and n; no value where
        there are fewer than one (bias) or two volumes.
    """
    numbers = np.array(differences_ml, dtype=np.float64)
    bias = float(numbers.mean()) if len(numbers) else None
    sd = float(numbers.std(ddof=1)) if len(numbers) > 1 else None

    def limit(sign: float) -> dict[str, Any]:
        def statistic(weights_rn: NDArray[np.float64]) -> NDArray[np.float64]:
            middle = weighted_mean(weights_rn, numbers)
            return middle + sign * LIMIT_SDS * weighted_sd(weights_rn, numbers)

        value = None if bias is None or sd is None else bias + sign * LIMIT_SDS * sd
        return bootstrap(statistic, patients, value=value).as_json()

    return {
        "bias_ml": bootstrap(lambda w: weighted_mean(w, numbers), patients, value=bias).as_json(),
        "sd_ml": bootstrap(lambda w: weighted_sd(w, numbers), patients, value=sd).as_json(),
        "lower_ml": limit(-1.0),
        "upper_ml": limit(1.0),
    }
