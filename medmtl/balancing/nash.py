"""Nash-MTL (Navon et al. 2022, https://arxiv.org/abs/2202.01017), solved by Newton's method.

The weights of the bargaining solution satisfy G a = 1 / a element by element, with the Gramian G.
That is where the convex function a' G a / 2 - sum(log a) is smallest, and as it is self-concordant
the damped Newton method finds the minimum from anywhere. torchjd's NashMTL goes another way (a
sequence of cvxpy programs, as the official code does), which was seen to give up and return equal
weights, and takes tens of milliseconds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchjd.aggregation import Weighting

__all__ = ["NashWeighting"]

_MAX_STEPS = 100
"""Without a common descent direction the weights grow without limit; here that ends."""
_PRECISION = 1e-9


class NashWeighting(Weighting):
    """Weights of a Gramian whose mean diagonal is 1.

    Args:
        max_norm: Largest norm of the weighted sum of the gradients; 0 for no limit.
    """

    def __init__(self, max_norm: float) -> None:
        super().__init__()
        self.max_norm = max_norm

    def forward(self, gramian: Tensor) -> Tensor:
        """(P, P) to (P,)."""
        weights = torch.ones_like(gramian[0])
        for _ in range(_MAX_STEPS):
            slope = gramian @ weights - 1 / weights
            curvature = gramian + torch.diag(weights**-2)
            step = torch.linalg.solve(curvature, slope)
            decrement = (slope @ step).clamp_min(0).sqrt()
            weights = weights - step / (1 + decrement)
            if decrement < _PRECISION:
                break
        norm = float((weights @ gramian @ weights).clamp_min(0).sqrt())
        too_long = self.max_norm > 0 and norm > self.max_norm
        return weights * (self.max_norm / norm) if too_long else weights
