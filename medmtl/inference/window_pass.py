"""The diagnosis of an imported network: its encoder once over the patches, pooled inside the masks.

The masks are there before and stay as they are. An encoder with instance norm knows patches of one
size only, so features are pooled patch by patch, and an activation map is put together the same
way: the gradient of a finding's logit by the pooled sums is taken once, then carried back into
every patch. Memory is that of one patch.

Tensors: C class, S segment, F finding, K J I voxel axes of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from medmtl.evidence.cam import activation_map, join_levels
from medmtl.inference.finding_maps import map_shape
from medmtl.inference.joint_pass import (
    JointPass,
    attribution_cams,
    covariate_tensors,
    fact_contributions,
)
from medmtl.networks.pooling import PooledSums

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.core.prediction import Covariates
    from medmtl.inference.bundle_settings import CamSettings, RegionSettings
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import Pooling

__all__ = ["WindowedVolume", "class_shares", "window_pass"]


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


def window_pass(
    net: JointNet,
    volumes: Sequence[WindowedVolume],
    *,
    covariates: Covariates,
    cam_findings: Sequence[int] = (),
    cam: CamSettings,
    device: torch.device,
) -> JointPass:
    """Findings, measurements and maps of a study whose masks are known.

    Args:
        net: In evaluation mode, on the device.
        volumes: In the order of `NetworkConfig.volumes`.
        covariates: Of the study.
        cam_findings: Indices of the findings that get maps.
        cam: Which maps.
        device: Where the encoder runs.
    """
    pooled = [_pooled(net, volume, device) for volume in volumes]
    masks = [_measured(net, volume, device) for volume in volumes]
    wants_cam = bool(cam_findings)
    if wants_cam:
        pooled = [[_leaf(one) for one in sums] for sums in pooled]
        masks = [mask.requires_grad_() for mask in masks]
    facts = covariate_tensors(covariates, device)
    with torch.set_grad_enabled(wants_cam):
        logits, measurements, is_empty = net.diagnose(
            pooled,
            masks,
            spacing_mm=torch.tensor([[v.spacing_mm for v in volumes]], device=device),
            covariates=facts,
        )
    contributions = None
    cams: dict[int, list[Tensor]] = {}
    if cam.method == "attribution":
        contributions = fact_contributions(net, measurements, facts)
        if wants_cam and contributions is not None:
            cams = attribution_cams(contributions, measurements[0], masks, cam_findings)
    elif wants_cam and logits is not None:
        for index in cam_findings:
            cams[index] = _cams(net, volumes, pooled, masks, logits[0, index], cam, device)
    return JointPass(
        [volume.logits_ckji for volume in volumes],
        None if logits is None else logits[0].detach(),
        measurements[0].detach(),
        is_empty[0],
        cams,
        contributions,
    )


@dataclass(frozen=True, eq=False)
class _Patch:
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


def _patches(volume: WindowedVolume, device: torch.device) -> Iterator[_Patch]:
    """As few patches as cover the volume: what is pooled needs no overlap."""
    shape = volume.image_kji.shape
    starts = [_starts(whole, part) for whole, part in zip(shape, volume.patch_kji, strict=True)]
    coverage = [_coverage(*one) for one in zip(starts, volume.patch_kji, shape, strict=True)]
    for at in product(*starts):
        ends = zip(at, volume.patch_kji, shape, strict=True)
        where = tuple(slice(begin, min(begin + size, whole)) for begin, size, whole in ends)
        k, j, i = (line[part] for line, part in zip(coverage, where, strict=True))
        shares = class_shares(volume.logits_ckji[(slice(None), *where)], volume.regions)
        yield _Patch(
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


@torch.no_grad()
def _pooled(net: JointNet, volume: WindowedVolume, device: torch.device) -> list[PooledSums]:
    """Sums of every pooled level over all patches; no pass where the head reads no features."""
    if len(net.poolings) == 0:
        return []
    total: list[PooledSums] = []
    for patch in _patches(volume, device):
        here = net.pool(net.encode_stem(patch.image), patch.shares, patch.weight)
        total = [a + b for a, b in zip(total, here, strict=True)] if total else here
    return total


def _measured(net: JointNet, volume: WindowedVolume, device: torch.device) -> Tensor:
    """(1, S + 1, K, J, I); empty where nothing is measured, since many classes are large."""
    if net.measure is None:
        return torch.zeros(1, len(net.config.segments) + 1, 0, 0, 0, device=device)
    return class_shares(volume.logits_ckji, volume.regions)[None].to(device)


def _leaf(sums: PooledSums) -> PooledSums:
    return PooledSums(
        sums.numerator.detach().requires_grad_(), sums.denominator.detach().requires_grad_()
    )


def _cams(
    net: JointNet,
    volumes: Sequence[WindowedVolume],
    pooled: Sequence[Sequence[PooledSums]],
    masks: Sequence[Tensor],
    score: Tensor,
    cam: CamSettings,
    device: torch.device,
) -> list[Tensor]:
    """Maps of one finding, one per volume: the mean over the levels and, if measured, the masks."""
    head = net.config.head
    chosen = [head.levels.index(level) for level in cam.levels] if head and net.poolings else []
    wanted = [x for sums in pooled for one in sums for x in (one.numerator, one.denominator)]
    found: Sequence[Tensor | None] = [None] * (len(wanted) + len(masks))
    if score.requires_grad:
        leaves = (*wanted, *masks)
        found = torch.autograd.grad(score, leaves, retain_graph=True, allow_unused=True)
    known = [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip((*wanted, *masks), found, strict=True)
    ]
    maps = []
    for number, (volume, mask) in enumerate(zip(volumes, masks, strict=True)):
        width = 2 * len(net.poolings)
        own = known[number * width : (number + 1) * width]
        sums = [PooledSums(own[2 * n], own[2 * n + 1]) for n in chosen]
        levels = _level_maps(net, volume, sums, chosen, device) if chosen else []
        if mask.numel():
            gradient = known[len(wanted) + number][0]
            levels.append(activation_map(mask[0].detach(), gradient, method="layercam"))
        maps.append(levels or [torch.zeros(volume.image_kji.shape, device=device)])
    shapes = [map_shape(volume.image_kji.shape) for volume in volumes]
    return join_levels(maps, shapes)


def _level_maps(
    net: JointNet,
    volume: WindowedVolume,
    gradients: Sequence[PooledSums],
    chosen: Sequence[int],
    device: torch.device,
) -> list[Tensor]:
    """LayerCAM of each chosen level on the grid of the volume, patch by patch."""
    levels = net.config.head.levels if net.config.head else ()
    whole = [torch.zeros(volume.image_kji.shape, device=device) for _ in chosen]
    for patch in _patches(volume, device):
        with torch.no_grad():
            features = net.diagnosis_features(net.encode_stem(patch.image))
        for out, gradient, number in zip(whole, gradients, chosen, strict=True):
            feature = features[levels[number]].detach().requires_grad_()
            with torch.enable_grad():
                weight = nn.functional.adaptive_avg_pool3d(patch.weight[None, None], _size(feature))
                pooling = cast("Pooling", net.poolings[number])
                sums = pooling.sums(feature, patch.shares, weight)
                score = (sums.numerator * gradient.numerator).sum()
                score = score + (sums.denominator * gradient.denominator).sum()
            slope = torch.autograd.grad(score, feature)[0]
            one = activation_map(feature[0].detach(), slope[0], method="layercam")
            size = tuple(patch.image.shape[2:])
            resize = nn.functional.interpolate
            fine = resize(one[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
            inside = tuple(slice(0, part.stop - part.start) for part in patch.where)
            out[patch.where] += fine[inside]
    return whole


def _size(feature: Tensor) -> tuple[int, int, int]:
    k, j, i = feature.shape[2:]
    return k, j, i
