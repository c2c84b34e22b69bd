"""One pass of the joint network over a study: masks, diagnosis and, where wanted, gradients.

Tensors: C class, S segment, F finding, K J I voxel axes of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medmtl.evidence.cam import activation_map, combine_levels
from medmtl.inference.tiles import plan_tiles
from medmtl.networks.joint import COVARIATES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Covariates
    from medmtl.inference.bundle import CamSettings
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import PooledSums
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = ["JointPass", "covariate_tensors", "joint_pass"]

MAX_WHOLE_VOXELS = 12_000_000
"""A network grid above this is tiled, to bound the memory of its feature maps."""
TILE_VOXELS = 4_000_000
CAM_MAX_VOXELS = 6_000_000
"""Above this no activation maps are computed: gradients need all feature maps at once."""


@dataclass(frozen=True, eq=False)
class JointPass:
    """What the network says of one study.

    Attributes:
        logits: One (C, K, J, I) per volume.
        finding_logits: (F,), or None where the diagnosis is off.
        measurements: (M,), NaN where unknown.
        is_empty: (V, S), predicted organs too empty for mask-guided pooling.
        cams: Finding index to one map (K', J', I') in 0..1 per volume.
    """

    logits: list[Tensor]
    finding_logits: Tensor | None
    measurements: Tensor
    is_empty: Tensor
    cams: dict[int, list[Tensor]] = field(default_factory=dict)


def covariate_tensors(covariates: Covariates, device: torch.device) -> dict[str, Tensor]:
    """Covariates (1,) each, NaN where unknown."""
    sex = {"M": 1.0, "F": 0.0}.get((covariates.sex or "").upper())
    values = (covariates.age_years, sex, covariates.height_cm, covariates.weight_kg)
    return {
        name: torch.tensor([torch.nan if value is None else value], device=device)
        for name, value in zip(COVARIATES, values, strict=True)
    }


def joint_pass(
    net: JointNet,
    inputs: Sequence[NetworkInput],
    *,
    covariates: Covariates,
    cam_findings: Sequence[int] = (),
    cam: CamSettings,
    device: torch.device,
) -> JointPass:
    """Masks and diagnosis from one encoding of every volume."""
    largest = max(prepared.array_kji.size for prepared in inputs)
    wants_cam = bool(cam_findings) and largest <= CAM_MAX_VOXELS
    logits, probabilities, pooled, features = [], [], [], []
    for prepared in inputs:
        image = torch.from_numpy(prepared.array_kji)[None, None]
        if largest > MAX_WHOLE_VOXELS:
            whole, sums = _tiled(net, image, device)
            features.append([])
        else:
            with torch.no_grad():
                levels = net.encode(image.to(device))
            if wants_cam:
                chosen = {level % len(levels) for level in cam.levels}
                levels = [f.requires_grad_(n in chosen) for n, f in enumerate(levels)]
            with torch.set_grad_enabled(wants_cam):
                whole = net.decode(levels)
                sums = net.pool(levels, whole.softmax(dim=1))
            features.append(levels)
        logits.append(whole)
        pooled.append(sums)
    spacing = [prepared.geometry.spacing_mm[::-1] for prepared in inputs]
    with torch.set_grad_enabled(wants_cam):
        probabilities = [whole.softmax(dim=1) for whole in logits]
        finding_logits, measurements, is_empty = net.diagnose(
            pooled,
            probabilities,
            spacing_mm=torch.tensor([spacing], device=device),
            covariates=covariate_tensors(covariates, device),
        )
    cams = {}
    if wants_cam and finding_logits is not None:
        cams = _cams(finding_logits[0], features, cam_findings, cam)
    return JointPass(
        [whole[0].detach() for whole in logits],
        None if finding_logits is None else finding_logits[0].detach(),
        measurements[0].detach(),
        is_empty[0],
        cams,
    )


def _cams(
    finding_logits: Tensor,
    features: list[list[Tensor]],
    findings: Sequence[int],
    cam: CamSettings,
) -> dict[int, list[Tensor]]:
    """Activation maps of the findings, scaled together over the volumes of the study."""
    chosen = [levels[level] for levels in features for level in cam.levels]
    maps: dict[int, list[Tensor]] = {}
    for finding in findings:
        gradients = torch.autograd.grad(
            finding_logits[finding], chosen, retain_graph=True, allow_unused=True
        )
        per_level = [
            activation_map(
                feature[0].detach(),
                torch.zeros_like(feature[0]) if gradient is None else gradient[0],
                method=cam.method,
            )
            for feature, gradient in zip(chosen, gradients, strict=True)
        ]
        count = len(cam.levels)
        joined = [per_level[n : n + count] for n in range(0, len(per_level), count)]
        maps[finding] = _scaled_together([combine_levels(levels) for levels in joined], joined)
    return maps


def _scaled_together(maps: list[Tensor], raw: list[list[Tensor]]) -> list[Tensor]:
    """Keep the volumes of a study comparable: the strongest map ends at 1, the others below."""
    peaks = [max(float(level.max()) for level in levels) for levels in raw]
    highest = max(peaks)
    if highest <= 0:
        return maps
    return [one * (peak / highest) for one, peak in zip(maps, peaks, strict=True)]


@torch.no_grad()
def _tiled(net: JointNet, image: Tensor, device: torch.device) -> tuple[Tensor, list[PooledSums]]:
    """Logits and pooled sums of a large volume, tile by tile, on the CPU between tiles."""
    tiles, coverage = plan_tiles(tuple(image.shape[2:]), net.divisor, TILE_VOXELS)
    classes = len(net.config.segments) + 1
    whole = torch.zeros(1, classes, *image.shape[2:])
    sums: list[PooledSums] = []
    for tile in tiles:
        levels = net.encode(image[tile.where].to(device))
        logits = net.decode(levels)
        share = (tile.weight / coverage[tile.where[2:]]).to(device)
        whole[tile.where] += (logits * share).cpu()
        here = net.pool(levels, logits.softmax(dim=1), share)
        sums = [a + b for a, b in zip(sums, here, strict=True)] if sums else here
    return whole.to(device), sums
