"""The air around a body, which windows may leave out, and how the networks are held to that.

What is left out is called background. The networks must say so themselves: of a window that holds
nothing but air, if any does, and all over the border of the box behind which air was left out. Few
networks are sure of every voxel of air, so one in a thousand may be called something else there.
Tensors: the first C is channel or class, A B C the axes of the plans' grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["AIR_MARGIN", "LEAST_MARGIN", "SHELL", "SkippedAir", "window_count", "window_starts"]

AIR_MARGIN = 32
"""Air kept around the body: more than a network sees of its neighbourhood with any weight."""
LEAST_MARGIN = 16
"""Where more of it would need another row of windows."""
SHELL = 8
"""So thick the border of the box must be background where air is left out; it lies in air."""
SPECKS = 0.001
"""So much of the border, or of a window of air, may be called something else: mistakes in air."""
_SURE = 10.0


@dataclass(frozen=True)
class SkippedAir:
    """What is left out of a grid.

    Attributes:
        box: What the windows go over.
        whole: Shape of the grid.
        empty: A place of the first window with nothing but air, were they to go over everything;
            None if there is none.
        has_background: Whether the first class is the background; else no output is.
    """

    box: tuple[slice, ...]
    whole: tuple[int, ...]
    empty: tuple[slice, ...] | None
    has_background: bool = True

    @classmethod
    def of(
        cls,
        image_cabc: Tensor,
        patch: Sequence[int],
        *,
        step: float,
        air: Sequence[float],
        has_background: bool = True,
    ) -> SkippedAir | None:
        """The box of the voxels that are no air, with a margin.

        Air is what has the smallest value of its channel, and what lies below `air`: a scanner's
        air is noisy where a wide window shows it.

        None where that saves no window. A box is as large as a patch where the image is.

        Args:
            image_cabc: As the networks see it.
            patch: Of a window.
            step: Distance of two windows as a share of the patch.
            air: The largest value of air of each channel; minus infinity where it is not known.
            has_background: See the class.
        """
        largest = image_cabc.new_tensor(air)[:, None, None, None]
        smallest = image_cabc.amin(dim=(1, 2, 3), keepdim=True)
        is_content = (image_cabc > smallest.maximum(largest)).any(dim=0)
        whole = tuple(is_content.shape)
        body = _box_of(is_content)
        if body is None:
            return None
        box = tuple(map(_with_margin, body, whole, patch, [step] * 3))
        size = [part.stop - part.start for part in box]
        if _windows(size, patch, step) >= _windows(whole, patch, step):
            return None
        return cls(box, whole, _beside(body, whole, patch, step), has_background)

    @property
    def size(self) -> tuple[int, ...]:
        """Of the box."""
        return tuple(part.stop - part.start for part in self.box)

    def grown(self, least: Sequence[int]) -> SkippedAir:
        """With a box at least so large, where the grid is."""
        return replace(self, box=tuple(map(_grown, self.box, self.whole, least)))

    def is_background(self, logits: Tensor) -> bool:
        """Whether (C, ...) says background, but for specks."""
        return self._specks(logits) <= SPECKS * logits[0].numel()

    @property
    def specks_allowed(self) -> float:
        """So many voxels at the border of the box may be called something else."""
        border = 0
        for part, own, whole in zip(self.box, self.size, self.whole, strict=True):
            faces = (part.start > 0) + (part.stop < whole)
            border += faces * SHELL * prod(self.size) // own
        return SPECKS * border

    def specks_at_border(self, logits: Tensor, cell: Sequence[slice]) -> int:
        """How many voxels of a part of the box are called something near air that is left out.

        Args:
            logits: Of the part, or what is in proportion to them.
            cell: Where in the box it lies.
        """
        found = 0
        for axis, (at, part, size) in enumerate(zip(cell, self.box, self.whole, strict=True)):
            length = part.stop - part.start
            before = slice(0, max(0, SHELL - at.start))
            behind = slice(max(0, length - SHELL - at.start), None)
            for shell in [before] * (part.start > 0) + [behind] * (part.stop < size):
                place = [slice(None)] * 3
                place[axis] = shell
                found += self._specks(logits[(slice(None), *place)])
        return found

    def _specks(self, logits: Tensor) -> int:
        found = logits.argmax(dim=0) > 0 if self.has_background else (logits >= 0).any(dim=0)
        return int(found.sum())

    def around(self, logits: Tensor) -> Tensor:
        """Logits of the whole grid, those of background where air was left out."""
        out = logits.new_full((len(logits), *self.whole), 0.0 if self.has_background else -_SURE)
        if self.has_background:
            out[0] = _SURE
        out[(slice(None), *self.box)] = logits
        return out


def window_starts(whole: int, part: int, step: float) -> list[int]:
    """Where windows begin along an axis, as nnU-Net spreads them; a slice begins everywhere."""
    if part == 1:
        return list(range(whole))
    count = window_count(whole, part, step)
    apart = (whole - part) / (count - 1) if count > 1 else 0.0
    return [int(np.round(apart * number)) for number in range(count)]


def window_count(whole: int, part: int, step: float) -> int:
    """How many windows nnU-Net lays along an axis."""
    return whole if part == 1 else ceil(max(0, whole - part) / (part * step)) + 1


def _windows(size: Sequence[int], patch: Sequence[int], step: float) -> int:
    return prod(window_count(whole, part, step) for whole, part in zip(size, patch, strict=True))


def _box_of(is_content: Tensor) -> tuple[slice, ...] | None:
    box = []
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        found = is_content.any(dim=others[1]).any(dim=others[0]).nonzero()
        if len(found) == 0:
            return None
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)


def _with_margin(body: slice, whole: int, patch: int, step: float) -> slice:
    """`AIR_MARGIN` on both sides, less if that saves windows, never less than `LEAST_MARGIN`."""
    wide, least = (
        min(whole, body.stop + margin) - max(0, body.start - margin)
        for margin in (AIR_MARGIN, LEAST_MARGIN)
    )
    reach = patch + int((window_count(least, patch, step) - 1) * patch * step)  # of as few windows
    return _grown(body, whole, max(patch, min(wide, max(least, reach))))


def _grown(part: slice, whole: int, least: int) -> slice:
    """At least so long, by as much on both sides as there is."""
    size = min(whole, max(least, part.stop - part.start))
    start = part.start - (size - (part.stop - part.start)) // 2
    start = max(0, min(start, whole - size))
    return slice(start, start + size)


def _beside(
    body: Sequence[slice], whole: Sequence[int], patch: Sequence[int], step: float
) -> tuple[slice, ...] | None:
    """A window of the whole grid that holds nothing of the body."""
    for axis, (part, size, own) in enumerate(zip(body, whole, patch, strict=True)):
        if size <= own:
            continue
        starts = window_starts(size, own, step)
        found = [at for at in (starts[0], starts[-1]) if at + own <= part.start or at >= part.stop]
        if found:
            place = [slice(0, one) for one in patch]
            place[axis] = slice(found[0], found[0] + own)
            return tuple(place)
    return None
