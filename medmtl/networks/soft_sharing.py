"""Two encoders instead of one: each task reads its own, and the two are tied.

"soft": the squared distance of their weights is part of the loss (Duong et al. 2015,
https://aclanthology.org/P15-2139). "cross_stitch": after every level each encoder goes on with a
learned mixture of both (Misra et al. 2016, https://arxiv.org/abs/1604.03539).
Tensors: B batch, C channel, K J I voxel axes.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from medmtl.networks.backbones import DynUNetBackbone, SegResNetDSBackbone
from medmtl.networks.planar import PlanarDynUNetBackbone, fold, unfold

if TYPE_CHECKING:
    from collections.abc import Callable

    from medmtl.networks.backbones import Backbone

    Stage = Callable[[Tensor], Tensor]

__all__ = ["CrossStitch", "Partner", "Sharing"]

Sharing = Literal["hard", "soft", "cross_stitch"]
"""One encoder for both tasks, or two tied by their weights or by their features."""

_OWN, _OTHER = 0.9, 0.1
"""Mixture at the start: the paper's best, mostly a task's own features."""
_DECODER_PARTS = (
    *("upsamples", "output_block", "skip_layers", "up_layers"),
    *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1", "out"),
)
"""Modules of the MONAI networks that an encoder does not need."""


class CrossStitch(nn.Module):
    """A learned 2x2 mixture of two feature maps, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        start = torch.tensor([[_OWN, _OTHER], [_OTHER, _OWN]])
        self.mixture = nn.Parameter(start[..., None].repeat(1, 1, channels))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Two (B, C, K, J, I) to two of the same shape."""
        own, other = self.mixture.to(first.dtype)[..., None, None, None]
        return own[0] * first + own[1] * second, other[0] * first + other[1] * second


class Partner(nn.Module):
    """The encoder of the diagnosis, beside that of the segmentation.

    It starts as a copy: the distance of the weights is zero.

    Args:
        backbone: Whose encoder is copied; it stays the segmentation's.
        is_stitched: Whether the encoders exchange features.
    """

    def __init__(self, backbone: nn.Module, *, is_stitched: bool) -> None:
        super().__init__()
        self.encoder = _encoder_alone(backbone)
        channels = cast("Backbone", backbone).channels if is_stitched else ()
        self.stitches = nn.ModuleList(CrossStitch(count) for count in channels)

    def encode(self, backbone: nn.Module, stem_bckji: Tensor) -> list[Tensor]:
        """Feature maps of the segmentation, fine to coarse, then those of the diagnosis."""
        if not self.stitches:
            own = cast("Backbone", self.encoder).encode(stem_bckji)
            return [*cast("Backbone", backbone).encode(stem_bckji), *own]
        first = second = stem_bckji
        firsts, seconds = [], []
        levels = zip(_stages(backbone), _stages(self.encoder), self.stitches, strict=True)
        for stage, partner_stage, stitch in levels:
            first, second = stitch(stage(first), partner_stage(second))
            firsts.append(first)
            seconds.append(second)
        return firsts + seconds

    def distance(self, backbone: nn.Module) -> Tensor:
        """Sum of the squared differences of all weights of the two encoders."""
        differences = [
            (mine - backbone.get_parameter(name)).square().sum()
            for name, mine in self.encoder.named_parameters()
        ]
        return torch.stack(differences).sum()


def _encoder_alone(backbone: nn.Module) -> nn.Module:
    copied = copy.deepcopy(backbone)
    net = cast("nn.Module", copied.net)
    for name in _DECODER_PARTS:
        if hasattr(net, name):
            delattr(net, name)
    return copied


def _stages(backbone: nn.Module) -> list[Stage]:
    """Functions from the stem, or from one level of the encoder, to the next level."""
    if isinstance(backbone, PlanarDynUNetBackbone):
        return _planar_stages(backbone)
    if isinstance(backbone, SegResNetDSBackbone):
        return _segresnet_stages(backbone)
    if isinstance(backbone, DynUNetBackbone):
        net = backbone.net
        return [net.input_block, *net.downsamples, net.bottleneck]
    raise TypeError(f"Cross-stitch needs an encoder in stages. Found {type(backbone).__name__}.")


def _segresnet_stages(backbone: SegResNetDSBackbone) -> list[Stage]:
    encoder = backbone.net.encoder
    entries = [encoder.conv_init, *(level["downsample"] for level in encoder.layers[:-1])]
    return [
        nn.Sequential(entry, level["blocks"])
        for entry, level in zip(entries, encoder.layers, strict=True)
    ]


def _planar_stages(backbone: PlanarDynUNetBackbone) -> list[Stage]:
    net = backbone.net
    blocks = [net.input_block, *net.downsamples, net.bottleneck]
    mixers: list[nn.Module] = [nn.Identity()] * (len(blocks) - len(backbone.mixers))
    mixers += backbone.mixers
    return [
        partial(_planar_stage, block, mixer) for block, mixer in zip(blocks, mixers, strict=True)
    ]


def _planar_stage(block: nn.Module, mixer: nn.Module, level: Tensor) -> Tensor:
    feature: Tensor = mixer(unfold(block(fold(level)), level.shape[0]))
    return feature
