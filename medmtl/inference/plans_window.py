"""nnU-Net's sliding window with mirroring, in the same order and precision.

Tensors: the first C is channel or class, A B C the axes of the plans' grid. Sums are kept in half
precision, as there: the answers are to be the same to the voxel, and a tie is broken by the last
bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations, pairwise, product
from math import ceil, prod
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy.ndimage import gaussian_filter

from medmtl.inference.openvino_engine import lent_outputs
from medmtl.inference.plans_air import SkippedAir, window_count, window_starts
from medmtl.inference.torch_engine import beyond_half

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from medmtl.networks.backbones import Backbone

__all__ = ["LONGEST", "SlidingWindow", "padded", "window_logits"]

LONGEST = 1.25
"""Times as long a side of a widened window may be as the patch's. On ACDC (2d, 19 patients) that
changes Dice by less than 0.001, while sides half as long again cost 0.006: instance norms see
other values."""
WIDEST_BYTES = 200 * 2**20
"""Of the finest feature map of a widened window. A decoder holds some four of that size."""


class SlidingWindow(BaseModel):
    """How an imported network goes over a grid.

    Attributes:
        patch_size: In the order of the plans; two numbers for a network of slices.
        mirror_axes: Axes of the patch that are mirrored, in all combinations.
        step: Distance of two patches as a share of the patch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch_size: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3)]
    mirror_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    step: Annotated[float, Field(gt=0, le=1)] = 0.5

    def widened(
        self, shape: Sequence[int], divisor: Sequence[int], *, channels: int
    ) -> SlidingWindow:
        """The windows that go over a grid in the fewest voxels, none smaller than the patch.

        A patch seldom fits a grid: windows overlap by more than is asked for. Wider ones are
        fewer, and a network sees no less around a voxel than it did when it learned. Sides are
        multiples of the divisor, so up to one of it lies beyond a grid.

        Args:
            shape: Of the grid.
            divisor: What the network halves without a remainder, along the same axes.
            channels: Of its finest feature map.
        """
        axes = len(self.patch_size)
        sides = [
            _sides(whole, part, step, self.step)
            for whole, part, step in zip(
                shape[-axes:], self.patch_size, divisor[-axes:], strict=True
            )
        ]
        own = prod(self.patch_size)
        most = max(own, WIDEST_BYTES / 4 / channels)
        possible = [size for size in product(*sides) if prod(size) <= most]

        def voxels(size: tuple[int, ...]) -> tuple[int, int]:
            counts = map(window_count, shape[-axes:], size, [self.step] * axes)
            return prod(counts) * prod(size), prod(size)

        return self.model_copy(update={"patch_size": min(possible, key=voxels)})


@torch.inference_mode()
def window_logits(
    nets: Sequence[nn.Module],
    image_cabc: Tensor,
    window: SlidingWindow,
    *,
    classes: int,
    device: torch.device,
    air: Sequence[float] | None = None,
    is_widened: bool = False,
    has_background: bool = True,
) -> Tensor:
    """Mean logits (C, A, B, C) of the networks, half precision, on the CPU.

    Args:
        nets: Backbones in evaluation mode, on the device.
        image_cabc: (C, A, B, C) float32.
        window: Patch and mirroring.
        classes: Outputs of a network.
        device: Where the networks are.
        air: Where the largest value of air of each channel is given, go over the box of the body
            only, and call what lies outside background, if each network says so wherever it is
            asked (`SkippedAir`); else over everything.
        is_widened: Whether windows may be larger than the patch, see `SlidingWindow.widened`.
        has_background: Whether the first class is the background; else no output is.

    Raises:
        InputRefusedError: If a logit is beyond half precision.
    """
    run = _Run(nets, window, classes, device)
    skipped = None
    if air is not None:
        skipped = SkippedAir.of(
            image_cabc, run.patch, step=window.step, air=air, has_background=has_background
        )
    if skipped is not None and run.calls_background(skipped, image_cabc):
        inner = run.widened(skipped.size) if is_widened else run
        skipped = skipped.grown(inner.patch)
        logits = inner.mean(image_cabc[(slice(None), *skipped.box)], skipped)
        if logits is not None:
            return skipped.around(logits)
    outer = run.widened(image_cabc.shape[1:]) if is_widened else run
    return cast("Tensor", outer.mean(image_cabc, None))


