"""What a diagnosis from measurements rests on, and where in the image that was measured.

A head that reads measurements of the masks has no feature map to look at: the gradient of its logit
by the masks says where one more voxel would move the answer, not what made it. So the answer is
first shared among the measurements, and each share is then drawn where its measurement was taken.

Tensors: F finding, W width of the head's input, M measurement, C class (background first), K J I
voxel axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["draw_contributions", "integrated_gradients"]


@torch.enable_grad()
def integrated_gradients(
    score: Callable[[Tensor], Tensor], at: Tensor, *, baseline: Tensor, steps: int = 32
) -> Tensor:
    """Share of every input in the difference of each score from that of the baseline.

    Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365, equation 3 by the midpoint rule. The
    shares of one score add up to score(at) - score(baseline).

    Args:
        score: (N, W) to (N, F), row by row.
        at: (W,) inputs of the answer.
        baseline: (W,) inputs of an answer that says nothing.
        steps: Points on the straight line between both.

    Returns:
        (F, W) in units of the score.
    """
    along = (torch.arange(steps, device=at.device, dtype=at.dtype) + 0.5) / steps
    difference = (at - baseline).detach()
    points = (baseline.detach() + along[:, None] * difference).requires_grad_()
    scores = score(points).sum(dim=0)
    gradients = [torch.autograd.grad(one, points, retain_graph=True)[0] for one in scores]
    return torch.stack([gradient.mean(dim=0) * difference for gradient in gradients])


def draw_contributions(
    contributions: Tensor, measurements: Tensor, masks: Sequence[Tensor]
) -> list[list[Tensor]]:
    """Each positive contribution, spread over the voxels that its measurement was taken from.

    A voxel counts by |dm/dp| p: how far measurement m depends on it, where it is part of a segment.
    A contribution whose measurement depends on no voxel, or is unknown, is drawn nowhere.

    Args:
        contributions: (F, M), of `integrated_gradients`.
        measurements: (M,), still attached to the masks; NaN where unknown.
        masks: One (1, C, K, J, I) of probabilities per volume, leaves of that graph.

    Returns:
        For each finding one map (K, J, I) per volume, at least 0, in units of the contribution; all
        maps of a finding together add up to its drawn contributions.
    """
    maps = [[mask.new_zeros(mask.shape[2:]) for mask in masks] for _ in contributions]
    if not measurements.requires_grad:
        return maps
    for share, value in zip(contributions.clamp_min(0).T, measurements, strict=True):
        if not bool(share.any()) or bool(value.isnan()):
            continue
        supports = _support(value, masks)
        total = torch.stack([support.sum() for support in supports]).sum()
        if not bool(total > 0):
            continue
        for finding, weight in zip(maps, share / total, strict=True):
            for drawn, support in zip(finding, supports, strict=True):
                drawn.add_(weight * support)
    return maps


def _support(value: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
    """|dm/dp| p summed over the segments, one (K, J, I) per volume."""
    gradients: Sequence[Tensor | None] = torch.autograd.grad(
        value, masks, retain_graph=True, allow_unused=True
    )
    return [
        mask.new_zeros(mask.shape[2:])
        if gradient is None
        else (gradient.abs() * mask.detach())[0, 1:].sum(dim=0)
        for gradient, mask in zip(gradients, masks, strict=True)
    ]
