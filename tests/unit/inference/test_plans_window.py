"""nnU-Net's sliding window: every voxel once in weight, mirrored views turned back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medmtl.core.errors import InputRefusedError
from medmtl.inference import plans_air as module
from medmtl.inference.plans_air import SkippedAir, window_count, window_starts
from medmtl.inference.plans_window import LONGEST, SlidingWindow, window_logits
from medmtl.phantom import generate_torso

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Two classes: the value of the voxel times a factor, and its negative."""

    divisor, channels = (1, 2, 2), (1,)

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
    assert window_starts(110, 64, 0.5) == [0, 23, 46]
    assert window_starts(64, 64, 0.5) == [0]


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


def in_windows(
    *nets: Pointwise, image: Tensor | None = None, skips_air: bool, has_background: bool = True,
    largest: float = -math.inf, is_widened: bool = False,
) -> Tensor:  # fmt: skip
    image = in_air() if image is None else image
    return window_logits(
        nets, image[None], SlidingWindow(patch_size=PATCH, step=0.75), classes=2, device=CPU,
        air=(largest,) if skips_air else None, has_background=has_background,
        is_widened=is_widened,
    )  # fmt: skip


@pytest.fixture
def margins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As small as the images here."""
    monkeypatch.setattr(module, "AIR_MARGIN", 3)
    monkeypatch.setattr(module, "LEAST_MARGIN", 2)
    monkeypatch.setattr(module, "SHELL", 1)


@pytest.mark.usefixtures("margins")
def test_air_is_skipped_without_a_change_of_labels() -> None:
    nets = [Body(border=0.4, signs=(-1, 1)) for _ in range(2)]
    whole, skipped = (in_windows(net, skips_air=bool(n)) for n, net in enumerate(nets))
    assert whole.argmax(dim=0).any()
    assert torch.equal(skipped.argmax(dim=0), whole.argmax(dim=0))
    assert len(nets[1].shapes) < len(nets[0].shapes) / 3


@pytest.mark.usefixtures("margins")
def test_noisy_air_is_skipped_where_the_values_of_air_are_known() -> None:
    noise = torch.randn(in_air().shape, generator=torch.Generator().manual_seed(1))
    image = torch.where(in_air() == AIR, AIR + 0.01 * noise, in_air())
    nets = [Body(border=0.4, signs=(-1, 1)) for _ in range(3)]
    whole, unknown, known = (
        in_windows(net, image=image, skips_air=bool(n), largest=AIR + 0.1 if n == 2 else -math.inf)
        for n, net in enumerate(nets)
    )
    assert torch.equal(unknown, whole)
    assert torch.equal(known.argmax(dim=0), whole.argmax(dim=0))
    assert len(nets[2].shapes) < len(nets[1].shapes) / 3
    assert len(nets[1].shapes) == len(nets[0].shapes)


@pytest.mark.usefixtures("margins")
def test_air_is_skipped_for_regions_too() -> None:
    nets = [Body(border=0.4, signs=(1, 1)) for _ in range(2)]
    whole, skipped = (
        in_windows(net, skips_air=bool(n), has_background=False) for n, net in enumerate(nets)
    )
    assert (whole > 0).any()
    assert torch.equal(skipped > 0, whole > 0)
    assert len(nets[1].shapes) < len(nets[0].shapes) / 3


ALL = slice(None)


class Shadow(Body):
    """Calls a part of the air body, but only in windows that hold something bright."""

    def __init__(self, where: tuple[slice, ...]) -> None:
        super().__init__(border=0.4, signs=(-1, 1))
        self.where = where

    def encode(self, image: Tensor) -> list[Tensor]:
        features = super().encode(image)
        if bool((image > 0).any()):
            features[0][(slice(None), slice(None), *self.where)] = 5.0
        return features


class Normalised(Body):
    """What an instance norm does to a window of one value: any answer may come out."""

    def encode(self, image: Tensor) -> list[Tensor]:
        is_flat = bool(image.std() == 0)
        return [super().encode(image)[0] + 5.0 * is_flat]


@pytest.mark.usefixtures("margins")
@pytest.mark.parametrize(
    ("make", "more"),
    [
        (lambda: Body(border=-2.0, signs=(-1, 1)), 1),  # asked about air alone
        (lambda: Normalised(border=0.4, signs=(-1, 1)), 1),
        (lambda: Shadow((slice(0, 1), ALL, ALL)), 2),  # the first window of the box besides
    ],
)
def test_where_air_is_no_background_everything_is_computed_and_little_of_it_twice(
    make: Callable[[], Pointwise], more: int
) -> None:
    plain, asked = make(), make()
    whole = in_windows(plain, skips_air=False)
    assert torch.equal(in_windows(asked, skips_air=True), whole)
    assert len(asked.shapes) == len(plain.shapes) + more


@pytest.mark.usefixtures("margins")
def test_every_face_of_the_box_and_every_network_is_asked() -> None:
    """A net that calls one side of each window body says so at the last row of windows, too."""
    sure = Body(border=0.4, signs=(-1, 1))
    for axis in range(3):
        for face in (slice(0, 1), slice(-1, None)):
            where = [ALL] * 3
            where[axis] = face
            whole, skipped = (
                in_windows(sure, Shadow(tuple(where)), skips_air=skips) for skips in (False, True)
            )
            assert torch.equal(skipped, whole)


class Speck(Body):
    """Calls one voxel at the border of the box body, in its first windows."""

    def __init__(self, count: int) -> None:
        super().__init__(border=0.4, signs=(-1, 1))
        self.count = count

    def encode(self, image: Tensor) -> list[Tensor]:
        features = super().encode(image)
        if bool((image > 0).any()) and self.count > 0:
            self.count -= 1
            features[0][..., 0, 3, 3] = 5.0
        return features


@pytest.mark.usefixtures("margins")
@pytest.mark.parametrize(("count", "is_skipped"), [(1, True), (2, False)])
def test_a_voxel_in_a_thousand_of_the_border_may_be_a_mistake(
    count: int, *, is_skipped: bool
) -> None:
    """The six faces of the box of 12, 18 and 14 voxels are 1,272."""
    plain, speckled = Speck(0), Speck(count)
    whole = in_windows(plain, skips_air=False)
    skipped = in_windows(speckled, skips_air=True)
    assert (len(speckled.shapes) < len(plain.shapes)) == is_skipped
    assert int((skipped.argmax(dim=0) != whole.argmax(dim=0)).sum()) == is_skipped


class Smooth(Body):
    """Sees a voxel's neighbours, and zeros beyond the window, as a convolution does, or nothing."""

    def __init__(self, *, sees_zeros: bool) -> None:
        super().__init__(border=-0.7, signs=(-1, 1))
        self.mean = nn.AvgPool3d(3, stride=1, padding=1, count_include_pad=sees_zeros)

    def encode(self, image: Tensor) -> list[Tensor]:
        return super().encode(self.mean(image))


