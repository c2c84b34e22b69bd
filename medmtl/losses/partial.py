"""Dice plus cross entropy where some classes were never annotated (marginal loss).

Data sets annotate different organs. What a data set did not look for lies somewhere in what its
masks call background, so background and the classes not annotated are one class for that case:
their probabilities are added before anything is compared (Shi et al., Medical Image Analysis 70,
2021, arXiv:2007.03868). Where a voxel is labelled as an annotated class, the others are known to be
absent from it, for classes exclude each other.
Tensors: B batch, C class (background first), S = C - 1 segment, then any number of spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medmtl.losses.segmentation import IGNORED, dice_cross_entropy

__all__ = ["marginal_dice_cross_entropy", "merge_unannotated"]


def marginal_dice_cross_entropy(
    logits: Tensor,
    target: Tensor,
    is_annotated: Tensor,
    *,
    smooth: float = 1e-5,
    class_weights: Tensor | None = None,
) -> Tensor | None:
    """`dice_cross_entropy` over what is known; the same number where all is annotated.

    Moving probability between background and a class not annotated leaves the loss unchanged, and
    a case of which nothing is annotated gives exactly zero gradient.

    Args:
        logits: (B, C, ...), any floating dtype; computed in float32.
        target: (B, ...) integer labels, -1 where nothing is known. A class that is not annotated
            in its case is taken as background wherever it occurs.
        is_annotated: (B, S) bool, whether the segment was looked for in the case.
        smooth: Added to both sides of the Dice fraction.
        class_weights: (C,) weights of the cross entropy.

    Returns:
        A scalar, or None where no voxel of the batch is known.

    Raises:
        ValueError: If the shapes do not belong together.
    """
    if is_annotated.shape != (logits.shape[0], logits.shape[1] - 1):
        message = f"Expected is_annotated of shape (B, C - 1) for logits {tuple(logits.shape)}."
        raise ValueError(f"{message} Found {tuple(is_annotated.shape)}.")
    is_annotated = is_annotated.to(logits.device)
    has_any = _per_case(is_annotated.any(dim=1), target.dim())
    known = torch.where(has_any, target, IGNORED)
    if not bool((known != IGNORED).any()):
        return None
    if bool(is_annotated.all()):
        merged = logits
    else:
        merged, known = merge_unannotated(logits, known, is_annotated)
    return dice_cross_entropy(merged, known, smooth=smooth, class_weights=class_weights)


def merge_unannotated(
    logits: Tensor, target: Tensor, is_annotated: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and labels with the classes that were not annotated merged into background.

    Args:
        logits: (B, C, ...).
        target: (B, ...) integer labels; -1 stays.
        is_annotated: (B, S) bool.

    Returns:
        Float32 logits (B, C, ...), whose softmax holds the summed probability as background and 0
        for the merged classes, and the labels (B, ...).
    """
    logits = logits.float()
    own = torch.nn.functional.pad(is_annotated, (1, 0), value=True)  # (B, C)
    is_merged = ~own
    is_merged[:, 0] = True
    share = is_merged[(...,) + (None,) * (logits.dim() - 2)]
    background = logits.masked_fill(~share, -torch.inf).logsumexp(dim=1, keepdim=True)
    others = logits[:, 1:].masked_fill(share[:, 1:], -torch.inf)
    is_own = own.gather(1, target.clamp_min(0).flatten(1)).view_as(target)
    return torch.cat([background, others], dim=1), torch.where(is_own, target, 0)


def _per_case(values: Tensor, dims: int) -> Tensor:
    """(B,) as (B, 1, ...) with `dims` axes."""
    return values.view(-1, *[1] * (dims - 1))
