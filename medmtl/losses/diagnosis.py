"""Binary cross entropy for findings, of which any may be unknown."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["known_binary_cross_entropy"]


def known_binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy over the labels that are known.

    Args:
        logits: (B, F).
        target: (B, F) with 1, 0, or NaN for unknown; unknown gives exactly zero gradient.

    Returns:
        A scalar; zero, still connected to the graph, where nothing is known.
    """
    is_known = ~target.isnan()
    truth = torch.where(is_known, target, torch.zeros_like(target))
    loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    return torch.where(is_known, loss, torch.zeros_like(loss)).sum() / is_known.sum().clamp_min(1)
