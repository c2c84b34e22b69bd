"""Rotating, scaling and cutting a volume in millimetres, with its labels and its spacing.

MONAI's RandAffine turns in voxels: with slices 8 mm thick and pixels of 1.5 mm that shears the
patient. It also does not say what a voxel measures afterwards, and volumes in mL must be those of
the patient, whatever the image was scaled by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medmtl.training.patches import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

__all__ = ["SpaceChange", "draw_change", "resample_volume"]

ANISOTROPY = 3.0
"""Voxels longer than this many times their width are neither turned nor scaled along that axis
(the threshold of nnU-Net, Isensee et al. 2021)."""

_SLAB_VOXELS = 2**21


@dataclass(frozen=True)
class SpaceChange:
    """One random change, the same for every volume of a study.

    Attributes:
        angles_rad: Turn about the axes (K, J, I).
        scale: Size of a new voxel in old voxels; above 1 the patient becomes smaller.
    """

    angles_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0


def draw_change(rng: np.random.Generator, *, angle_rad: float, log_scale: float) -> SpaceChange:
    """Uniform angles and a log-uniform scale."""
    a, b, c = rng.uniform(-angle_rad, angle_rad, size=3).tolist()
    return SpaceChange((a, b, c), math.exp(rng.uniform(-log_scale, log_scale)))


def resample_volume(
    image_kji: Tensor,
    labels_kji: Tensor | None,
    spacing_mm: Tensor,
    change: SpaceChange,
    *,
    centre: tuple[float, float, float],
    patch: Sequence[int],
) -> tuple[Tensor, Tensor | None, Tensor]:
    """A patch of the turned and scaled volume.

    Args:
        image_kji: (K, J, I) float, sampled linearly; outside is the image's minimum.
        labels_kji: (K, J, I) uint8, sampled nearest; outside is background. None for none.
        spacing_mm: (3,) along (K, J, I).
        change: What to do, about the middle of the patch.
        centre: Middle of the patch as a share of each axis.
        patch: Size (K, J, I) of the answer.

    Returns:
        Image, labels, and the spacing (3,) of the answer.
    """
    scales, turn = _for_spacing(change, spacing_mm)
    starts = torch.tensor(place(centre, image_kji.shape, patch), dtype=torch.float32)
    middle = starts + (torch.tensor([float(size) for size in patch]) - 1) / 2
    mm = spacing_mm.float()
    # Index of a new voxel from the middle, to mm, turned, to an index of the old volume.
    matrix = torch.diag(1 / mm) @ turn @ torch.diag(mm * scales)
    lowest = image_kji.min()
    shifted = (image_kji.float() - lowest.float())[None, None]
    masks = None if labels_kji is None else labels_kji.float()[None, None]
    images, labels = [], []
    for grid in _grids(image_kji.shape, middle, matrix, patch):
        sample = nn.functional.grid_sample
        images.append(sample(shifted, grid, align_corners=False)[0, 0] + lowest)
        if masks is not None:
            labels.append(sample(masks, grid, mode="nearest", align_corners=False)[0, 0].byte())
    return torch.cat(images), torch.cat(labels) if labels else None, spacing_mm * scales


def _for_spacing(change: SpaceChange, spacing_mm: Tensor) -> tuple[Tensor, Tensor]:
    """Scale of each axis (3,) and rotation (3, 3) along (K, J, I), in mm."""
    scales = torch.full((3,), change.scale)
    angles = list(change.angles_rad)
    coarse = int(spacing_mm.argmax())
    if float(spacing_mm.max() / spacing_mm.min()) > ANISOTROPY:
        scales[coarse] = 1.0
        angles = [angle if axis == coarse else 0.0 for axis, angle in enumerate(angles)]
    turn = torch.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        step = torch.eye(3)
        step[first, first] = step[second, second] = math.cos(angle)
        step[first, second], step[second, first] = -math.sin(angle), math.sin(angle)
        turn = turn @ step
    return scales, turn


def _grids(
    shape: Sequence[int], middle: Tensor, matrix: Tensor, patch: Sequence[int]
) -> Iterator[Tensor]:
    """Sampling grids (1, k, J, I, 3) for slabs of the patch, in the units of `grid_sample`."""
    k, j, i = patch
    half = (torch.tensor([float(size) for size in patch]) - 1) / 2
    sizes = torch.tensor([float(size) for size in shape])
    step = max(1, _SLAB_VOXELS // (j * i))
    for start in range(0, k, step):
        axes = [torch.arange(start, min(start + step, k)), torch.arange(j), torch.arange(i)]
        index = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).float()
        source = (index - half) @ matrix.T + middle
        yield ((source + 0.5) * 2 / sizes - 1).flip(-1)[None]  # grid_sample counts I first