def torso_in_air() -> Tensor:
    torso = torch.from_numpy(generate_torso(0, spacing_mm=(12.0, 12.0, 12.0)).volume.array).float()
    return nn.functional.pad((torso.clamp(-150, 250) - 50) / 200, [12] * 6, value=AIR)


@pytest.mark.usefixtures("margins")
def test_a_torso_keeps_its_labels_where_the_air_around_it_is_skipped() -> None:
    image, nets = torso_in_air(), [Smooth(sees_zeros=False) for _ in range(2)]
    whole, skipped = (
        in_windows(net, image=image, skips_air=bool(n)).argmax(dim=0) for n, net in enumerate(nets)
    )
    assert whole.any()
    near = nn.functional.max_pool3d((image > AIR)[None].float(), 3, stride=1, padding=1)[0] > 0
    assert torch.equal(skipped[~near], whole[~near])
    assert float((skipped == whole).float().mean()) > 0.99  # windows cut the skin at other places
    assert len(nets[1].shapes) < len(nets[0].shapes)


@pytest.mark.usefixtures("margins")
def test_a_torso_in_air_that_is_called_body_at_the_border_of_windows_is_computed_whole() -> None:
    """Zeros beyond the window look like tissue to this network."""
    whole, skipped = (
        in_windows(Smooth(sees_zeros=True), image=torso_in_air(), skips_air=skips)
        for skips in (False, True)
    )
    assert torch.equal(skipped, whole)


@pytest.mark.usefixtures("margins")
def test_an_axis_that_is_filled_up_to_a_window_has_no_face() -> None:
    """Zeros beside a thin image are no air, and what is said of them is not read."""
    image = in_air()[8:14]
    nets = [Body(border=-0.5, signs=(-1, 1)) for _ in range(2)]
    whole, skipped = (in_windows(net, image=image, skips_air=bool(n)) for n, net in enumerate(nets))
    assert torch.equal(skipped.argmax(dim=0), whole.argmax(dim=0))
    assert len(nets[1].shapes) < len(nets[0].shapes) / 2


@pytest.mark.usefixtures("margins")
def test_the_box_is_the_body_with_as_much_margin_as_costs_no_window() -> None:
    def box(image: Tensor, patch: tuple[int, int, int] = PATCH) -> Any:
        found = SkippedAir.of(image[None], patch, step=0.75, air=(-math.inf,))
        return found and found.box

    # 6, 12 and 8 voxels, windows of 8 that lie 6 apart: 2, 3 and 2 of them reach 14, 20 and 14.
    assert box(in_air()) == (slice(5, 17), slice(13, 31), slice(9, 23))
    thick = in_air()
    thick[7:15] = thick[8:9]  # 8 voxels: with 3 on both sides, 14
    thick[:, :, 11:21] = thick[:, :, 12:13]  # 10 voxels: 14 with 2, so that two windows do
    assert box(thick) == (slice(4, 18), slice(13, 31), slice(9, 23))
    assert box(in_air(), (8, 36, 8))[1] == slice(4, 40)
    assert box(torch.full((4, 4, 4), AIR)) is None
    assert box(torch.rand(9, 9, 9) + torch.eye(9)) is None


