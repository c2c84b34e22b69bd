"""The patches that an imported network sees of a volume, and what is pooled over them.

An encoder with instance norm knows patches of one size only: of another size it gives other
features. So both prediction and fine-tuning pool patch by patch, here. Memory is that of one patch,
with gradients as well: then each patch is computed once more on the way back (arXiv:1604.06174).

Tensors: C class, S segment, K J I voxel axes of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.inference.bundle_settings import RegionSettings
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import PooledSums

__all__ = [
    "Patch",
    "WindowedVolume",
    "class_shares",
    "cut_patch",
    "measured_masks",
    "patch_places",
    "pooled_sums",
]


@dataclass(frozen=True, eq=False)
class WindowedVolume:
    """One volume whose masks are known.

    Attributes:
        image_kji: (K, J, I) as the network sees it.
        logits_ckji: (C, K, J, I) of the masks, in whatever precision.
        spacing_mm: Along (K, J, I).
        patch_kji: What the encoder takes at once.
        regions: Of a network that answers for regions; () for classes with background.
    """

    image_kji: Tensor
    logits_ckji: Tensor
    spacing_mm: tuple[float, float, float]
    patch_kji: tuple[int, int, int]
    regions: tuple[RegionSettings, ...] = ()


def class_shares(logits_ckji: Tensor, regions: Sequence[RegionSettings]) -> Tensor:
    """(S + 1, K, J, I), background first: probabilities, or regions painted in their order."""
    if not regions:
        return logits_ckji.float().softmax(dim=0)
    order = sorted(region.paints for region in regions)
    painted = torch.zeros(logits_ckji.shape[1:], dtype=torch.long, device=logits_ckji.device)
    for logits, region in zip(logits_ckji, regions, strict=True):
        painted[logits.float().sigmoid() > 0.5] = order.index(region.paints) + 1
    return nn.functional.one_hot(painted, len(regions) + 1).movedim(-1, 0).float()


@dataclass(frozen=True, eq=False)
class Patch:
    """Where a patch lies, and what it holds.

    Attributes:
        where: Of the volume, without the zeros that fill the patch up.
        image: (1, 1, K, J, I) of the patch.
        shares: (1, S + 1, K, J, I).
        weight: (K, J, I): a voxel that lies in n patches counts 1 / n, a filled one 0.
    """

    where: tuple[slice, ...]
    image: Tensor
    shares: Tensor
    weight: Tensor


def patch_places(volume: WindowedVolume) -> Iterator[tuple[slice, ...]]:
    """As few patches as cover the volume: what is pooled needs no overlap."""
    shape = volume.image_kji.shape
    starts = [_starts(whole, part) for whole, part in zip(shape, volume.patch_kji, strict=True)]
    for at in product(*starts):
        ends = zip(at, volume.patch_kji, shape, strict=True)
        yield tuple(slice(begin, min(begin + size, whole)) for begin, size, whole in ends)


def cut_patch(volume: WindowedVolume, where: tuple[slice, ...], device: torch.device) -> Patch:
    """The patch at one of `patch_places`."""
    sizes = zip(volume.image_kji.shape, volume.patch_kji, strict=True)
    coverage = [_coverage(_starts(whole, part), part, whole) for whole, part in sizes]
    k, j, i = (line[part] for line, part in zip(coverage, where, strict=True))
    shares = class_shares(volume.logits_ckji[(slice(None), *where)], volume.regions)
    return Patch(
        where,
        _filled(volume.image_kji[where], volume.patch_kji)[None, None].to(device),
        _filled(shares, volume.patch_kji)[None].to(device),
        _filled(1 / (k[:, None, None] * j[:, None] * i), volume.patch_kji).to(device),
    )


def _starts(whole: int, part: int) -> list[int]:
    count = max(1, ceil(whole / part))
    return [round((whole - part) / (count - 1) * n) if count > 1 else 0 for n in range(count)]


def _coverage(starts: Sequence[int], part: int, whole: int) -> Tensor:
    """How many patches hold each place of an axis."""
    count = torch.zeros(whole)
    for start in starts:
        count[start : start + part] += 1
    return count


def _filled(values: Tensor, patch: Sequence[int]) -> Tensor:
    """Zeros behind the end of each axis up to the patch."""
    lack = [size - own for own, size in zip(values.shape[-3:], patch, strict=True)]
    flat = [number for gap in reversed(lack) for number in (0, gap)]
    return nn.functional.pad(values, flat)


def pooled_sums(
    net: JointNet, volume: WindowedVolume, device: torch.device, *, learns: bool = False
) -> list[PooledSums]:
    """Sums of every pooled level over all patches; no pass where the head reads no features.

    Args:
        net: Whose encoder is run.
        volume: With its masks, which get no gradient.
        device: Where the network is.
        learns: Whether the encoder gets gradients.
    """
    if len(net.poolings) == 0:
        return []

    def of(where: tuple[slice, ...]) -> list[PooledSums]:
        patch = cut_patch(volume, where, device)
        features = [level.float() for level in net.encode_stem(patch.image)]
        with torch.autocast(device.type, enabled=False):  # patients differ by less than bfloat16
            return net.pool(features, patch.shares, patch.weight)

    total: list[PooledSums] = []
    with torch.set_grad_enabled(learns):
        for where in patch_places(volume):
            here = checkpoint(of, where, use_reentrant=False) if learns else of(where)
            total = [a + b for a, b in zip(total, here, strict=True)] if total else here
    return total


def measured_masks(net: JointNet, volume: WindowedVolume, device: torch.device) -> Tensor:
    """(1, S + 1, K, J, I); empty where nothing is measured, since many classes are large."""
    if net.measure is None:
        return torch.zeros(1, len(net.config.segments) + 1, 0, 0, 0, device=device)
    return class_shares(volume.logits_ckji, volume.regions)[None].to(device)
