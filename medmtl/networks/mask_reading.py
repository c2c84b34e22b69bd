"""What the diagnosis reads of one volume's masks, taken slab by slab from the logits.

The probabilities of a whole volume are never in memory: a slab of slices fits the processor's
cache, which makes softmax, pooling and measuring several times cheaper than pass after pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from medmtl.networks.measurements import TorsoMeasurements, TorsoSums

__all__ = ["MaskReading", "probabilities_of", "read_masks", "slab_places"]

_SLAB_VALUES = {"cpu": 2**19}
"""Probabilities of one slab: about what a core's cache holds. Others have no such cache."""


@dataclass(frozen=True, eq=False)
class MaskReading:
    """What is kept of the masks of one volume or tile.

    Attributes:
        coarse: (B, C, K', J', I'), mean probabilities on a grid of feature maps; None where none
            was asked for.
        sums: What the measurements need; None where nothing is measured.
    """

    coarse: Tensor | None
    sums: TorsoSums | None


def read_masks(
    logits: Tensor, *, grid: tuple[int, ...] | None, measure: TorsoMeasurements | None
) -> MaskReading:
    """Softmax, mean and sums of (B, C, K, J, I), slab by slab.

    Args:
        logits: Of whole voxels of `grid`: each axis a multiple.
        grid: (K', J', I') of `MaskReading.coarse`.
        measure: What takes the sums.

    Raises:
        ValueError: If an axis of the logits is no multiple of the grid's.
    """
    if grid is None and measure is None:
        return MaskReading(None, None)
    shape = tuple(logits.shape[2:])
    cell = (1, 1, 1) if grid is None else tuple(a // b for a, b in zip(shape, grid, strict=True))
    if grid is not None and tuple(n * c for n, c in zip(grid, cell, strict=True)) != shape:
        raise ValueError(f"Logits on {shape} must be a multiple of the grid {grid}.")
    # Filled in place: small pieces kept between large ones would leave holes in memory.
    coarse = None if grid is None else logits.new_empty(*logits.shape[:2], *grid, dtype=torch.float)
    sums: TorsoSums | None = None
    for where in slab_places(logits, cell[0]):
        probabilities = probabilities_of(logits, where)
        if coarse is not None:
            cells = slice(where.start // cell[0], where.stop // cell[0])
            coarse[:, :, cells] = nn.functional.avg_pool3d(probabilities, cell)
        if measure is not None:
            here = measure.sums(probabilities)
            sums = here if sums is None else sums + here
    return MaskReading(coarse, sums)


def slab_places(logits: Tensor, step: int) -> list[slice]:
    """Where each slab of slices lies.

    Args:
        logits: (B, C, K, J, I).
        step: A slab holds a multiple of so many slices.
    """
    thick, whole = _thickness(logits, step), logits.shape[2]
    return [slice(start, min(start + thick, whole)) for start in range(0, whole, thick)]


def probabilities_of(logits: Tensor, where: slice) -> Tensor:
    """(B, C, k, J, I) of a slab; logits may be in half precision."""
    return logits[:, :, where].softmax(dim=1, dtype=torch.float)


def _thickness(logits: Tensor, step: int) -> int:
    """Slices of a slab: as many as the cache holds, whole cells, at least one."""
    batch, classes, _, rows, columns = logits.shape
    limit = _SLAB_VALUES.get(logits.device.type, 2**26)
    return step * max(1, limit // (math.prod((batch, classes, rows, columns)) * step))