@pytest.mark.usefixtures("margins")
def test_a_smaller_box_with_as_many_windows_is_not_asked_for() -> None:
    image = in_air()[4:17, 12:31, 8:22]  # 13, 19 and 14 voxels: 2, 3 and 2 windows
    net = Body(border=-2.0, signs=(-1, 1))
    in_windows(net, image=image, skips_air=True)
    assert len(net.shapes) == 12


@pytest.mark.parametrize(
    ("shape", "divisor", "wide"),
    [
        ((160, 200, 240), 32, (160, 128, 160)),  # one window, two, two that share a quarter
        ((160, 200, 240), 16, (160, 128, 144)),
        ((128, 60, 100), 16, (128, 128, 128)),
        ((128, 128, 160), 16, (128, 128, 160)),
        ((128, 128, 170), 16, (128, 128, 128)),  # 176 is more than a quarter longer
        ((128, 128, 240), 16, (128, 128, 144)),
    ],
)
def test_widened_windows_are_those_that_go_over_a_grid_in_the_fewest_voxels(
    shape: tuple[int, int, int], divisor: int, wide: tuple[int, int, int]
) -> None:
    window = SlidingWindow(patch_size=(128, 128, 128), step=0.75)
    assert window.widened(shape, (divisor,) * 3, channels=16).patch_size == wide


def test_a_network_of_slices_widens_in_the_plane() -> None:
    flat = SlidingWindow(patch_size=(128, 128), step=0.75)
    assert flat.widened((30, 160, 128), (1, 16, 16), channels=16).patch_size == (160, 128)


def test_maps_of_widened_windows_stay_small() -> None:
    """A map of 128 cubed in single precision takes 8 MiB a channel; 25 of them are 200 MiB."""
    window = SlidingWindow(patch_size=(128, 128, 128), step=0.75)
    sides = [window.widened((160, 128, 128), (16,) * 3, channels=n).patch_size for n in (20, 21)]
    assert sides == [(160, 128, 128), (128, 128, 128)]


@pytest.mark.parametrize("seed", range(20))
def test_widened_windows_are_never_smaller_and_never_a_quarter_longer_than_the_patch(
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    shape, patch = random.integers(10, 400, 3), 16 * random.integers(1, 12, 3)
    window = SlidingWindow(patch_size=tuple(patch.tolist()), step=0.75)
    wide = window.widened(shape.tolist(), (16, 16, 16), channels=1).patch_size
    assert all(a >= b and a % 16 == 0 for a, b in zip(wide, patch, strict=True))
    assert all(a <= LONGEST * b for a, b in zip(wide, patch, strict=True))

    def voxels(size: Any) -> int:
        counts = (window_count(int(n), int(p), 0.75) for n, p in zip(shape, size, strict=True))
        return int(math.prod(counts) * math.prod(size))

    assert voxels(wide) <= voxels(patch.tolist())


@pytest.mark.usefixtures("margins")
@pytest.mark.parametrize("skips_air", [False, True])
def test_widened_windows_give_a_pointwise_network_the_same_labels_in_less(
    *, skips_air: bool
) -> None:
    nets = [Body(border=0.4, signs=(-1, 1)) for _ in range(2)]
    image = in_air()
    image[:, 27] = AIR  # 11 voxels, 17 with 3 on both sides: three windows of 8, two of 10
    plain, wide = (
        in_windows(net, image=image, skips_air=skips_air, is_widened=bool(n))
        for n, net in enumerate(nets)
    )
    assert plain.argmax(dim=0).any()
    assert torch.equal(wide.argmax(dim=0), plain.argmax(dim=0))
    computed = [sum(map(math.prod, net.shapes)) for net in nets]
    assert computed[1] < computed[0]


@pytest.mark.usefixtures("margins")
def test_a_widened_window_takes_from_the_grid_what_the_box_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A box of 9 and a window of 10: the voxel beside it is seen, not a zero."""
    monkeypatch.setattr(module, "LEAST_MARGIN", 3)
    found: list[Tensor] = []

    class Seen(Body):
        def encode(self, image: Tensor) -> list[Tensor]:
            found.append(image)
            return super().encode(image)

    image = torch.full((8, 8, 40), AIR)
    image[:, :, 16:19] = 1.0  # 3 voxels, 9 with 3 on both sides
    in_windows(Seen(border=0.4, signs=(-1, 1)), image=image, skips_air=True, is_widened=True)
    assert [one.shape[-1] for one in found] == [8, 10]
    assert set(found[-1].flatten().tolist()) == {AIR, 1.0}


class Lending(Pointwise):
    """Gives the same memory every time, as an engine that lends its outputs."""

    def decode(self, features: list[Tensor]) -> Tensor:
        made = super().decode(features)
        self.lent = getattr(self, "lent", torch.empty_like(made))
        return self.lent.copy_(made)


def test_what_a_network_lends_is_taken_before_its_next_answer() -> None:
    class LendingRamp(Lending, Ramp):
        pass

    image, window = torch.rand(9, 7, 5), {"patch_size": (4, 4, 4), "mirror_axes": (0, 1, 2)}
    assert torch.equal(logits(LendingRamp(), image, **window), logits(Ramp(), image, **window))
