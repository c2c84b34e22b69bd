"""Networks of MONAI bundles as they are: built from literal arguments, used whole.

Tensors: B batch, C channel, K J I voxel axes in the order in which the bundle takes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from monai.networks.nets import DynUNet, SegResNet, SegResNetDS, SwinUNETR, UNet
from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MONAI_NETWORKS", "MonaiNetConfig", "MonaiNetwork"]

MonaiNetwork: TypeAlias = Literal["SegResNet", "SegResNetDS", "DynUNet", "UNet", "SwinUNETR"]

_RES_NET = "init_filters act norm blocks_down blocks_up upsample_mode"
_DYN_UNET = (
    "kernel_size strides upsample_kernel_size filters dropout norm_name act_name deep_supervision "
    "deep_supr_num res_block trans_bias"
)
_UNET = (
    "channels strides kernel_size up_kernel_size num_res_units act norm dropout bias adn_ordering"
)
_SWIN = (
    "patch_size depths num_heads window_size qkv_bias mlp_ratio feature_size norm_name drop_rate "
    "attn_drop_rate dropout_path_rate normalize patch_norm use_checkpoint downsample use_v2"
)


def _known(names: str) -> frozenset[str]:
    return frozenset(names.split())


MONAI_NETWORKS: Mapping[str, tuple[type[nn.Module], frozenset[str]]] = {
    "SegResNet": (
        SegResNet,
        _known(f"{_RES_NET} dropout_prob norm_name num_groups use_conv_final"),
    ),
    "SegResNetDS": (SegResNetDS, _known(f"{_RES_NET} dsdepth resolution")),
    "DynUNet": (DynUNet, _known(_DYN_UNET)),
    "UNet": (UNet, _known(_UNET)),
    "SwinUNETR": (SwinUNETR, _known(_SWIN)),
}
"""Class and the arguments that are numbers, texts or lists of them, besides sizes of the input."""


class MonaiNetConfig(BaseModel):
    """A network of MONAI by name, with the literal arguments of the bundle's config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["monai"] = "monai"
    network: MonaiNetwork
    arguments: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _knows_every_argument(self) -> MonaiNetConfig:
        known = MONAI_NETWORKS[self.network][1]
        if unknown := sorted(set(self.arguments) - known):
            raise ValueError(f"{self.network} has no argument {', '.join(unknown)}")
        if empty := sorted(name for name, value in self.arguments.items() if _holds_null(value)):
            message = f"{self.network} takes values for {', '.join(empty)}: a bundle has no null"
            raise ValueError(message)
        return self

    def build(self, *, in_channels: int, out_channels: int) -> nn.Module:
        """The network with random weights."""
        net = MONAI_NETWORKS[self.network][0](
            spatial_dims=3, in_channels=in_channels, out_channels=out_channels, **self.arguments
        )
        return _SegResNet(net) if isinstance(net, SegResNet) else _Whole(net, in_channels)


def _holds_null(value: JsonValue) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return value is None or (isinstance(value, list) and any(map(_holds_null, value)))


class _Whole(nn.Module):
    """Not taken apart: its only feature map is the image, so it carries no diagnosis head."""

    def __init__(self, net: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.net = net
        self.channels = (in_channels,)
        self.divisor = (1, 1, 1)

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """The image itself."""
        return [image_bckji]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits; of a network with deep supervision the finest."""
        logits: Any = self.net(features[0])
        finest: Tensor = logits[0] if isinstance(logits, list | tuple) else logits
        return finest


class _SegResNet(nn.Module):
    """Taken apart after its encoder, by its own two halves."""

    def __init__(self, net: SegResNet) -> None:
        super().__init__()
        self.net = net
        depth = len(net.blocks_down)
        self.channels = tuple(net.init_filters * 2**level for level in range(depth))
        self.divisor = (2 ** (depth - 1),) * 3

    def encode(self, image_bckji: Tensor) -> list[Tensor]:
        """Feature maps, fine to coarse."""
        features: list[Tensor] = self.net.encode(image_bckji)[1]
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Segmentation logits."""
        return self.classify(self.decode_levels(features)[0])

    def decode_levels(self, features: list[Tensor]) -> list[Tensor]:
        """Feature maps of the decoder, fine to coarse."""
        levels, x = [], features[-1]
        steps = zip(self.net.up_samples, self.net.up_layers, reversed(features[:-1]), strict=True)
        for up, layer, skip in steps:
            x = layer(up(x) + skip)
            levels.append(x)
        return levels[::-1]

    def classify(self, level: Tensor) -> Tensor:
        """Segmentation logits of the decoder's finest level."""
        logits: Tensor = self.net.conv_final(level) if self.net.use_conv_final else level
        return logits
