"""One pass of the joint network over a study: masks, diagnosis and, where wanted, gradients.

Tensors: C class, S segment, F finding, K J I voxel axes of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, cast

import torch
from torch import Tensor

from medmtl.data.covariates import covariate_values
from medmtl.evidence.attribution import draw_contributions, integrated_gradients
from medmtl.evidence.cam import activation_map, join_levels
from medmtl.inference.finding_maps import ReadVolume, finding_maps, map_shape
from medmtl.inference.openvino_engine import read_levels
from medmtl.inference.tiled_pass import tiled_pass
from medmtl.inference.tiles import OVERLAP
from medmtl.networks.joint import JointOutput
from medmtl.networks.mask_reading import read_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Covariates
    from medmtl.evidence.cam import CamMethod
    from medmtl.inference.bundle_settings import CamSettings
    from medmtl.networks.backbones import Backbone
    from medmtl.networks.joint import JointNet
    from medmtl.networks.pooling import PooledSums
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = [
    "JointPass",
    "attribution_cams",
    "covariate_tensors",
    "fact_contributions",
    "joint_pass",
    "large_study_output",
    "map_shape",
]

MAX_WHOLE_VOXELS = 12_000_000
"""A network grid above this is tiled, to bound the memory of its feature maps."""
MAX_PASS_VALUES = 105_000_000
"""So is one whose finest feature map holds more numbers than this, 400 MiB: several are alive."""
TILE_VOXELS = 2_400_000
"""Largest tile: the maps of a pass are the largest part of the memory."""
TILE_VALUES = 55_000_000
"""Largest finest feature map of a tile, in numbers."""
CAM_MAX_VOXELS = MAX_WHOLE_VOXELS
"""Above this no activation maps are computed of a network whose masks are measured as a whole:
gradients need the probabilities of all voxels at once."""


@dataclass(frozen=True, eq=False)
class JointPass:
    """What the network says of one study.

    Attributes:
        logits: One (C, K, J, I) per volume.
        finding_logits: (F,), or None where the diagnosis is off.
        measurements: (M,), NaN where unknown.
        is_empty: (V, S), predicted organs too empty for mask-guided pooling.
        cams: Finding index to one map (K', J', I') in 0..1 per volume.
        contributions: (F, M + covariates), share of each fact in each logit, where the maps are
            made of them; None otherwise.
    """

    logits: list[Tensor]
    finding_logits: Tensor | None
    measurements: Tensor
    is_empty: Tensor
    cams: dict[int, list[Tensor]] = field(default_factory=dict)
    contributions: Tensor | None = None


def covariate_tensors(covariates: Covariates, device: torch.device) -> dict[str, Tensor]:
    """Covariates (1,) each, NaN where unknown."""
    values = covariate_values(covariates)
    return {name: torch.tensor([value], device=device) for name, value in values.items()}


def joint_pass(
    net: JointNet,
    inputs: Sequence[NetworkInput],
    *,
    covariates: Covariates,
    cam_findings: Sequence[int] = (),
    cam: CamSettings,
    device: torch.device,
    overlap: float = OVERLAP,
) -> JointPass:
    """Masks and diagnosis from one encoding of every volume.

    Args:
        net: In evaluation mode.
        inputs: One for each volume of the study.
        covariates: Of the study.
        cam_findings: Findings to draw activation maps for.
        cam: How they are drawn.
        device: Where the network is.
        overlap: Of the tiles of a volume that is too large for one pass.
    """
    images = [torch.from_numpy(prepared.array_kji)[None, None] for prepared in inputs]
    in_slabs = _draws_in_slabs(net, cam)
    largest = max(image.numel() for image in images)
    wants_cam = bool(cam_findings) and (in_slabs or largest <= CAM_MAX_VOXELS)
    keep = _map_levels(net, cam) if wants_cam else ()
    passes = [_one_volume(net, image, device, overlap, keep=keep) for image in images]
    facts: _Facts = {
        "spacing_mm": torch.tensor(
            [[prepared.geometry.spacing_mm[::-1] for prepared in inputs]], device=device
        ),
        "covariates": covariate_tensors(covariates, device),
    }
    contributions = None
    cams: dict[int, list[Tensor]] = {}
    # Gradients start from the features and the masks, both finished: no pass through the decoder.
    leaves = [_leaves(net, one, cam) for one in passes] if wants_cam and not in_slabs else []
    read: list[ReadVolume] = []
    if leaves:
        answer = _diagnose_leaves(net, passes, leaves, facts)
    else:
        read = [_read(net, *one, for_maps=wants_cam) for one in enumerate(passes)]
        answer = _diagnose(net, passes, read, facts)
    finding_logits, measurements, is_empty = answer
    if cam.method == "attribution":
        contributions = fact_contributions(net, measurements, covariate_tensors(covariates, device))
        if leaves and contributions is not None:
            cams = attribution_cams(
                contributions, measurements[0], [one.probabilities for one in leaves], cam_findings
            )
    elif leaves and finding_logits is not None:
        for index in cam_findings:
            cams[index] = _cams(finding_logits[0, index], leaves, cam.method, len(cam.levels) + 1)
    elif wants_cam and finding_logits is not None:
        cams = finding_maps(
            net,
            read,
            findings=cam_findings,
            method=cam.method,
            shown=cam.levels,
            **facts,
        )
    return JointPass(
        [one.logits[0] for one in passes],
        None if finding_logits is None else finding_logits[0].detach(),
        measurements[0].detach(),
        is_empty[0],
        cams,
        contributions,
    )


def _draws_in_slabs(net: JointNet, cam: CamSettings) -> bool:
    """Whether activation maps need the masks through sums only."""
    return cam.method != "attribution" and (net.measure is None or net.slab_measure is not None)


def _map_levels(net: JointNet, cam: CamSettings) -> tuple[int, ...]:
    """Places in `JointNet.encode` of the feature maps that the maps of findings need."""
    head = net.config.head
    pooled = head.levels if head is not None and len(net.poolings) else ()
    shown = () if cam.method == "attribution" else cam.levels
    return read_levels(net, (*pooled, *shown))


@torch.no_grad()
def large_study_output(
    net: JointNet,
    images: Sequence[Tensor],
    *,
    spacing_mm: Tensor,
    covariates: dict[str, Tensor],
    device: torch.device,
) -> JointOutput:
    """What `JointNet.forward` gives for one study, tile by tile where a volume is too large.

    Args:
        net: In evaluation mode.
        images: V of (1, 1, K, J, I), each grid a multiple of `net.divisor`.
        spacing_mm: (1, V, 3) along (K, J, I).
        covariates: (1,) each, NaN where unknown.
        device: Where the network is.
    """
    passes = [_one_volume(net, image, device) for image in images]
    read = [_read(net, *one, for_maps=False) for one in enumerate(passes)]
    facts: _Facts = {"spacing_mm": spacing_mm, "covariates": covariates}
    findings = _diagnose(net, passes, read, facts)
    logits = [one.logits for one in passes] if net.config.has_segmentation else []
    return JointOutput(logits, *findings)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the network made of one volume.

    Attributes:
        features: Of `JointNet.encode`; of a tiled volume those that are kept, the others empty.
        logits: (1, C, K, J, I).
        sums: Pooled over the tiles; None where the volume was seen whole.
    """

    features: list[Tensor]
    logits: Tensor
    sums: list[PooledSums] | None = None


@dataclass(frozen=True, eq=False)
class _Leaves:
    """Where the gradients of one volume's maps end: chosen feature levels and the masks."""

    features: list[Tensor]
    probabilities: Tensor


_Answer = tuple["Tensor | None", Tensor, Tensor]


class _Facts(TypedDict):
    """What the diagnosis reads beside the image, as `JointNet.diagnose` takes it."""

    spacing_mm: Tensor
    covariates: dict[str, Tensor]


@torch.no_grad()
def _diagnose(
    net: JointNet, passes: Sequence[_Seen], volumes: Sequence[ReadVolume], facts: _Facts
) -> _Answer:
    """The diagnosis of finished volumes, by what was read of them where that is enough."""
    pooled, probabilities = [], []
    measured = None
    for number, (seen, volume) in enumerate(zip(passes, volumes, strict=True)):
        measure = net.slab_measure if number == 0 else None
        reading = volume.reading
        if seen.sums is not None:
            pooled.append(seen.sums)
        else:
            masks = seen.logits if reading.coarse is None else reading.coarse
            pooled.append(net.pool(seen.features, masks))
        if measure is not None and reading.sums is not None:
            measured = measure.finish(reading.sums, facts["spacing_mm"])
        elif net.measure is not None and measured is None:
            probabilities.append(seen.logits.softmax(dim=1, dtype=torch.float))
    return net.diagnose(pooled, probabilities, **facts, measured=measured)


@torch.no_grad()
def _read(net: JointNet, number: int, seen: _Seen, *, for_maps: bool) -> ReadVolume:
    """What the diagnosis reads of one volume's masks, slab by slab.

    Tiles were pooled with their own masks, so of a tiled volume only the maps need coarse ones.
    """
    measure = net.slab_measure if number == 0 else None
    grid = net.pooled_grid(seen.features) if for_maps or seen.sums is None else None
    return ReadVolume(
        seen.features, seen.logits, read_masks(seen.logits, grid=grid, measure=measure)
    )


@torch.enable_grad()
def _diagnose_leaves(
    net: JointNet, passes: Sequence[_Seen], leaves: Sequence[_Leaves], facts: _Facts
) -> _Answer:
    """The diagnosis with a graph down to the leaves."""
    probabilities = [leaf.probabilities for leaf in leaves]
    pooled = [
        net.pool(seen.features, masks) for seen, masks in zip(passes, probabilities, strict=True)
    ]
    return net.diagnose(pooled, probabilities, **facts)


@torch.no_grad()
def _one_volume(
    net: JointNet,
    image: Tensor,
    device: torch.device,
    overlap: float = OVERLAP,
    *,
    keep: tuple[int, ...] = (),
) -> _Seen:
    """Features and logits of one volume, pooled sums besides where it is tiled."""
    channels = cast("Backbone", net.backbone).channels[0]
    values = image.numel() * channels
    if image.numel() <= MAX_WHOLE_VOXELS and values <= MAX_PASS_VALUES:
        return _Seen(*net.encode_and_decode(net.context(image.to(device))))
    limit = min(TILE_VOXELS, TILE_VALUES // channels)
    logits, sums, features = tiled_pass(
        net, image, device, tile_voxels=limit, overlap=overlap, keep=keep
    )
    return _Seen(features, logits, sums)


def _leaves(net: JointNet, seen: _Seen, cam: CamSettings) -> _Leaves:
    read = net.diagnosis_features(seen.features)
    wanted = () if cam.method == "attribution" else cam.levels
    levels = [read[level] for level in wanted] if read else []
    return _Leaves(
        [level.requires_grad_() for level in levels],
        seen.logits.softmax(dim=1, dtype=torch.float).requires_grad_(),
    )


def _cams(score: Tensor, leaves: Sequence[_Leaves], method: CamMethod, count: int) -> list[Tensor]:
    """Activation maps (K', J', I') of one finding, one per volume, comparable between volumes.

    Each map is the mean of `count` maps: those of the chosen encoder levels and that of the
    decoder's last level, the segment probabilities, through which the measurements speak.
    """
    wanted = [tensor for leaf in leaves for tensor in (*leaf.features, leaf.probabilities)]
    gradients: Sequence[Tensor | None] = [None] * len(wanted)
    if score.requires_grad:  # not where the head reads nothing but covariates
        gradients = torch.autograd.grad(score, wanted, retain_graph=True, allow_unused=True)
    maps = [
        activation_map(
            tensor[0].detach(),
            torch.zeros_like(tensor[0]) if gradient is None else gradient[0],
            method=method if number % count < count - 1 else "layercam",
        )
        for number, (tensor, gradient) in enumerate(zip(wanted, gradients, strict=True))
    ]
    by_volume = [maps[n : n + count] for n in range(0, len(maps), count)]
    return join_levels(by_volume, [map_shape(levels[-1].shape) for levels in by_volume])


def fact_contributions(
    net: JointNet, measurements: Tensor, covariates: dict[str, Tensor]
) -> Tensor | None:
    """(F, facts): how far each fact moved each logit from that of the mean training patient."""
    if net.head is None:
        return None
    head = net.head
    facts = head.known_facts(measurements.detach(), covariates).shape[1]
    vector = head.inputs(measurements.new_zeros(1, 0), measurements.detach(), covariates)[0]
    baseline = vector.clone()
    baseline[: 2 * facts] = 0  # z-scores of a value and its logarithm; what is unknown stays so
    shares = integrated_gradients(head.classify, vector, baseline=baseline)
    return shares[:, :facts] + shares[:, facts : 2 * facts]


def attribution_cams(
    contributions: Tensor,
    measurements: Tensor,
    probabilities: Sequence[Tensor],
    findings: Sequence[int],
) -> dict[int, list[Tensor]]:
    """Maps of `draw_contributions` by finding, on the grid of activation maps."""
    wanted = contributions[list(findings), : len(measurements)]
    drawn = draw_contributions(wanted, measurements, list(probabilities))
    shapes = [map_shape(one.shape[2:]) for one in probabilities]
    joined = [join_levels([[one] for one in maps], shapes) for maps in drawn]
    return dict(zip(findings, joined, strict=True))
