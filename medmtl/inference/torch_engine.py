"""Encoder and decoder on torch in half precision and channels last, compiled where asked.

Made for GPUs and the same code on every device. What comes out is in single precision, so that
sums over tiles, pooling and measurements are as without it. Tensors: B batch, C channel, K J I.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import torch

from medmtl.core.errors import InputRefusedError
from medmtl.networks.memory_format import lay_channels_last

if TYPE_CHECKING:
    from torch import Tensor

    from medmtl.networks.joint import JointNet

__all__ = ["Compiler", "Precision", "TorchEngine", "beyond_half"]

Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Compiler: TypeAlias = Literal["none", "eager", "inductor", "cudagraphs"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def beyond_half(advice: str) -> InputRefusedError:
    """The refusal of a volume whose answer half precision does not hold."""
    return InputRefusedError(
        "volume",
        stage="network",
        code="logits-too-large",
        found="an answer beyond half precision",
        expected="logits below 65504",
        advice=advice,
    )


class TorchEngine:
    """Runs a network in the place of `JointNet.torch_pass`.

    Args:
        net: In evaluation mode; its weights stay in single precision and are laid channels last.
        precision: In which convolutions are computed; half precision by autocast.
        compiler: Backend of `torch.compile`. Each shape of a tile is compiled at its first use.
    """

    def __init__(
        self, net: JointNet, *, precision: Precision = "float32", compiler: Compiler = "none"
    ) -> None:
        lay_channels_last(net)
        self.dtype = _DTYPES[precision]
        # Outputs of a graph lie in its own memory, which its next run writes.
        self._is_graph = compiler == "cudagraphs"
        self._run = net.torch_pass
        if compiler != "none":
            self._run = torch.compile(net.torch_pass, backend=compiler, dynamic=False)

    def __call__(self, stem_bckji: Tensor, /) -> tuple[list[Tensor], Tensor]:
        """Feature maps and logits, single precision.

        Raises:
            InputRefusedError: If a logit is beyond half precision.
        """
        stem = stem_bckji.contiguous(memory_format=torch.channels_last_3d)
        is_half = self.dtype is not torch.float32
        with torch.autocast(stem.device.type, self.dtype, enabled=is_half):
            features, logits = self._run(stem)
        if self.dtype is torch.float16 and not bool(logits.isfinite().all()):
            raise beyond_half("Use another --speed: this one computes in float16.")
        copies = self._is_graph
        return (
            [level.to(torch.float32, copy=copies) for level in features],
            logits.to(torch.float32, copy=copies),
        )
