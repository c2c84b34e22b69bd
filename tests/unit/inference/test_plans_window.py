"""nnU-Net's sliding window: every voxel once in weight, mirrored views turned back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medmtl.core.errors import InputRefusedError
from medmtl.inference import plans_window as module
from medmtl.inference.plans_window import SlidingWindow, _starts, air_box, window_logits

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


AIR, PATCH = -1.0, (8, 8, 8)


class Body(Pointwise):
    """Two outputs of each voxel by itself: how far it lies below or above a border."""

    def __init__(self, *, border: float, signs: tuple[int, int]) -> None:
        super().__init__()
        self.border, self.signs = border, signs

    def decode(self, features: list[Tensor]) -> Tensor:
        return torch.cat([sign * (features[0] - self.border) for sign in self.signs], dim=1)


def in_air(shape: tuple[int, int, int] = (24, 40, 30)) -> Tensor:
    image = torch.full(shape, AIR)
    image[8:14, 16:28, 12:20] = torch.rand(6, 12, 8, generator=torch.Generator().manual_seed(0))
    return image


def in_windows(net: Body, *, skips_air: bool, has_background: bool = True) -> Tensor:
    return window_logits(
        [net], in_air()[None], SlidingWindow(patch_size=PATCH), classes=2, device=CPU,
        skips_air=skips_air, has_background=has_background,
    )  # fmt: skip


def test_air_is_skipped_without_a_change_of_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AIR_MARGIN", 3)
    nets = [Body(border=0.4, signs=(-1, 1)) for _ in range(2)]
    whole, skipped = (in_windows(net, skips_air=bool(n)) for n, net in enumerate(nets))
    assert whole.argmax(dim=0).any()
    assert torch.equal(skipped.argmax(dim=0), whole.argmax(dim=0))
    assert len(nets[1].shapes) < len(nets[0].shapes) / 3


def test_air_is_skipped_for_regions_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AIR_MARGIN", 3)
    nets = [Body(border=0.4, signs=(1, 1)) for _ in range(2)]
    whole, skipped = (
        in_windows(net, skips_air=bool(n), has_background=False) for n, net in enumerate(nets)
    )
    assert (whole > 0).any()
    assert torch.equal(skipped > 0, whole > 0)
    assert len(nets[1].shapes) < len(nets[0].shapes) / 3


def test_air_that_is_no_background_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AIR_MARGIN", 3)
    whole, skipped = (
        in_windows(Body(border=-2.0, signs=(-1, 1)), skips_air=skips) for skips in (False, True)
    )
    assert torch.equal(skipped, whole)


def test_the_box_is_the_body_with_its_margin_and_at_least_a_patch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AIR_MARGIN", 3)
    assert air_box(in_air()[None], PATCH) == (slice(5, 17), slice(13, 31), slice(9, 23))
    large = air_box(in_air()[None], (8, 36, 8))
    assert large is not None
    assert large[1].stop - large[1].start == 36
    assert air_box(torch.full((1, 4, 4, 4), AIR), PATCH) is None
    assert air_box(torch.rand(1, 9, 9, 9) + torch.eye(9), PATCH) is None
