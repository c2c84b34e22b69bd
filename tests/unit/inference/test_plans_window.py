"""nnU-Net's sliding window: every voxel once in weight, mirrored views turned back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.core.errors import InputRefusedError
from medmtl.inference.plans_window import SlidingWindow, _starts, window_logits

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Two classes: the value of the voxel times a factor, and its negative."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.shapes: list[Any] = []

    def encode(self, image: Tensor) -> list[Tensor]:
        self.shapes.append(tuple(image.shape))
        return [image * self.factor]

    def decode(self, features: list[Tensor]) -> Tensor:
        return torch.cat([features[0], -features[0]], dim=1)


class Ramp(Pointwise):
    """Adds twice the position along the last axis: what mirroring averages away."""

    def encode(self, image: Tensor) -> list[Tensor]:
        return [image + 2 * torch.arange(image.shape[-1])]


def logits(net: nn.Module, image: Tensor, **window: Any) -> Tensor:
    return window_logits([net], image[None], SlidingWindow(**window), classes=2, device=CPU)


@pytest.mark.parametrize("patch", [(4, 4, 4), (8, 8, 8), (4, 4)])
@pytest.mark.parametrize("shape", [(9, 7, 5), (4, 4, 4), (2, 3, 3)])
def test_a_pointwise_network_is_undisturbed(
    patch: tuple[int, ...], shape: tuple[int, int, int]
) -> None:
    image = torch.randint(0, 5, shape).float()  # a corner has so little weight that it is rounded
    found = logits(Pointwise(), image, patch_size=patch, mirror_axes=(0, 1))
    assert found.shape == (2, *shape)
    torch.testing.assert_close(found[0].float(), image, rtol=4e-3, atol=4e-3)


def test_a_network_of_slices_sees_one_slice_at_a_time() -> None:
    net = Pointwise()
    logits(net, torch.rand(3, 4, 4), patch_size=(4, 4))
    assert net.shapes == [(1, 1, 1, 4, 4)] * 3


def test_mirroring_averages_both_views() -> None:
    """Twice the position x, and its mirror 2 (3 - x), average to 3 everywhere."""
    image = torch.zeros(1, 4, 4)
    torch.testing.assert_close(
        logits(Ramp(), image, patch_size=(4, 4), mirror_axes=(1,))[0].float(),
        torch.full((1, 4, 4), 3.0),
        rtol=4e-3,
        atol=4e-3,
    )
    alone = logits(Ramp(), image, patch_size=(4, 4))[0].float()
    torch.testing.assert_close(alone[0, 0], 2 * torch.arange(4.0), rtol=1e-3, atol=1e-3)


def test_networks_are_averaged() -> None:
    image = torch.randint(0, 5, (4, 4, 4)).float()
    window = SlidingWindow(patch_size=(4, 4, 4))
    nets = [Pointwise(1.0), Pointwise(3.0)]
    found = window_logits(nets, image[None], window, classes=2, device=CPU)
    torch.testing.assert_close(found[0].float(), 2 * image, rtol=4e-3, atol=4e-3)


def test_steps_are_those_of_the_paper() -> None:
    """An image of 110 and a patch of 64: three steps, at 0, 23 and 46 (nnU-Net's own example)."""
    assert _starts(110, 64, 0.5) == [0, 23, 46]
    assert _starts(64, 64, 0.5) == [0]


def test_an_answer_beyond_half_precision_is_refused() -> None:
    with pytest.raises(InputRefusedError, match="logits-too-large"):
        logits(Pointwise(1e6), torch.ones(4, 4, 4), patch_size=(4, 4, 4))
