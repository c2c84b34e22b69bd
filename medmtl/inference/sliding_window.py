"""One pass where the volume fits, else overlapping tiles blended with Gaussian weights.

Axes: B batch, C channel, K J I network axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.data.utils import compute_importance_map, dense_patch_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["predict_tiles", "tile_slices"]

Tile = tuple[slice, ...]


def tile_slices(
    shape_kji: Sequence[int], *, patch_size_kji: Sequence[int], overlap: float
) -> list[Tile]:
    """Tiles of at most the patch size that cover the volume, the last ones flush with its end."""
    patch = [min(size, most) for size, most in zip(shape_kji, patch_size_kji, strict=True)]
    step = [max(1, int(size * (1 - overlap))) for size in patch]
    return list(dense_patch_slices(shape_kji, patch, step))


def predict_tiles(
    network: Callable[[torch.Tensor], torch.Tensor],
    image_bckji: torch.Tensor,
    *,
    patch_size_kji: Sequence[int],
    overlap: float = 0.5,
    tiles_per_batch: int = 1,
    tiles: Sequence[Tile] | None = None,
) -> torch.Tensor:
    """Logits of a volume of any size.

    Sums are in float32 whatever the network's precision, so that neither the order of the tiles
    nor how many share a batch changes the result by more than rounding.

    Args:
        network: From (B, C, k, j, i) to logits (B, S, k, j, i) on the same grid.
        image_bckji: One volume, B = 1.
        patch_size_kji: Largest tile; a volume no larger is one single pass.
        overlap: Share of a tile that its neighbour covers too, 0..0.9.
        tiles_per_batch: Tiles in one call of the network.
        tiles: Tiles in another order or number; all of one size, covering the volume.

    Returns:
        Logits (1, S, K, J, I), float32, on the device of the image.

    Raises:
        ValueError: If B is not 1 or the overlap is out of range.
    """
    if image_bckji.ndim != 5 or image_bckji.shape[0] != 1:
        raise ValueError(f"Expected one volume (1, C, K, J, I). Found {tuple(image_bckji.shape)}.")
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"Overlap must lie in 0..0.9. Found {overlap}.")
    shape = tuple(image_bckji.shape[2:])
    if tiles is None:
        tiles = tile_slices(shape, patch_size_kji=patch_size_kji, overlap=overlap)
    if len(tiles) == 1:
        return network(image_bckji).float()
    return _blend(network, image_bckji, tiles, tiles_per_batch)


def _blend(
    network: Callable[[torch.Tensor], torch.Tensor],
    image_bckji: torch.Tensor,
    tiles: Sequence[Tile],
    tiles_per_batch: int,
) -> torch.Tensor:
    device, shape = image_bckji.device, tuple(image_bckji.shape[2:])
    patch = tuple(part.stop - part.start for part in tiles[0])
    weight = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125, device=device)
    weight = weight.float().clamp_min(1e-3)
    weights = torch.zeros(shape, device=device)
    sums: torch.Tensor | None = None
    for start in range(0, len(tiles), tiles_per_batch):
        group = tiles[start : start + tiles_per_batch]
        logits = network(torch.cat([image_bckji[_index(2, tile)] for tile in group])).float()
        if sums is None:
            sums = torch.zeros((1, logits.shape[1], *shape), device=device)
        for tile, values in zip(group, logits, strict=True):
            sums[0][_index(1, tile)] += values * weight
            weights[tile] += weight
    if sums is None:
        raise ValueError("No tiles to predict.")
    return sums.div_(weights)


def _index(leading: int, tile: Tile) -> Tile:
    """Everything of the leading axes, the tile of the last three."""
    return (slice(None),) * leading + tile
