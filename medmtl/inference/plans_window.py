"""nnU-Net's sliding window with mirroring, in the same order and precision.

Tensors: the first C is channel or class, A B C the axes of the plans' grid. Sums are kept in half
precision, as there: the answers are to be the same to the voxel, and a tie is broken by the last
bit.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations, product
from math import ceil
from typing import TYPE_CHECKING, Annotated, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from scipy.ndimage import gaussian_filter

from medmtl.inference.torch_engine import beyond_half

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from medmtl.networks.backbones import Backbone

__all__ = ["AIR_MARGIN", "SlidingWindow", "air_box", "padded", "window_logits"]


AIR_MARGIN = 32
"""Air kept around the body: more than a network sees of its neighbourhood with any weight."""
_SURE = 10.0


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


@torch.inference_mode()
def window_logits(
    nets: Sequence[nn.Module],
    image_cabc: Tensor,
    window: SlidingWindow,
    *,
    classes: int,
    device: torch.device,
    skips_air: bool = False,
    has_background: bool = True,
) -> Tensor:
    """Mean logits (C, A, B, C) of the networks, half precision, on the CPU.

    Args:
        nets: Backbones in evaluation mode, on the device.
        image_cabc: (C, A, B, C) float32.
        window: Patch and mirroring.
        classes: Outputs of a network.
        device: Where the networks are.
        skips_air: Go over the box of the body only, and call what lies outside background, if the
            networks say so all over the faces of the box that lie in air; else over everything.
        has_background: Whether the first class is the background; else no output is.

    Raises:
        InputRefusedError: If a logit is beyond half precision.
    """
    patch = (1, *window.patch_size)[-3:]  # a network of slices takes every slice once
    if skips_air and (box := air_box(image_cabc, patch)) is not None:
        logits = window_logits(
            nets, image_cabc[(slice(None), *box)], window, classes=classes, device=device
        )
        if not _reaches_air(logits, box, image_cabc.shape[1:], has_background=has_background):
            return _in_air(logits, box, image_cabc.shape[1:], has_background=has_background)
    image, inside = padded(image_cabc, patch)
    total = None
    for net in nets:
        logits = _one(net, image, window, patch, classes=classes, device=device)
        total = logits if total is None else total.add_(logits)
    if total is None or bool(total.isinf().any()):
        raise beyond_half("Check the intensities of the image.")
    if len(nets) > 1:
        total /= len(nets)
    return total[(slice(None), *inside)]


def air_box(image_cabc: Tensor, patch: Sequence[int]) -> tuple[slice, ...] | None:
    """Box of the voxels above the smallest value of their channel; None where nothing is gained.

    It has a margin, and is as large as a patch where the image is.
    """
    inside = (image_cabc > image_cabc.amin(dim=(1, 2, 3), keepdim=True)).any(dim=0)
    box = []
    for axis, (whole, part) in enumerate(zip(inside.shape, patch, strict=True)):
        others = [other for other in range(3) if other != axis]
        found = inside.any(dim=others[1]).any(dim=others[0]).nonzero()
        if len(found) == 0:
            return None
        start, stop = int(found[0]) - AIR_MARGIN, int(found[-1]) + 1 + AIR_MARGIN
        lack = max(0, part - (min(stop, whole) - max(start, 0)))
        start = max(0, min(start, whole) - lack)
        box.append(slice(start, min(whole, max(stop, start + part))))
    is_smaller = any(p.stop - p.start < n for p, n in zip(box, inside.shape, strict=True))
    return tuple(box) if is_smaller else None


def _background(logits: Tensor, *, has_background: bool) -> Tensor:
    """Where (C, ...) says background."""
    return logits.argmax(dim=0) == 0 if has_background else (logits < 0).all(dim=0)


def _reaches_air(
    logits: Tensor, box: Sequence[slice], whole: Sequence[int], *, has_background: bool
) -> bool:
    """Whether anything but background lies on a face of the box behind which air was skipped."""
    for axis, (part, size) in enumerate(zip(box, whole, strict=True), start=1):
        faces = [0] * (part.start > 0) + [-1] * (part.stop < size)
        for face in faces:
            if not _background(logits.select(axis, face), has_background=has_background).all():
                return True
    return False


def _in_air(
    logits: Tensor, box: Sequence[slice], whole: Sequence[int], *, has_background: bool
) -> Tensor:
    """Logits of the whole grid, those of background where air was skipped."""
    out = logits.new_full((len(logits), *whole), 0.0 if has_background else -_SURE)
    if has_background:
        out[0] = _SURE
    out[(slice(None), *box)] = logits
    return out


def _one(
    net: nn.Module,
    padded: Tensor,
    window: SlidingWindow,
    patch: tuple[int, ...],
    *,
    classes: int,
    device: torch.device,
) -> Tensor:
    weight = _importance(window.patch_size).to(device)
    logits = torch.zeros((classes, *padded.shape[1:]), dtype=torch.half, device=device)
    count = torch.zeros(padded.shape[1:], dtype=torch.half, device=device)
    starts = [
        range(whole) if part == 1 else _starts(whole, part, window.step)
        for whole, part in zip(padded.shape[1:], patch, strict=True)
    ]
    for at in product(*starts):
        where = tuple(slice(begin, begin + size) for begin, size in zip(at, patch, strict=True))
        answer = _mirrored(net, padded[(slice(None), *where)][None].to(device), window)
        for sums, one in zip(logits[(slice(None), *where)], answer[0], strict=True):
            sums.add_(one * weight)  # class by class, in little memory
        count[where] += weight
    return torch.div(logits, count, out=logits).cpu()


def _mirrored(net: nn.Module, patch_bcabc: Tensor, window: SlidingWindow) -> Tensor:
    """The mean answer over all mirrored views."""
    backbone = cast("Backbone", net)

    def answer(view: Tensor) -> Tensor:
        return backbone.decode(backbone.encode(view))

    total = answer(patch_bcabc)
    # Axes of a patch of slices start behind the slice itself.
    axes = [axis + 5 - len(window.patch_size) for axis in window.mirror_axes]
    views = [some for count in range(1, len(axes) + 1) for some in combinations(axes, count)]
    for view in views:
        total += answer(patch_bcabc.flip(view)).flip(view)
    return total.div_(len(views) + 1) if views else total


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
    return torch.nn.functional.pad(image, flat, value=value), inside


def _starts(whole: int, part: int, step: float) -> list[int]:
    count = ceil((whole - part) / (part * step)) + 1
    apart = (whole - part) / (count - 1) if count > 1 else 0.0
    return [int(np.round(apart * number)) for number in range(count)]


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
