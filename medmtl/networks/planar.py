"""A 3D encoder for strongly anisotropic stacks: planar convolutions, slices joined at depth.

Short-axis cardiac MR is 1.25 mm in plane and 5 to 10 mm between slices. There a (1, 3, 3)
convolution is the honest kernel at fine levels, and running it as a 2D convolution on slices folded
into the batch is the same arithmetic several times faster on a CPU. Neighbouring slices meet twice:
in the stem (SliceContext, an exact 3x3x3 kernel) and, where the in-plane resolution has come down
to the slice distance, in residual (3, 1, 1) convolutions that start at zero, so that a network
trained on single slices becomes the 3D network without changing one answer.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.nets import DynUNet
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor, nn

__all__ = ["PlanarDynUNetBackbone", "PlanarDynUNetConfig", "SliceMixer"]


class PlanarDynUNetConfig(BaseModel):
    """MONAI's residual DynUNet on folded slices, with slice mixers at the coarsest levels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["planar_dynunet"] = "planar_dynunet"
    filters: tuple[PositiveInt, ...] = (32, 64, 128, 192, 256)
    mixed_levels: PositiveInt = 2

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        return PlanarDynUNetBackbone(self, in_channels=in_channels, out_channels=out_channels)


class SliceMixer(nn.Module):
    """Residual convolution across slices: x + conv(x), zero at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, K, J, I), same shape out."""
        mixed: Tensor = x + self.conv(x)
        return mixed


class PlanarDynUNetBackbone(nn.Module):
    """DynUNet of two dimensions over folded slices, joined by slice mixers."""

    def __init__(self, config: PlanarDynUNetConfig, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        levels = len(config.filters)
        self.net = DynUNet(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=config.filters,
            norm_name="batch",
            res_block=True,
        )
        self.net.to(memory_format=torch.channels_last)  # a third faster on a CPU
        self.mixers = nn.ModuleList(
            SliceMixer(channels) for channels in config.filters[-config.mixed_levels :]
        )
        self.channels = tuple(config.filters)
        self.divisor = (1, 2 ** (levels - 1), 2 ** (levels - 1))

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps (B, C, K, J', I'), fine to coarse."""
        batch = image_bckji.shape[0]
        blocks = [self.net.input_block, *self.net.downsamples, self.net.bottleneck]
        first_mixed = len(blocks) - len(self.mixers)
        x, features = fold(image_bckji), []
        for level, block in enumerate(blocks):
            x = block(x)
            feature = unfold(x, batch)
            if level >= first_mixed:
                feature = self.mixers[level - first_mixed](feature)
                x = fold(feature)
            features.append(feature)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits (B, classes, K, J, I)."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        levels, x = [], fold(features[-1])
        for block, skip in zip(self.net.upsamples, reversed(features[:-1]), strict=True):
            x = block(x, fold(skip))
            levels.append(unfold(x, features[0].shape[0]))
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        return unfold(self.net.output_block(fold(level)), level.shape[0])


def fold(x: Tensor) -> Tensor:
    """(B, C, K, J, I) to (B K, C, J, I)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold(x: Tensor, batch: int) -> Tensor:
    """(B K, C, J, I) to (B, C, K, J, I)."""
    return torch.unflatten(x, 0, (batch, -1)).transpose(1, 2)
