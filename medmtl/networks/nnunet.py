"""The U-Nets of nnU-Net v2, taking the same weights: PlainConvUNet and ResidualEncoderUNet.

Written after `dynamic_network_architectures` (Apache 2.0), whose requirements name timm and so
torchvision. Modules are called as there, without the second names (`all_modules`,
`decoder.encoder`) that a checkpoint holds as well. A two-dimensional network sees the slices K one
by one. Isensee et al., Nature Methods 18, 2021, and arXiv:2404.09556.

Tensors: B batch, C channel, K J I voxel axes.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator
from torch import Tensor, nn

from medmtl.networks.planar import fold, unfold

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NnunetBackbone", "PlainConvUNetConfig", "ResidualEncoderUNetConfig"]

Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3)]
"""Along (K, J, I), or along (J, I) in a network of slices."""


class _Config(BaseModel):
    """What both networks have in common; one entry per stage, fine to coarse."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=12)]
    kernels: tuple[Sizes, ...]
    strides: tuple[Sizes, ...]
    decoder_convs: tuple[PositiveInt, ...]
    has_conv_bias: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> _Config:
        stages = len(self.filters)
        lengths = {len(sizes) for sizes in (*self.kernels, *self.strides)}
        if len(lengths) != 1:
            raise ValueError("kernels and strides must all have 2 or all have 3 numbers")
        if {len(self.kernels), len(self.strides), len(self.decoder_convs) + 1} != {stages}:
            raise ValueError(f"kernels, strides and decoder_convs must fit {stages} stages")
        return self

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])


class PlainConvUNetConfig(_Config):
    """nnU-Net's default network: stacked convolutions, instance norm, leaky ReLU."""

    name: Literal["plain_conv_unet"] = "plain_conv_unet"
    convs: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _has_all_stages(self) -> PlainConvUNetConfig:
        if len(self.convs) != len(self.filters):
            raise ValueError(f"convs must fit {len(self.filters)} stages")
        return self

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        widths = (in_channels, *self.filters[:-1])
        stages = [
            nn.Sequential(_Stack(self, stage, channels=width, count=count))
            for stage, (width, count) in enumerate(zip(widths, self.convs, strict=True))
        ]
        return NnunetBackbone(self, _Encoder(stages), out_channels=out_channels)


class ResidualEncoderUNetConfig(_Config):
    """nnU-Net's residual presets (ResEnc M, L, XL): a stem, then stages of residual blocks."""

    name: Literal["residual_encoder_unet"] = "residual_encoder_unet"
    blocks: tuple[PositiveInt, ...]

    @model_validator(mode="after")
    def _has_all_stages(self) -> ResidualEncoderUNetConfig:
        if len(self.blocks) != len(self.filters):
            raise ValueError(f"blocks must fit {len(self.filters)} stages")
        return self

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        stem = _Stack(self, 0, channels=in_channels, count=1, stride=(1,) * self.dimensions)
        widths = (self.filters[0], *self.filters[:-1])
        stages = [
            _Residuals(self, stage, channels=width, count=count)
            for stage, (width, count) in enumerate(zip(widths, self.blocks, strict=True))
        ]
        return NnunetBackbone(self, _Encoder(stages, stem), out_channels=out_channels)


