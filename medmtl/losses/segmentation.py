"""Dice plus cross entropy for label maps.

Tensors: B batch, C class (background first), then any number of spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["IGNORED", "dice_cross_entropy"]

IGNORED = -1
"""Label of a voxel that takes no part in the loss."""


def dice_cross_entropy(
    logits: Tensor, target: Tensor, *, smooth: float = 1e-5, class_weights: Tensor | None = None
) -> Tensor:
    """Soft Dice loss over the foreground classes of the whole batch, plus cross entropy.

    A class that the batch does not contain has no Dice term: with nothing to overlap it would only
    reward an empty prediction, which the cross entropy already does.

    Args:
        logits: (B, C, ...), any floating dtype; computed in float32.
        target: (B, ...) integer labels; voxels labelled IGNORED count nowhere, but not all of them
            may be.
        smooth: Added to both sides of the Dice fraction.
        class_weights: (C,) weights of the cross entropy.
    """
    logits = logits.float()
    cross_entropy = nn.functional.cross_entropy(
        logits, target, weight=class_weights, ignore_index=IGNORED
    )
    is_known = (target != IGNORED)[:, None]
    probabilities = logits.softmax(dim=1)[:, 1:] * is_known
    one_hot = nn.functional.one_hot(target.clamp_min(0), logits.shape[1])
    truth = one_hot.movedim(-1, 1)[:, 1:].to(logits.dtype)  # an ignored voxel is background: 0
    axes = (0, *range(2, logits.dim()))
    overlap = (probabilities * truth).sum(dim=axes)
    total = (probabilities + truth).sum(dim=axes)
    is_present = truth.sum(dim=axes) > 0
    dice_loss = 1 - (2 * overlap + smooth) / (total + smooth)
    count = is_present.sum().clamp_min(1)
    return cross_entropy + torch.where(is_present, dice_loss, 0).sum() / count
