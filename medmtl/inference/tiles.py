"""Overlapping tiles of a large network grid, with Gaussian importance.

Each voxel's weights over all tiles, divided by their sum, add up to one, so logits and pooled
features are weighted means that do not depend on the order of the tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import torch
from torch import Tensor

__all__ = ["OVERLAP", "Tile", "plan_tiles"]

OVERLAP = 0.25
"""Share of a tile that it has in common with its neighbour, where nothing else is asked for. Sides
and starts are rounded to multiples of the divisor, which leaves at least half of it."""
SIGMA = 0.125
"""Width of the Gaussian importance, relative to the tile: nnU-Net's.

A tile says less of its rim, beyond which it sees nothing. Of a network trained for minutes, whose
masks lie near ties, 0.0008 of the labels differ from those of one pass over everything, and 0.0016
with a Gaussian twice as wide."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One tile: where it lies in (1, C, K, J, I), and the importance (K, J, I) of its voxels."""

    where: tuple[slice, ...]
    weight: Tensor


_THIN = 2
"""A side that cuts the grid is at least the longest side by this: a thin tile shows no context."""


def plan_tiles(
    shape: tuple[int, ...],
    divisor: tuple[int, int, int],
    max_voxels: int,
    *,
    overlap: float = OVERLAP,
) -> tuple[list[Tile], Tensor]:
    """Tiles that cover the grid, and the summed importance (K, J, I) of all of them.

    Args:
        shape: (K, J, I), each a multiple of `divisor`.
        divisor: Tile sizes are multiples of this.
        max_voxels: Largest tile.
        overlap: Share of a tile that it has in common with its neighbour.

    Raises:
        ValueError: If the shape is no multiple of the divisor.
    """
    if any(size % step for size, step in zip(shape, divisor, strict=True)):
        raise ValueError(f"Grid {shape} must be a multiple of {divisor}.")
    size = _tile_size(shape, divisor, max_voxels, overlap=overlap)
    weight = _importance(size)
    tiles = [
        Tile((slice(None), slice(None), *(slice(a, a + n) for a, n in zip(at, size, strict=True))),
             weight)
        for at in product(*map(partial(_starts, overlap=overlap), shape, size, divisor))
    ]  # fmt: skip
    coverage = torch.zeros(*shape)
    for tile in tiles:
        coverage[tile.where[2:]] += tile.weight
    return tiles, coverage


def _tile_size(
    shape: tuple[int, ...], divisor: tuple[int, int, int], max_voxels: int, *, overlap: float
) -> list[int]:
    """The size that costs the fewest voxels in all, of tiles that are not thin where they cut."""
    least = round(max_voxels ** (1 / 3)) // _THIN
    axes = [
        _sizes(whole, step, overlap, least=least)
        for whole, step in zip(shape, divisor, strict=True)
    ]
    best: tuple[int, int] | None = None
    chosen: list[int] = []
    for sides in product(*axes):
        size = [side for side, _ in sides]
        voxels = math.prod(size)
        cut = [side for side, whole in zip(size, shape, strict=True) if side < whole]
        if voxels > max_voxels or (cut and _THIN * min(cut) < max(size)):
            continue
        cost = (math.prod(along for _, along in sides), -voxels)
        if best is None or cost < best:
            best, chosen = cost, size
    return chosen or _halved(shape, divisor, max_voxels)


def _sizes(whole: int, step: int, overlap: float, *, least: int) -> list[tuple[int, int]]:
    """Sides of tiles along an axis, the whole first, and the voxels of all tiles along it."""
    found = [(whole, whole)]
    for count in range(2, whole // step + 1):
        side = round(whole / (1 + (count - 1) * (1 - overlap)) / step) * step
        if side < least:
            break
        starts = _starts(whole, side, step, overlap=overlap)
        shared = side - max(b - a for a, b in pairwise(starts)) if len(starts) > 1 else 0
        if side < found[-1][0] and 2 * shared >= overlap * side:  # else lost by rounding
            found.append((side, side * len(starts)))
    return found


def _halved(shape: tuple[int, ...], divisor: tuple[int, int, int], max_voxels: int) -> list[int]:
    size = list(shape)
    while math.prod(size) > max_voxels:
        splittable = [axis for axis in range(3) if size[axis] > divisor[axis]]
        if not splittable:
            break
        axis = max(splittable, key=lambda a: size[a])
        half = math.ceil(size[axis] / 2 / divisor[axis]) * divisor[axis]
        size[axis] = half if half < size[axis] else divisor[axis]
    return size


def _starts(whole: int, part: int, step: int, *, overlap: float) -> list[int]:
    """Multiples of `step`, so that strided layers see a tile as they see the whole."""
    if part >= whole:
        return [0]
    # Half a step less than was asked for is rounding, and saves a tile.
    count = max(1, math.ceil((whole - part - step / 2) / (part * (1 - overlap)))) + 1
    apart = (whole - part) / (count - 1) / step
    return sorted({round(n * apart) * step for n in range(count)})


def _importance(size: list[int]) -> Tensor:
    profiles = []
    for n in size:
        offset = (torch.arange(n) - (n - 1) / 2) / n
        profiles.append(torch.exp(-0.5 * (offset / SIGMA) ** 2).clamp_min(1e-3))
    k, j, i = profiles
    return k[:, None, None] * j[None, :, None] * i[None, None, :]