class NnunetBackbone(nn.Module):
    """Encoder and decoder, taken apart between them."""

    def __init__(
        self,
        config: PlainConvUNetConfig | ResidualEncoderUNetConfig,
        encoder: nn.Module,
        *,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = _Decoder(config, out_channels)
        self.dimensions = config.dimensions
        self.channels = tuple(config.filters)
        planes = [prod(stride[axis] for stride in config.strides) for axis in (-2, -1)]
        depth = prod(stride[0] for stride in config.strides) if self.dimensions == 3 else 1
        self.divisor = (depth, planes[0], planes[1])

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        features: list[Tensor] = self.encoder(self._in(image_bckji))
        return [self._out(feature, image_bckji.shape[0]) for feature in features]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits on the grid of the image."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        levels, x = [], self._in(features[-1])
        for stage, skip in enumerate(reversed(features[:-1])):
            x = torch.cat((self.decoder.transpconvs[stage](x), self._in(skip)), dim=1)
            x = self.decoder.stages[stage](x)
            levels.append(self._out(x, features[0].shape[0]))
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        return self._out(self.decoder.seg_layers[-1](self._in(level)), level.shape[0])

    def _in(self, x_bckji: Tensor) -> Tensor:
        return fold(x_bckji) if self.dimensions == 2 else x_bckji

    def _out(self, x: Tensor, batch: int) -> Tensor:
        return unfold(x, batch) if self.dimensions == 2 else x


class _Encoder(nn.Module):
    """`stem` (residual networks only) and `stages`."""

    def __init__(self, stages: Sequence[nn.Module], stem: nn.Module | None = None) -> None:
        super().__init__()
        if stem is not None:
            self.stem = stem
        self.has_stem = stem is not None
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        if self.has_stem:
            x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """From coarse to fine, with an output at every level, as deep supervision trains them."""

    def __init__(self, config: _Config, out_channels: int) -> None:
        super().__init__()
        conv, transposed = _CONV[config.dimensions], _TRANSPOSED[config.dimensions]
        self.stages = nn.ModuleList()
        self.transpconvs = nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        for step in range(len(config.filters) - 1):
            stage = len(config.filters) - 2 - step
            below, width = config.filters[stage + 1], config.filters[stage]
            stride = config.strides[stage + 1]
            self.transpconvs.append(
                transposed(below, width, stride, stride, bias=config.has_conv_bias)
            )
            self.stages.append(
                _Stack(
                    config, stage, channels=2 * width, count=config.decoder_convs[step],
                    stride=(1,) * config.dimensions,
                )
            )  # fmt: skip
            self.seg_layers.append(conv(width, out_channels, 1))


class _Stack(nn.Module):
    """`convs`: convolutions of one stage, the first one strided."""

    def __init__(
        self,
        config: _Config,
        stage: int,
        *,
        channels: int,
        count: int,
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        width = config.filters[stage]
        strides = [stride or config.strides[stage]] + [(1,) * config.dimensions] * (count - 1)
        self.convs = nn.Sequential(
            *(
                _Conv(
                    config, config.kernels[stage], channels if n == 0 else width, width, strides[n]
                )
                for n in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.convs(x)
        return y


class _Conv(nn.Module):
    """Convolution, instance norm and, unless switched off, leaky ReLU."""

    def __init__(
        self,
        config: _Config,
        kernel: Sequence[int],
        channels: int,
        width: int,
        stride: Sequence[int],
        *,
        is_active: bool = True,
        has_bias: bool | None = None,
    ) -> None:
        super().__init__()
        self.conv = _CONV[config.dimensions](
            channels, width, tuple(kernel), tuple(stride),
            padding=tuple((size - 1) // 2 for size in kernel),
            bias=config.has_conv_bias if has_bias is None else has_bias,
        )  # fmt: skip
        self.norm = _NORM[config.dimensions](width, eps=1e-5, affine=True)
        self.is_active = is_active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        y: Tensor = nn.functional.leaky_relu_(x) if self.is_active else x
        return y


class _Residuals(nn.Module):
    """`blocks` of one stage, the first one strided."""

    def __init__(self, config: _Config, stage: int, *, channels: int, count: int) -> None:
        super().__init__()
        width, ones = config.filters[stage], (1,) * config.dimensions
        self.blocks = nn.Sequential(
            _Residual(config, stage, channels, config.strides[stage]),
            *(_Residual(config, stage, width, ones) for _ in range(count - 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(x)
        return y


class _Residual(nn.Module):
    """ResNet-D block: the shortcut is pooled, then projected where the width changes."""

    def __init__(self, config: _Config, stage: int, channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        width, kernel = config.filters[stage], config.kernels[stage]
        ones = (1,) * config.dimensions
        self.conv1 = _Conv(config, kernel, channels, width, stride)
        self.conv2 = _Conv(config, kernel, width, width, ones, is_active=False)
        shortcut: list[nn.Module] = []
        if set(stride) != {1}:
            shortcut.append(_POOL[config.dimensions](tuple(stride), tuple(stride)))
        if channels != width:
            projection = _Conv(config, ones, channels, width, ones, is_active=False, has_bias=False)
            shortcut.append(projection)
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = nn.functional.leaky_relu_(self.conv2(self.conv1(x)) + self.skip(x))
        return y


_CONV: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM: dict[int, Any] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_POOL: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
