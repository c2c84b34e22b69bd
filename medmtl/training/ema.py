"""The exponential moving average of a network's weights, which is what a run delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["average_into", "warm_decay"]


def warm_decay(decay: float, step: int) -> float:
    """Decay after `step` steps: small at first, or the random start would stay in the average."""
    return min(decay, step / (step + 19))


@torch.no_grad()
def average_into(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Move the average towards the model: `average = decay * average + (1 - decay) * model`.

    Floating parameters and buffers are averaged, counters are copied.
    """
    new = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])