@dataclass(frozen=True, eq=False)
class _Run:
    """Networks that go over one grid after the other."""

    nets: Sequence[nn.Module]
    window: SlidingWindow
    classes: int
    device: torch.device

    @property
    def patch(self) -> tuple[int, ...]:
        """A network of slices takes every slice once."""
        return (1, *self.window.patch_size)[-3:]

    def widened(self, shape: Sequence[int]) -> _Run:
        """With wider windows for a grid; all networks halve it the same way."""
        net = cast("Backbone", self.nets[0])
        window = self.window.widened(shape, net.divisor, channels=net.channels[0])
        return replace(self, window=window)

    def calls_background(self, air: SkippedAir, image_cabc: Tensor) -> bool:
        """Whether all networks say background all over a window of air, if one would be asked.

        All such windows hold the same values, noise apart, so one answers for all.
        """
        if air.empty is None:
            return True
        image, inside = padded(image_cabc, self.patch)
        patch = image[(slice(None), *air.empty)][None].to(self.device)
        seen = tuple(
            slice(max(at.start, own.start) - at.start, min(at.stop, own.stop) - at.start)
            for at, own in zip(air.empty, inside, strict=True)
        )
        answers = (_mirrored(net, patch, self.window)[0] for net in self.nets)
        return all(air.is_background(answer[(slice(None), *seen)]) for answer in answers)

    def mean(self, image_cabc: Tensor, air: SkippedAir | None) -> Tensor | None:
        """Logits of a grid; None as soon as a network sees more than specks where there is air."""
        image, inside = padded(image_cabc, self.patch)
        total = None
        for net in self.nets:
            logits = self._one(net, image, inside, air)
            if logits is None:
                return None
            total = logits if total is None else total.add_(logits)
        if total is None or bool(total.isinf().any()):
            raise beyond_half("Check the intensities of the image.")
        if len(self.nets) > 1:
            total /= len(self.nets)
        return total[(slice(None), *inside)]

    def _one(
        self, net: nn.Module, image: Tensor, inside: Sequence[slice], air: SkippedAir | None
    ) -> Tensor | None:
        patch, size = self.patch, image.shape[1:]
        weight = _importance(self.window.patch_size).to(self.device)
        logits = torch.zeros((self.classes, *size), dtype=torch.half, device=self.device)
        starts = [
            window_starts(whole, part, self.window.step)
            for whole, part in zip(size, patch, strict=True)
        ]
        specks, scaled = 0, torch.empty(patch, device=self.device)
        # Each with the next one, before which no later window answers.
        pairs = [pairwise([*begin, whole]) for begin, whole in zip(starts, size, strict=True)]
        with lent_outputs(getattr(net, "engine", None)):  # a window is added before the next one
            for at in product(*pairs):
                where = _window([begin for begin, _ in at], patch)
                tile = image[(slice(None), *where)][None].to(self.device)
                answer = _mirrored(net, tile, self.window)[0]
                _add(logits[(slice(None), *where)], answer, weight, scaled)
                if air is None:
                    continue
                done = tuple(
                    slice(max(b, own.start), min(after, own.stop))
                    for (b, after), own in zip(at, inside, strict=True)
                )
                specks += air.specks_at_border(logits[(slice(None), *done)], done)
                if specks > air.specks_allowed:
                    return None
        count = torch.zeros(size, dtype=torch.half, device=self.device)  # after the maps are gone
        for start in product(*starts):
            count[_window(start, patch)] += weight
        return torch.div(logits, count, out=logits).cpu()


def _window(start: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(begin, begin + size) for begin, size in zip(start, patch, strict=True))


def _sides(whole: int, part: int, divisor: int, step: float) -> list[int]:
    """Of windows along an axis: the patch, and what fewer windows need."""
    found = [part]
    if part == 1:
        return found
    for count in range(1, window_count(whole, part, step)):
        least = ceil(whole / (1 + step * (count - 1)))
        side = max(part, ceil(least / divisor) * divisor)
        if side <= LONGEST * part:
            found.append(side)
    return found


def _add(sums_cabc: Tensor, answer_cabc: Tensor, weight: Tensor, scaled: Tensor) -> None:
    """Class by class, in the memory of `scaled`."""
    for sums, one in zip(sums_cabc, answer_cabc, strict=True):
        sums.add_(torch.mul(one, weight, out=scaled))


def _mirrored(net: nn.Module, patch_bcabc: Tensor, window: SlidingWindow) -> Tensor:
    """The mean answer over all mirrored views."""
    backbone = cast("Backbone", net)

    def answer(view: Tensor) -> Tensor:
        return backbone.decode(backbone.encode(view))

    total = answer(patch_bcabc)
    # Axes of a patch of slices start behind the slice itself.
    axes = [axis + 5 - len(window.patch_size) for axis in window.mirror_axes]
    views = [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]
    if not views:
        return total
    total = total.clone()  # what an engine lends, its next answer writes over
    for view in views:
        total += answer(patch_bcabc.flip(view)).flip(view)
    return total.div_(len(views) + 1)


def padded(
    image: Tensor, patch: Sequence[int], *, value: float = 0.0
) -> tuple[Tensor, tuple[slice, ...]]:
    """(C, A, B, C) as large as a patch, and where the image lies.

    Zeros on both sides, one more at the end where the number is odd.
    """
    lack = [max(0, size - own) for own, size in zip(image.shape[1:], patch, strict=True)]
    inside = tuple(
        slice(gap // 2, gap // 2 + own) for gap, own in zip(lack, image.shape[1:], strict=True)
    )
    pairs = [(gap // 2, gap - gap // 2) for gap in lack]
    flat = [number for pair in reversed(pairs) for number in pair]
    if not any(flat):
        return image, inside
    return torch.nn.functional.pad(image, flat, value=value), inside


@lru_cache(maxsize=4)
def _importance(patch_size: tuple[int, ...]) -> Tensor:
    """A Gaussian of an eighth of the patch, ten at its centre and nowhere zero."""
    impulse = np.zeros(patch_size)
    impulse[tuple(size // 2 for size in patch_size)] = 1
    weight = gaussian_filter(impulse, [size / 8 for size in patch_size], 0, mode="constant", cval=0)
    weight /= weight.max() / 10
    half = torch.from_numpy(weight).half()
    half[half == 0] = half[half != 0].min()
    return half.reshape((1,) * (3 - len(patch_size)) + patch_size)
