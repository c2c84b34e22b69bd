"""The shared 3D encoders and their segmentation decoders: thin adapters over MONAI networks.

Tensors: B batch, C channel, K J I voxel axes (slice axis first, so that anisotropic kernels are
(1, 3, 3) and memory runs along the slice). `encode` gives the feature maps from fine to coarse,
`decode` turns them into segmentation logits; both tasks read the same features.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from monai.networks.nets import DynUNet, SegResNetDS, SwinUNETR
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor, nn

__all__ = [
    "Backbone",
    "DynUNetBackbone",
    "DynUNetConfig",
    "SegResNetDSBackbone",
    "SegResNetDSConfig",
    "SwinUNETRBackbone",
    "SwinUNETRConfig",
]

Kernel = tuple[PositiveInt, PositiveInt, PositiveInt]


class Backbone(Protocol):
    """An encoder and a decoder that share features."""

    channels: tuple[int, ...]
    """Channels of each feature map of `encode`, fine to coarse."""
    divisor: tuple[int, int, int]
    """The grid (K, J, I) must be a multiple of this."""

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        ...

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits (B, classes, K, J, I) on the grid of the image."""
        ...

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse, one for each of `features` but the last.

        Level n has `channels[n]` channels and the grid of `features[n]`.
        """
        ...

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        ...


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DynUNetConfig(_Frozen):
    """MONAI DynUNet with residual blocks (nnU-Net's family, arXiv:1904.08128)."""

    name: Literal["dynunet"] = "dynunet"
    filters: tuple[PositiveInt, ...] = (32, 64, 128, 192, 256)
    kernels: tuple[Kernel, ...] = ((3, 3, 3),) * 5
    strides: tuple[Kernel, ...] = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    norm: Literal["batch", "instance"] = "batch"

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        return DynUNetBackbone(self, in_channels=in_channels, out_channels=out_channels)


class SegResNetDSConfig(_Frozen):
    """MONAI SegResNetDS (arXiv:1810.11654); anisotropic kernels follow from `resolution_mm`."""

    name: Literal["segresnet_ds"] = "segresnet_ds"
    init_filters: PositiveInt = 16
    blocks_down: tuple[PositiveInt, ...] = (1, 2, 2, 4)
    norm: Literal["batch", "instance"] = "batch"
    resolution_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        return SegResNetDSBackbone(self, in_channels=in_channels, out_channels=out_channels)


class SwinUNETRConfig(_Frozen):
    """MONAI SwinUNETR (arXiv:2201.01266)."""

    name: Literal["swin_unetr"] = "swin_unetr"
    feature_size: PositiveInt = 24
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (2, 2, 2, 2)
    num_heads: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 6, 12, 24)

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        return SwinUNETRBackbone(self, in_channels=in_channels, out_channels=out_channels)


class DynUNetBackbone(nn.Module):
    """DynUNet, taken apart at its bottleneck."""

    def __init__(self, config: DynUNetConfig, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = DynUNet(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=config.kernels,
            strides=config.strides,
            upsample_kernel_size=config.strides[1:],
            filters=config.filters,
            norm_name=config.norm,
            res_block=True,
        )
        self.channels = tuple(config.filters)
        total = torch.tensor(config.strides).prod(dim=0).tolist()
        self.divisor = (total[0], total[1], total[2])

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        features = [self.net.input_block(image_bckji)]
        for block in self.net.downsamples:
            features.append(block(features[-1]))
        features.append(self.net.bottleneck(features[-1]))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits on the grid of the image."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        levels, x = [], features[-1]
        for block, skip in zip(self.net.upsamples, reversed(features[:-1]), strict=True):
            x = block(x, skip)
            levels.append(x)
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        logits: Tensor = self.net.output_block(level)
        return logits


class SegResNetDSBackbone(nn.Module):
    """SegResNetDS, taken apart after its encoder."""

    def __init__(self, config: SegResNetDSConfig, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = SegResNetDS(
            spatial_dims=3,
            init_filters=config.init_filters,
            in_channels=in_channels,
            out_channels=out_channels,
            norm=config.norm,
            blocks_down=config.blocks_down,
            resolution=config.resolution_mm,
        )
        self.channels = tuple(config.init_filters * 2**i for i in range(len(config.blocks_down)))
        k, j, i = (int(value) for value in self.net.shape_factor())
        self.divisor = (k, j, i)

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        features: list[Tensor] = self.net.encoder(image_bckji)
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits on the grid of the image."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        levels, x = [], features[-1]
        for level, skip in zip(self.net.up_layers, reversed(features[:-1]), strict=True):
            x = level["blocks"](level["upsample"](x) + skip)
            levels.append(x)
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        logits: Tensor = self.net.up_layers[-1]["head"](level)
        return logits


class SwinUNETRBackbone(nn.Module):
    """SwinUNETR, taken apart between its transformer encoder and its decoder."""

    def __init__(self, config: SwinUNETRConfig, *, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net = SwinUNETR(
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=config.feature_size,
            depths=config.depths,
            num_heads=config.num_heads,
            spatial_dims=3,
        )
        size = config.feature_size
        self.channels = (size, size, 2 * size, 4 * size, 8 * size, 16 * size)
        self.divisor = (32, 32, 32)

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        net = self.net
        hidden = net.swinViT(image_bckji, net.normalize)
        return [
            net.encoder1(image_bckji),
            net.encoder2(hidden[0]),
            net.encoder3(hidden[1]),
            net.encoder4(hidden[2]),
            hidden[3],
            net.encoder10(hidden[4]),
        ]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits on the grid of the image."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        net = self.net
        blocks = (net.decoder5, net.decoder4, net.decoder3, net.decoder2, net.decoder1)
        levels, x = [], features[-1]
        for block, skip in zip(blocks, reversed(features[:-1]), strict=True):
            x = block(x, skip)
            levels.append(x)
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        logits: Tensor = self.net.out(level)
        return logits
