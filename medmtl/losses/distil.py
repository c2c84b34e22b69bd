"""Distillation: a network keeps the answers of its teacher where no label says better.

Labels of some segments say where these are; the others lie in what the masks call background (see
`losses.partial`). The divergence of all classes is that of the known parts plus that inside the
unknown one, where background and the segments without labels share their probability: labels teach
the first, the teacher the second.
Tensors: B batch, C class (background first), S = C - 1 segment, then any number of spatial axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distillation"]


def distillation(logits: Tensor, teacher: Tensor, is_open: Tensor) -> Tensor:
    """Mean divergence from the teacher (arXiv:1503.02531) inside what the labels leave open.

    Where every segment is open it is the divergence of all classes; where none is, 0.

    Args:
        logits: (B, C, ...), any floating dtype; computed in float32.
        teacher: (B, C, ...) logits.
        is_open: (B, S) bool, whether no label says where the segment is.
    """
    share = torch.nn.functional.pad(is_open, (1, 0), value=True)  # (B, C)
    share = share[(...,) + (None,) * (logits.dim() - 2)]
    wanted, found = (_inside(one.float(), share) for one in (teacher, logits))
    divergence = teacher.float().softmax(dim=1) * (wanted - found)
    return torch.where(share, divergence, 0).sum(dim=1).mean()


def _inside(logits: Tensor, share: Tensor) -> Tensor:
    """Log probabilities of the classes of the share, given that it is one of them."""
    return logits - logits.masked_fill(~share, -torch.inf).logsumexp(dim=1, keepdim=True)
