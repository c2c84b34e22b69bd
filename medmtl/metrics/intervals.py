"""Percentile bootstrap over patients.

Every statistic is a function of weights: how often each observation counts. One row of weights is
one replicate, so all replicates are computed at once and nothing loops over resamples.
After Efron & Tibshirani 1993, chapter 13; resampling the patient keeps its volumes together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Weights of shape (replicates, observations) to values of shape (replicates,)."""

__all__ = ["RESAMPLES", "SEED", "Interval", "bootstrap", "patient_weights", "shared_patients"]

RESAMPLES = 2000
SEED = 20260101


@dataclass(frozen=True)
class Interval:
    """A number, its 95 % interval, and how many observations it stands on.

    Attributes:
        value: None where it cannot be computed.
        ci95: Percentiles 2.5 and 97.5 of the replicates; None where there is no value.
        n: Observations with known truth.
    """

    value: float | None
    ci95: tuple[float, float] | None
    n: int

    def as_json(self) -> dict[str, Any]:
        """The fields `value`, `ci95` and `n` of metrics.json."""
        return {"value": self.value, "ci95": list(self.ci95) if self.ci95 else None, "n": self.n}


def patient_weights(
    patients: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """How often each observation counts when patients are drawn with replacement.

    Args:
        patients: Patient of each observation.
        resamples: Number of replicates.
        seed: Of the draw; the same patients in any order give the same replicates per patient.

    Returns:
        Shape (resamples, observations).
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if not len(names):
        return np.zeros((resamples, 0))
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return np.asarray(counts[:, index], dtype=np.float64)


@lru_cache(maxsize=4)  # the metrics of one table share their weights; 16 MB for 1,000 cases
def _same_weights(patients: tuple[str, ...], resamples: int, seed: int) -> NDArray[np.float64]:
    weights = patient_weights(patients, resamples=resamples, seed=seed)
    weights.setflags(write=False)
    return weights


def shared_patients(
    groups: Sequence[Sequence[str]],
) -> tuple[list[str], list[NDArray[np.intp]]]:
    """The patients of several groups of observations, so that their weights are held only once.

    Args:
        groups: Patient of each observation, group by group.

    Returns:
        Every patient once, sorted, and for each group the place among them of each observation's
        patient: `weights[:, place]` are the group's weights in the same replicates.
    """
    everyone = np.asarray([patient for group in groups for patient in group], dtype=str)
    names, index = np.unique(everyone, return_inverse=True)
    ends = np.cumsum([len(group) for group in groups])[:-1]
    return names.tolist(), np.split(index, ends)


def bootstrap(
    statistic: Statistic,
    patients: Sequence[str],
    *,
    value: float | None,
    n: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Interval:
    """The value with its percentile interval over patients.

    Args:
        statistic: See `Statistic`; a replicate where it has no value gives nan and is left out.
        patients: Patient of each observation.
        value: The number itself, over all observations; None where it cannot be computed.
        n: Observations it stands on, where that is not their number.
        resamples: Number of replicates.
        seed: Of the draw.
    """
    count = len(patients) if n is None else n
    if value is None or not len(patients):
        return Interval(None, None, count)
    replicates = statistic(_same_weights(tuple(patients), resamples, seed))
    replicates = replicates[np.isfinite(replicates)]
    if not len(replicates):
        return Interval(value, None, count)
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Interval(float(value), (float(low), float(high)), count)
