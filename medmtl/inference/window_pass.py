"""The diagnosis of an imported network: its encoder once over the patches, pooled inside the masks.

The masks are there before and stay as they are. An encoder with instance norm knows patches of one
size only, so features are pooled patch by patch, and an activation map is put together the same
way: the gradient of a finding's logit by the pooled sums is taken once, then carried back into
every patch. Memory is that of one patch.

Tensors: C class, S segment, F finding, K J I voxel axes of the network grid.
"""

from __future__ import annotations

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
from medmtl.inference.windows import (
    WindowedVolume,
    cut_patch,
    measured_masks,
    patch_places,
    pooled_sums,
)
from medmtl.networks.pooling import PooledSums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Covariates
    from medmtl.inference.bundle_settings import CamSettings
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import Pooling

__all__ = ["window_pass"]


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
    pooled = [pooled_sums(net, volume, device) for volume in volumes]
    masks = [measured_masks(net, volume, device) for volume in volumes]
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
    for where in patch_places(volume):
        patch = cut_patch(volume, where, device)
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
