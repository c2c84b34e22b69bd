"""Layers of a finished network on a CPU, channels last in memory, by oneDNN.

torch itself takes another way for convolutions that it holds to be small, such as those of one
voxel or one channel, and reorders maps that do not lie channels last. Here every convolution goes
to oneDNN, with its weights in the order that oneDNN wants, and with what follows it in the same
pass over memory: an activation, the sum with another map.

Tensors: B batch, C channel, then two or three axes.
"""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.nn.modules.batchnorm import _BatchNorm
    from torch.nn.modules.conv import _ConvNd
    from torch.nn.modules.instancenorm import _InstanceNorm

__all__ = ["CONVS", "TRANSPOSED", "Activation", "FastConv", "FastInstanceNorm", "are_here"]

CONVS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_OPS: Any = torch.ops.mkldnn
_PACKING = threading.Lock()
"""Two cases of a batch may come to a network for the first time at the same time."""


def are_here() -> bool:
    """Whether this torch has oneDNN and its fused convolutions."""
    names = (
        "_convolution_pointwise",
        "_convolution_pointwise_",
        "_convolution_transpose_pointwise",
    )
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and all(hasattr(_OPS, name) for name in names)


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
        packs: Whether the next map decides the order of the weights for all that follow.
        is_portable: Whether torch's public steps are taken, which other programs can read.
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
        self.packs = True
        self.is_portable = False
        self._packed: list[Tensor] = []

    @property
    def width(self) -> int:
        """Channels of the answer."""
        return self.weight.shape[1] * self.groups if self.is_transposed else self.weight.shape[0]

    @property
    def can_fold(self) -> bool:
        """Whether a norm can be taken into the weights."""
        return self.groups == 1 or not self.is_transposed

    def fold(self, norm: _BatchNorm) -> None:
        """Take a batch norm that follows into the weights."""
        mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        weight, bias = fuse_conv_bn_weights(
            self.weight, self.bias, mean, variance, norm.eps, norm.weight, norm.bias,
            transpose=self.is_transposed,
        )  # fmt: skip
        self.weight, self.bias = weight.detach(), bias.detach()

    def split(self, widths: Sequence[int], *, order: Sequence[int]) -> list[FastConv]:
        """One convolution for each of the maps that were joined, to be added up in this order."""
        weights = torch.split(self.weight, list(widths), dim=1)
        pieces = []
        for place, number in enumerate(order):
            piece = copy.copy(self)
            piece.weight, piece._packed = weights[number], []
            piece.bias = self.bias if place == 0 else None
            piece.activation = self.activation if place == len(order) - 1 else Activation()
            pieces.append(piece)
        return pieces

    def forward(
        self, x: Tensor, *, added: Tensor | None = None, may_overwrite: bool = False
    ) -> Tensor:
        """The answer, plus `added`, activated.

        Args:
            x: (B, C, ...).
            added: Of the answer's shape; of a plain convolution only.
            may_overwrite: Whether nobody reads `added` afterwards.
        """
        if self.is_portable:
            return self._in_public_steps(x, added)
        if self.packs and not self._packed:
            with _PACKING:
                if not self._packed:
                    self._pack(x)
        weight = self._packed[0] if self._packed else self._laid()
        sizes = (self.stride, self.dilation, self.groups)
        unary = (self.activation.name, self.activation.scalars, "")
        made: Tensor
        if self.is_transposed:
            made = _OPS._convolution_transpose_pointwise(
                x, weight, self.bias, self.padding, self.output_padding, *sizes, *unary
            )
            return made
        if added is None:
            made = _OPS._convolution_pointwise(x, weight, self.bias, self.padding, *sizes, *unary)
            return made
        slope = self.activation.slope
        name = "relu" if slope == 0 else None  # no other goes with a sum
        rest: Any = (weight, self.bias, self.padding, *sizes, "add", 1.0, name, [], "")
        if may_overwrite:
            made = _OPS._convolution_pointwise_(added, x, *rest)
        else:
            made = _OPS._convolution_pointwise(x, added, *rest)
        return nn.functional.leaky_relu_(made, slope) if slope else made

    def _in_public_steps(self, x: Tensor, added: Tensor | None) -> Tensor:
        """By torch's one operator of all convolutions."""
        made = torch.convolution(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation,
            self.is_transposed, self.output_padding, self.groups,
        )  # fmt: skip
        made = made if added is None else made + added
        slope = self.activation.slope
        return made if slope is None else nn.functional.leaky_relu(made, slope)

    def _laid(self) -> Tensor:
        return self.weight.contiguous(memory_format=_FORMATS[self.weight.dim()])

    def _pack(self, x: Tensor) -> None:
        """Weights in oneDNN's order for maps of this size; other sizes are answered as well."""
        weight = self._laid()
        if not self.is_transposed:
            weight = _OPS._reorder_convolution_weight(
                weight, self.padding, self.stride, self.dilation, self.groups, list(x.shape)
            )
            self.weight = self.weight.new_empty(0)
        self._packed = [weight]


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
