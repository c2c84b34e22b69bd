"""Reliability curve: how often a finding is present where a probability was given.

After DeGroot & Fienberg 1983 (The Statistician); unknown truth enters no bin.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medmtl.metrics.classification import ECE_BINS, bin_index, known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ReliabilityBin", "reliability_curve", "wilson_interval"]

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ReliabilityBin:
    """The cases of one bin of probabilities.

    Attributes:
        mean_probability: Of its cases, 0..1.
        frequency: Share of them in which the finding is present.
        ci95: Wilson interval of the frequency; cases are taken to be independent.
        n: Cases.
    """

    mean_probability: float
    frequency: float
    ci95: tuple[float, float]
    n: int

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self) | {"ci95": list(self.ci95)}


def reliability_curve(
    truth: Sequence[bool | None],
    probability: ArrayLike,
    *,
    bins: int = ECE_BINS,
    by: Literal["width", "count"] = "width",
) -> tuple[ReliabilityBin, ...]:
    """The curve in ascending probability; empty bins are left out.

    Args:
        truth: True, False or None for unknown.
        probability: In 0..1, same length.
        bins: Number of bins.
        by: Bins of equal "width" over 0..1 (those of the ECE), or of nearly equal "count"; equal
            probabilities always share a bin.

    Raises:
        ValueError: If the lengths differ.
    """
    numbers = np.asarray(probability, dtype=np.float64)
    if numbers.shape != (len(truth),):
        raise ValueError(f"Need one value per truth. Found {numbers.shape} for {len(truth)}.")
    index = known(truth)
    labels, scores = np.array([bool(truth[at]) for at in index], dtype=bool), numbers[index]
    place = bin_index(scores, bins=bins) if by == "width" else _bin_by_count(scores, bins)
    return tuple(_bin(labels[place == at], scores[place == at]) for at in np.unique(place))


def _bin_by_count(scores: NDArray[np.float64], bins: int) -> NDArray[np.intp]:
    rank = np.searchsorted(np.sort(scores), scores)  # of equals, the rank of the first
    return np.asarray(rank * bins // max(len(scores), 1), dtype=np.intp)


def _bin(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> ReliabilityBin:
    return ReliabilityBin(
        mean_probability=float(scores.mean()),
        frequency=float(labels.mean()),
        ci95=wilson_interval(int(labels.sum()), len(labels)),
        n=len(labels),
    )


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, JASA 22).

    Raises:
        ValueError: If there is no case.
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"Need 0..n hits among n > 0 cases. Found {hits} of {n}.")
    share, z2 = hits / n, _Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
