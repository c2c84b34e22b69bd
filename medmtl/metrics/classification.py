"""How well probabilities and decisions fit the truth of one finding, by scikit-learn.

Truth is True, False or None for unknown. Unknown entries are dropped before anything is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ECE_BINS",
    "auprc",
    "auroc",
    "balanced_accuracy",
    "brier",
    "confusion",
    "expected_calibration_error",
    "known",
    "known_pairs",
    "sensitivity",
    "specificity",
]

ECE_BINS = 10
"""Bins of equal width over 0..1 of the expected calibration error."""


def known(truth: Sequence[bool | None]) -> NDArray[np.intp]:
    """Positions whose truth is known."""
    return np.flatnonzero([value is not None for value in truth])


def auroc(truth: Sequence[bool | None], probability: ArrayLike) -> float | None:
    """Area under the ROC curve; None unless both truth values occur."""
    labels, scores = known_pairs(truth, probability)
    if labels.all() or not labels.any():  # also where nothing is known
        return None
    return float(roc_auc_score(labels, scores))


def auprc(truth: Sequence[bool | None], probability: ArrayLike) -> float | None:
    """Average precision; None unless both truth values occur."""
    labels, scores = known_pairs(truth, probability)
    if labels.all() or not labels.any():
        return None
    return float(average_precision_score(labels, scores))


def brier(truth: Sequence[bool | None], probability: ArrayLike) -> float | None:
    """Mean squared distance of probability and truth; None where nothing is known."""
    labels, scores = known_pairs(truth, probability)
    if not len(labels):
        return None
    return float(brier_score_loss(labels, scores, pos_label=True))


def sensitivity(truth: Sequence[bool | None], decision: ArrayLike) -> float | None:
    """Share of the present that were called present; None where none is present."""
    labels, decisions = known_pairs(truth, decision)
    return float((decisions[labels] > 0).mean()) if labels.any() else None


def specificity(truth: Sequence[bool | None], decision: ArrayLike) -> float | None:
    """Share of the absent that were called absent; None where none is absent."""
    labels, decisions = known_pairs(truth, decision)
    return float((decisions[~labels] <= 0).mean()) if not labels.all() else None


def balanced_accuracy(truth: Sequence[bool | None], decision: ArrayLike) -> float | None:
    """Mean of sensitivity and specificity; None unless both truth values occur."""
    parts = (sensitivity(truth, decision), specificity(truth, decision))
    return None if parts[0] is None or parts[1] is None else (parts[0] + parts[1]) / 2


def confusion(truth: Sequence[bool | None], decision: ArrayLike) -> list[list[int]]:
    """Counts [[present called present, called absent], [absent called present, called absent]]."""
    labels, decisions = known_pairs(truth, decision)
    if not len(labels):
        return [[0, 0], [0, 0]]
    counts: list[list[int]] = confusion_matrix(labels, decisions > 0, labels=[True, False]).tolist()
    return counts


def expected_calibration_error(
    truth: Sequence[bool | None], probability: ArrayLike, *, bins: int = ECE_BINS
) -> float | None:
    """Gap of mean probability and frequency per bin of equal width, weighted by bin size.

    After Naeini et al. 2015 (AAAI), for the probability of the finding being present.

    Args:
        truth: True, False or None for unknown.
        probability: In 0..1, same length.
        bins: Number of bins of equal width over 0..1.
    """
    labels, scores = known_pairs(truth, probability)
    if not len(labels):
        return None
    index = bin_index(scores, bins=bins)
    gaps = np.bincount(index, weights=labels - scores, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def bin_index(probability: NDArray[np.float64], *, bins: int = ECE_BINS) -> NDArray[np.intp]:
    """Bin of equal width of each probability; 1.0 falls into the last one."""
    return np.clip((probability * bins).astype(np.intp), 0, bins - 1)


def known_pairs(
    truth: Sequence[bool | None], values: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and values where the truth is known.

    Raises:
        ValueError: If the lengths differ.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.shape != (len(truth),):
        message = f"Need one value per truth. Found {numbers.shape} for {len(truth)}."
        raise ValueError(message)
    index = known(truth)
    labels = np.array([bool(truth[position]) for position in index], dtype=bool)
    return labels, numbers[index]
