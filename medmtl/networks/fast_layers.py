"""Layers of a finished network on a CPU, channels last in memory, by oneDNN.

torch itself takes another way for convolutions that it holds to be small, such as those of one
voxel or one channel, and reorders maps that do not lie channels last. Here every convolution goes
to oneDNN, with its weights in the order that oneDNN wants, and with what follows it in the same
pass over memory: an activation, the sum with another map, the maps that were to be joined.

Tensors: B batch, C channel, then two or three axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd
    from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["CONVS", "TRANSPOSED", "Activation", "FastConv", "FastInstanceNorm", "are_here"]

CONVS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_OPS: Any = torch.ops.mkldnn


def are_here() -> bool:
    """Whether this torch has oneDNN and its fused convolutions."""
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_convolution_transpose_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(_OPS, name) for name in names)


@dataclass(frozen=True)
class Activation:
    """What follows a convolution: nothing, or leaky ReLU with a slope below zero, 0 being ReLU."""

    slope: float | None = None

    @property
    def name(self) -> str:
        """As oneDNN's operators call it."""
        return "none" if self.slope is None else "leaky_relu" if self.slope else "relu"

    @property
    def scalars(self) -> list[float]:
        """Its numbers."""
        return [self.slope] if self.slope else []


class FastConv(nn.Module):
    """A convolution, plain or transposed, with what follows it.

    Args:
        conv: Zero padding, whatever its stride, dilation and groups.

    Attributes:
        activation: What is applied last.
    """

    def __init__(self, conv: _ConvNd) -> None:
        super().__init__()
        self.is_transposed = isinstance(conv, TRANSPOSED)
        self.weight = conv.weight.detach()
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.padding, self.stride = list(cast("Any", conv.padding)), list(conv.stride)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.output_padding = list(conv.output_padding)
        self.activation = Activation()
        self._packed: list[Tensor] = []

    def fold(self, norm: _BatchNorm) -> None:
        """Take a batch norm that follows into the weights."""
        weight, bias = fuse_conv_bn_weights(
            self.weight, self.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight,
            norm.bias, transpose=self.is_transposed,
        )  # fmt: skip
        self.weight, self.bias = weight.detach(), bias.detach()

    def forward(
        self, *parts: Tensor, added: Tensor | None = None, may_overwrite: bool = False
    ) -> Tensor:
        """The answer to the parts joined along the channels, plus `added`, activated.

        Args:
            parts: (B, C, ...) each.
            added: Of the answer's shape.
            may_overwrite: Whether nobody reads `added` afterwards.
        """
        if not self._packed:
            self._pack(parts)
        if self.is_transposed:
            made: Tensor = _OPS._convolution_transpose_pointwise(
                *(parts[0], self._packed[0], self.bias, self.padding, self.output_padding),
                *(self.stride, self.dilation, self.groups),
                *(self.activation.name, self.activation.scalars, ""),
            )
            return made
        total = added
        for number, (part, weight) in enumerate(zip(parts, self._packed, strict=True)):
            bias = self.bias if number == 0 else None
            sizes = (self.padding, self.stride, self.dilation, self.groups)
            is_last = number == len(parts) - 1
            if total is None:
                unary = self.activation if is_last else Activation()
                total = _OPS._convolution_pointwise(
                    part, weight, bias, *sizes, unary.name, unary.scalars, ""
                )
                continue
            act = "relu" if is_last and self.activation.slope == 0 else None
            rest = (part, weight, bias, *sizes, "add", 1.0, act, [], "")
            if number == 0 and not may_overwrite:
                first, *others = rest
                total = _OPS._convolution_pointwise(first, total, *others)
            else:
                total = _OPS._convolution_pointwise_(total, *rest)
        is_left = self.activation.slope and (added is not None or len(parts) > 1)
        answer = cast("Tensor", total)
        return nn.functional.leaky_relu_(answer, self.activation.slope) if is_left else answer

    def _pack(self, parts: tuple[Tensor, ...]) -> None:
        """Weights in oneDNN's order for maps of this size; other sizes are answered as well."""
        weight = self.weight.contiguous(memory_format=_FORMATS[self.weight.dim()])
        if self.is_transposed:
            self._packed = [weight]
            return
        widths = [part.shape[1] for part in parts]
        shares = weight.split(widths, dim=1) if len(parts) > 1 else [weight]
        self._packed = [
            _OPS._reorder_convolution_weight(
                share.contiguous(memory_format=_FORMATS[share.dim()]),
                *(self.padding, self.stride, self.dilation, self.groups, list(part.shape)),
            )
            for share, part in zip(shares, parts, strict=True)
        ]
        self.weight = weight.new_empty(0)


class FastInstanceNorm(nn.Module):
    """An instance norm that leaves a map channels last: of one image it is a batch norm."""

    def __init__(self, norm: _InstanceNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        norm = self.norm
        if len(x) > 1 or norm.track_running_stats:
            kept: Tensor = norm(x)
            return kept
        return nn.functional.batch_norm(
            x, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
        )
