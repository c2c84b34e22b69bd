"""Weighted sums of the logits of tiles in half precision, and why the labels stay the same.

Labels and probabilities depend on the differences between the classes of a voxel alone, also where
they are interpolated: a number taken from all classes of a voxel is taken from all interpolated
classes alike. So the largest class is kept at zero. Near a border of two classes the numbers are
small then, and half precision holds them to 2^-11 of their own size, whatever size the logits have.
Tensors: C class, K J I voxel axes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["add_logits", "below_largest"]

LOWEST = -(2.0**15)
"""What is further below the largest class is held here: infinity could not be interpolated."""
_SLAB_VALUES = {"cpu": 2**18}
"""Numbers of one slab: about what a core's cache holds. Others have no such cache."""


def below_largest(logits: Tensor) -> Tensor:
    """(1, C, K, J, I) in half precision, the largest class of each voxel at zero."""
    return (logits - logits.amax(dim=1, keepdim=True)).clamp_min_(LOWEST).half()


def add_logits(total: Tensor, logits: Tensor, share: Tensor) -> None:
    """Add a tile to the sums, slab by slab of slices.

    Args:
        total: (1, C, K, J, I) of the sums where the tile lies, in half precision; changed in place.
        logits: (1, C, K, J, I) of the tile.
        share: (K, J, I) of the tile in the sums; those of all tiles add up to one.
    """
    limit = _SLAB_VALUES.get(logits.device.type, 2**26)
    thick = max(1, limit // math.prod((logits.shape[1], *logits.shape[3:])))
    room = logits.new_empty(1, logits.shape[1], thick, *logits.shape[3:], dtype=torch.float)
    for start in range(0, logits.shape[2], thick):
        where = slice(start, start + thick)
        here = total[:, :, where]
        sums = room[:, :, : here.shape[2]].copy_(here)
        sums.addcmul_(logits[:, :, where], share[where])
        sums.sub_(sums.amax(dim=1, keepdim=True)).clamp_min_(LOWEST)
        here.copy_(sums)
