"""From a raw logit to a calibrated probability, as a bundle stores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["Calibration"]


@dataclass(frozen=True)
class Calibration:
    """A monotone map of one finding's logit.

    Attributes:
        scale: The probability is sigmoid(scale * logit + offset); 1 / temperature.
        offset: 0 in temperature scaling.
        knots: Instead of scale and offset, pairs (logit, probability) with ascending logits and
            probabilities that do not descend: linear in between, constant outside (isotonic
            regression). Empty for none.
    """

    scale: float = 1.0
    offset: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the map.

        Raises:
            ValueError: If it is not monotone, so that a larger logit could mean less.
        """
        if not self.scale > 0:
            raise ValueError(f"Scale must be positive. Found {self.scale}.")
        logits = [logit for logit, _ in self.knots]
        probabilities = [probability for _, probability in self.knots]
        if logits != sorted(set(logits)) or probabilities != sorted(probabilities):
            raise ValueError("Knots must ascend in logit and not descend in probability.")
        if probabilities and not 0 <= probabilities[0] <= probabilities[-1] <= 1:
            raise ValueError("Knots must have probabilities in 0..1.")

    def apply(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities of logits of any shape."""
        values = np.asarray(logits, dtype=np.float64)
        if not self.knots:
            return np.asarray(expit(self.scale * values + self.offset))
        at, probabilities = np.array(self.knots, dtype=np.float64).T
        return np.asarray(np.interp(values, at, probabilities))
