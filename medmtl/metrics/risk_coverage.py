"""Risk and coverage: how the error falls when the least certain cases are left to a person.

Geifman & El-Yaniv 2017 (arXiv:1705.08500); AURC and its excess over the best order after Geifman,
Uziel & El-Yaniv 2019 (arXiv:1805.08206). Cases without a risk (unknown truth) enter nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["RiskCoverage", "answer_confidence", "decision_confidence", "risk_coverage"]

_MAX_POINTS = 101


@dataclass(frozen=True)
class RiskCoverage:
    """The curve over N cases, most certain first.

    Attributes:
        coverage: Share of the cases that is answered, ascending, 1 / N to 1.
        risk: Mean risk among them.
        aurc: Mean of `risk` over all N coverages; lower is better.
        excess_aurc: What is lost against the best possible order of the same risks, at least 0.
        n: Cases with a risk.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: float
    excess_aurc: float
    n: int

    def as_json(self) -> dict[str, Any]:
        """Plain types; a long curve is thinned to 101 points, both ends kept."""
        keep = np.unique(np.linspace(0, self.n - 1, min(self.n, _MAX_POINTS)).round().astype(int))
        return {
            "aurc": self.aurc,
            "excess_aurc": self.excess_aurc,
            "n": self.n,
            "coverage": [self.coverage[at] for at in keep],
            "risk": [self.risk[at] for at in keep],
        }


def risk_coverage(
    risk: Sequence[float | None], confidence: Sequence[float | None]
) -> RiskCoverage | None:
    """The curve of risks ordered by confidence.

    Equally certain cases are taken in no order: each counts with the mean risk of its group.

    Args:
        risk: Of each case, such as 1 for a wrong decision or 1 - Dice; None where unknown.
        confidence: The larger, the more certain; None where there is none.

    Returns:
        None where no case has both.

    Raises:
        ValueError: If the lengths differ.
    """
    pairs = [
        (r, c) for r, c in zip(risk, confidence, strict=True) if r is not None and c is not None
    ]
    if not pairs:
        return None
    risks, certain = np.array(pairs, dtype=np.float64).T
    order = np.argsort(-certain, kind="stable")
    curve = _running_mean(_mean_of_ties(risks[order], certain[order]))
    best = _running_mean(np.sort(risks))
    return RiskCoverage(
        coverage=tuple((np.arange(1, len(risks) + 1) / len(risks)).tolist()),
        risk=tuple(curve.tolist()),
        aurc=float(curve.mean()),
        excess_aurc=max(0.0, float(curve.mean() - best.mean())),
        n=len(risks),
    )


def decision_confidence(probability: float, threshold: float) -> float:
    """How far a probability lies from its threshold, as a share of the way to 0 or to 1.

    Raises:
        ValueError: If the threshold is not inside (0, 1).
    """
    if not 0 < threshold < 1:
        raise ValueError(f"Threshold must lie inside (0, 1). Found {threshold}.")
    if probability >= threshold:
        return (probability - threshold) / (1 - threshold)
    return (threshold - probability) / threshold


def answer_confidence(probabilities: Sequence[float]) -> float:
    """Certainty of one class: the largest probability (softmax response).

    Args:
        probabilities: Of the findings that exclude each other; that of none is 1 minus their sum,
            at least 0.
    """
    values = [*probabilities, max(0.0, 1.0 - sum(probabilities))]
    return float(max(values))


def _mean_of_ties(risks: NDArray[np.float64], certain: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group = np.unique(-certain, return_inverse=True)
    means = np.bincount(group, weights=risks) / np.bincount(group)
    return np.asarray(means[group])


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(values) / np.arange(1, len(values) + 1))
