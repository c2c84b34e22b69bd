"""Statistics of weighted observations, all bootstrap replicates at once.

Legend: R replicates, N observations; `weights_rn` says how often each observation counts.
With all weights 1 they equal `classification.py` (tests hold them together).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medmtl.metrics.classification import ECE_BINS, bin_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Mask = NDArray[np.bool_]

__all__ = [
    "mean_of_means",
    "ratio",
    "weighted_auprc",
    "weighted_auroc",
    "weighted_balanced_accuracy",
    "weighted_ece",
    "weighted_mean",
    "weighted_sd",
]


def weighted_mean(weights_rn: Array, values_n: Array | Mask) -> Array:
    """Mean of the values; nan in a replicate that drew none of them."""
    return ratio(weights_rn @ values_n, weights_rn.sum(axis=1))


def weighted_sd(weights_rn: Array, values_n: Array) -> Array:
    """Standard deviation with n - 1; nan in a replicate of fewer than two draws."""
    count = weights_rn.sum(axis=1)
    apart = values_n - values_n.mean()  # differences of large numbers would lose digits
    squares = weights_rn @ apart**2 - count * weighted_mean(weights_rn, apart) ** 2
    return np.asarray(np.sqrt(ratio(np.maximum(squares, 0.0), count - 1)))


def mean_of_means(parts: list[Array]) -> Array:
    """Mean over parts per replicate, leaving out parts without a value; shape (R,)."""
    stacked = np.stack(parts)
    has_value = np.isfinite(stacked)
    return ratio(np.where(has_value, stacked, 0.0).sum(axis=0), has_value.sum(axis=0))


def weighted_auroc(weights_rn: Array, labels_n: Mask, scores_n: Array) -> Array:
    """Share of (present, absent) pairs in the right order, ties one half (Mann-Whitney)."""
    present, absent = scores_n[labels_n], scores_n[~labels_n]
    ordered = (present[:, None] > absent) + 0.5 * (present[:, None] == absent)
    weights_present, weights_absent = weights_rn[:, labels_n], weights_rn[:, ~labels_n]
    won = ((weights_present @ ordered) * weights_absent).sum(axis=1)
    return ratio(won, weights_present.sum(axis=1) * weights_absent.sum(axis=1))


def weighted_balanced_accuracy(weights_rn: Array, labels_n: Mask, right_n: Mask) -> Array:
    """Mean of sensitivity and specificity; nan in a replicate without one of the truth values."""
    sides = [weighted_mean(weights_rn[:, side], right_n[side]) for side in (labels_n, ~labels_n)]
    return (sides[0] + sides[1]) / 2


def weighted_auprc(weights_rn: Array, labels_n: Mask, scores_n: Array) -> Array:
    """Average precision: precision at each distinct score, weighted by the recall it adds."""
    order = np.argsort(-scores_n, kind="stable")
    sorted_scores = scores_n[order]
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
    weights = weights_rn[:, order]
    called = np.cumsum(weights, axis=1)[:, ends]
    found = np.cumsum(weights * labels_n[order], axis=1)[:, ends]
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    added = np.diff(found, axis=1, prepend=0.0)
    return ratio((precision * added).sum(axis=1), found[:, -1])


def weighted_ece(
    weights_rn: Array, labels_n: Mask, scores_n: Array, *, bins: int = ECE_BINS
) -> Array:
    """Expected calibration error over bins of equal width."""
    in_bin = np.eye(bins)[bin_index(scores_n, bins=bins)]
    gaps = np.abs(weights_rn @ (in_bin * (labels_n - scores_n)[:, None])).sum(axis=1)
    return ratio(gaps, weights_rn.sum(axis=1))


def ratio(numerator: Array, denominator: NDArray[np.generic]) -> Array:
    """Quotient, nan where the denominator is not positive."""
    result = np.full(numerator.shape, np.nan)
    divisor = np.asarray(denominator, dtype=np.float64)
    np.divide(numerator, divisor, out=result, where=divisor > 0)
    return result
