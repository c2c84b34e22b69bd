"""Centre-aligned resampling along the axes of a grid: the new grid covers the same extent.

Like `torch.nn.functional.interpolate(align_corners=False)`: output voxel t lies at
(t + 0.5) * old_size / new_size - 0.5 of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from medmtl.core.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ResizePlan", "plan_resize"]

ANTIALIAS_BELOW = 0.88
"""Smooth before thinning where the source spacing is below this share of the target spacing."""

_CHUNK_ELEMENTS = 2**22


@dataclass(frozen=True)
class ResizePlan:
    """Sizes along (i, j, k) before and after, and where to smooth before thinning."""

    old: tuple[int, int, int]
    new: tuple[int, int, int]
    is_antialiased: tuple[bool, bool, bool]

    def apply_geometry(self, geometry: Geometry) -> Geometry:
        """The grid after resampling: same extent, same directions."""
        scale = np.array(self.old) / np.array(self.new)
        to_old = np.diag([*scale, 1.0])
        to_old[:3, 3] = 0.5 * scale - 0.5
        return Geometry(shape=self.new, affine_lps=geometry.affine_lps @ to_old)

    def apply_in_plane(self, slab_kji: torch.Tensor) -> torch.Tensor:
        """Resample the last two axes (J, I) of whole slices, shape (K, J, I)."""
        size = (self.new[1], self.new[0])
        if tuple(slab_kji.shape[1:]) == size:
            return slab_kji
        if self.is_antialiased[0] == self.is_antialiased[1]:
            return _bilinear(slab_kji, size, is_antialiased=self.is_antialiased[0])
        rows = _bilinear(slab_kji, (self.old[1], size[1]), is_antialiased=self.is_antialiased[0])
        return _bilinear(rows, size, is_antialiased=self.is_antialiased[1])

    def apply_through_plane(self, values_kji: torch.Tensor) -> torch.Tensor:
        """Resample the first axis K, in chunks of rows."""
        old, rows, columns = values_kji.shape
        if old == self.new[2]:
            return values_kji
        out = torch.empty((self.new[2], rows, columns), dtype=values_kji.dtype)
        step = max(1, _CHUNK_ELEMENTS // (max(old, self.new[2]) * columns))
        for start in range(0, rows, step):
            part = values_kji[:, start : start + step].reshape(1, old, -1)
            done = _bilinear(
                part, (self.new[2], part.shape[2]), is_antialiased=self.is_antialiased[2]
            )
            out[:, start : start + step] = done.reshape(self.new[2], -1, columns)
        return out


def plan_resize(geometry: Geometry, spacing_mm: Sequence[float | None]) -> ResizePlan:
    """Sizes that come closest to the wanted spacing; None keeps an axis as it is."""
    new: list[int] = []
    is_antialiased: list[bool] = []
    for size, own, wanted in zip(geometry.shape, geometry.spacing_mm, spacing_mm, strict=True):
        new.append(size if wanted is None else max(1, round(size * own / wanted)))
        is_antialiased.append(wanted is not None and own < ANTIALIAS_BELOW * wanted)
    return ResizePlan(
        old=geometry.shape,
        new=(new[0], new[1], new[2]),
        is_antialiased=(is_antialiased[0], is_antialiased[1], is_antialiased[2]),
    )


def _bilinear(
    values_kji: torch.Tensor, size: tuple[int, int], *, is_antialiased: bool
) -> torch.Tensor:
    return F.interpolate(
        values_kji[None], size=size, mode="bilinear", align_corners=False, antialias=is_antialiased
    )[0]
