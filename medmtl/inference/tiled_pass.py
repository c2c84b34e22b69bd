"""Logits and pooled sums of a grid that is too large for one pass, tile by tile.

Tiles are planned inside the box of what is not air, with a margin; what lies outside gets the
answer that the network gives to air, which is asked for once. Tensors: B batch, C class, K J I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medmtl.inference.logit_sums import add_logits, below_largest
from medmtl.inference.openvino_engine import lent_outputs
from medmtl.inference.tile_maps import TileMaps, repeat_block
from medmtl.inference.tiles import plan_tiles
from medmtl.networks.mask_reading import read_masks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from medmtl.inference.tiles import Tile
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import PooledSums

__all__ = ["content_box", "tiled_pass", "tiles_that_fit"]

MARGIN_VOXELS = 32
"""Air kept around the body: more than a network sees of its neighbourhood with any weight."""
MAX_BATCH = 8
_LEAD = 4.0
"""Background must lead in air by so many times what one block differs from the next."""
_BYTES_PER_CHANNEL = 24
"""Memory of a pass for each voxel and channel of the finest level, several maps being alive."""
_NORMS = (nn.modules.instancenorm._InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@torch.no_grad()
def tiled_pass(
    net: JointNet,
    image: Tensor,
    device: torch.device,
    *,
    tile_voxels: int,
    overlap: float,
    keep: Collection[int] = (),
) -> tuple[Tensor, list[PooledSums], list[Tensor]]:
    """Logits (1, C, K, J, I), pooled sums and feature maps of the whole grid.

    The logits are in half precision, the largest class of each voxel at zero (`logit_sums`).

    Args:
        net: In evaluation mode, on `device`.
        image: (1, 1, K, J, I), each axis a multiple of the network's divisor.
        device: Where the network is.
        tile_voxels: Largest tile.
        overlap: Share of a tile that it has in common with its neighbour.
        keep: Places in `JointNet.encode` of feature maps to put together; the others come empty.
    """
    # Neighbouring slices and the value beyond the last one are those of the volume, not of a tile.
    stem = net.context(image)
    if (
        device.type == "cuda" and stem.device.type == "cpu"
    ):  # one copy from locked memory, while the tiles are planned
        stem = stem.pin_memory().to(device, non_blocking=True)
    grid = tuple(image.shape[2:])
    box = content_box(image, net.divisor)
    air = _answer_to_air(net, stem, image, box) if _volume(box) < math.prod(grid) else None
    if air is None:
        box = tuple(slice(0, size) for size in grid)
    size = tuple(part.stop - part.start for part in box)
    tiles, coverage = plan_tiles(size, net.divisor, tile_voxels, overlap=overlap)
    classes = len(net.config.segments) + 1
    whole = _room_for_sums((1, classes, *grid), device)
    sums: list[PooledSums] = []
    cells = None if air is None else air.cells
    maps = TileMaps(grid, box, keep, air=cells, divisor=net.divisor)
    if air is not None:
        repeat_block(below_largest(air.logits), whole)
        sums = air.outside(math.prod(grid) - _volume(box))
    inside = whole[_at(box)].zero_()
    step = _tiles_at_once(net, tiles[0], device)
    coverage, weight = coverage.to(device), tiles[0].weight.to(device)  # all tiles have one size
    count = 0
    with lent_outputs(net.engine):  # a group is added up before the next one
        for group in (tiles[start : start + step] for start in range(0, len(tiles), step)):
            stems = [stem[_at(box)][tile.where] for tile in group]
            answers = _answers(net, stems, device)
            for tile, (levels, logits) in zip(group, answers, strict=True):
                share = weight / coverage[tile.where[2:]]
                masks = read_masks(logits, grid=net.pooled_grid(levels), measure=None).coarse
                here = net.pool(levels, logits if masks is None else masks, share)
                sums = [a + b for a, b in zip(sums, here, strict=True)] if sums else here
                maps.add(tile.where[2:], levels, share)
                add_logits(inside[tile.where], logits.to(inside.device), share.to(inside.device))
                count = len(levels)
            del answers, levels, logits  # before their memory goes
    return whole.to(device), sums, maps.places(count)


def content_box(image: Tensor, divisor: Sequence[int]) -> tuple[slice, ...]:
    """Box along (K, J, I) of all voxels above the smallest value, with a margin.

    It starts and ends at multiples of the divisor. Without content it is the whole grid.
    """
    is_content = image[0, 0] > image.min()
    box = []
    for axis, step in enumerate(divisor):
        others = tuple(other for other in range(3) if other != axis)
        found = is_content.any(dim=others[1]).any(dim=others[0]).nonzero()
        size = is_content.shape[axis]
        if len(found) == 0:
            box.append(slice(0, size))
            continue
        start = max(0, int(found[0]) - MARGIN_VOXELS) // step * step
        stop = min(size, math.ceil((int(found[-1]) + 1 + MARGIN_VOXELS) / step) * step)
        box.append(slice(start, stop))
    return tuple(box)


@dataclass(frozen=True, eq=False)
class _Air:
    """What the network says far from anything, of one block of the divisor's size.

    A network with strides answers in a pattern that repeats from block to block.

    Attributes:
        logits: (1, C, k, j, i).
        cells: The block of every feature map.
        sums: Pooled over the block.
    """

    logits: Tensor
    cells: list[Tensor]
    sums: list[PooledSums]

    def outside(self, voxels: int) -> list[PooledSums]:
        """The pooled sums of so many voxels of the grid."""
        factor = voxels / self.logits[0, 0].numel()
        return [type(one)(one.numerator * factor, one.denominator * factor) for one in self.sums]


def _answer_to_air(
    net: JointNet, stem: Tensor, image: Tensor, box: tuple[slice, ...]
) -> _Air | None:
    """None where the answer to air cannot stand for that to a tile with air."""
    encoders = [one for one in (net.backbone, net.partner) if one is not None]
    if any(isinstance(module, _NORMS) for one in encoders for module in one.modules()):
        return None  # what it says of a voxel depends on the whole tile
    size = [
        min(whole, math.ceil((2 * MARGIN_VOXELS + 2 * step) / step) * step)
        for whole, step in zip(image.shape[2:], net.divisor, strict=True)
    ]
    if math.prod(size) >= image.numel() - _volume(box):
        return None  # costs as much as it saves
    air = torch.full((1, stem.shape[1], *size), float(image.min()), device=stem.device)
    levels, logits = net.encode_and_decode(air)
    middle, beside = (_block(logits, net.divisor, back=back) for back in (0, 1))
    lead = (middle[:, 0] - middle[:, 1:].amax(dim=1)).min()
    is_near_border = lead <= _LEAD * (middle - beside).abs().max()
    if is_near_border or bool(logits.argmax(dim=1).any()):
        return None  # air is not background everywhere, far from the border by a wide margin
    cells = [_block(level, _cell(level, logits, net.divisor), back=0) for level in levels]
    return _Air(middle, cells, net.pool(cells, middle.softmax(dim=1)))


def _block(values: Tensor, size: Sequence[int], *, back: int) -> Tensor:
    """The middle block of this size of (B, C, K, J, I), or one `back` blocks before it."""
    if not values.numel():
        return values
    starts = [
        max(0, n // 2 // part - back) * part for n, part in zip(values.shape[2:], size, strict=True)
    ]
    return values[_at([slice(a, a + n) for a, n in zip(starts, size, strict=True)])]


def _cell(level: Tensor, logits: Tensor, divisor: Sequence[int]) -> tuple[int, ...]:
    """Size on a level's grid of a block of the divisor's size."""
    if not level.numel():
        return (1, 1, 1)
    return tuple(
        step * n // whole
        for step, n, whole in zip(divisor, level.shape[2:], logits.shape[2:], strict=True)
    )


def _answers(
    net: JointNet, stems: Sequence[Tensor], device: torch.device
) -> list[tuple[list[Tensor], Tensor]]:
    """Features and logits of each tile; out of memory, half as many at a time."""
    try:
        joined = stems[0] if len(stems) == 1 else torch.cat(list(stems))
        levels, logits = net.encode_and_decode(joined.to(device))
    except torch.OutOfMemoryError:
        if len(stems) == 1:
            raise
    else:
        return [
            ([level[n : n + 1] for level in levels], logits[n : n + 1]) for n in range(len(stems))
        ]
    torch.cuda.empty_cache()
    half = len(stems) // 2
    return [*_answers(net, stems[:half], device), *_answers(net, stems[half:], device)]


def _tiles_at_once(net: JointNet, tile: Tile, device: torch.device) -> int:
    """As many as half of the free memory of a GPU holds; on a CPU several gain nothing."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return tiles_that_fit(net, tile.weight.numel(), free_bytes=free)


def tiles_that_fit(net: JointNet, tile_voxels: int, *, free_bytes: int) -> int:
    """How many tiles go at a time: half of the free memory, at least one, at most `MAX_BATCH`."""
    channels = int(getattr(net.backbone, "channels", (32,))[0]) + len(net.config.segments) + 1
    one = tile_voxels * channels * _BYTES_PER_CHANNEL
    return max(1, min(MAX_BATCH, free_bytes // 2 // one))


def _room_for_sums(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Not filled; on the device, unless they would take half of its free memory."""
    dtype = torch.half
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if dtype.itemsize * math.prod(shape) > free // 2:
            device = torch.device("cpu")
    return torch.empty(shape, dtype=dtype, device=device)


def _at(box: Sequence[slice]) -> tuple[slice, ...]:
    """Index of a box in (B, C, K, J, I)."""
    return (slice(None), slice(None), *box)


def _volume(box: Sequence[slice]) -> int:
    return math.prod(part.stop - part.start for part in box)
