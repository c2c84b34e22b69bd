"""Augmentation of stacks of slices: one in-plane transform per study, intensities per volume.

Short-axis stacks are far too coarse across slices to be rotated out of plane. Chirality is kept
unless mirror images are asked for: the heart is never seen from its other side.
Tensors: K slices, J rows, I columns; P patch size in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PlaneAugmentation", "plane_grid", "sample_plane", "vary_intensity"]


@dataclass(frozen=True)
class PlaneAugmentation:
    """How far the in-plane transform goes.

    Attributes:
        patch_px: Side of the square patch.
        shift_px: Largest offset of the patch from the heart's centre.
        anywhere: Share of patches placed anywhere in the image, so that the network knows what
            is not a heart.
        angle_rad: Standard deviation of the rotation.
        any_angle: Share of patches rotated by any angle.
        log_scale: Largest logarithm of the scale.
        log_stretch: Largest logarithm of the stretch of one axis against the other.
        elastic: Share of patches with a smooth deformation.
        mirrored: Share of patches seen in a mirror.
    """

    patch_px: int = 144
    shift_px: float = 20.0
    anywhere: float = 0.1
    angle_rad: float = 0.25
    any_angle: float = 0.15
    log_scale: float = 0.22
    log_stretch: float = 0.08
    elastic: float = 0.15
    mirrored: float = 0.0


def plane_grid(
    labels_kji: Tensor, options: PlaneAugmentation, rng: np.random.Generator
) -> tuple[Tensor, tuple[float, float]]:
    """Where the patch is sampled, and how large its pixels are.

    Returns:
        Pixel coordinates (P, P, 2) as (i, j), and the size of a patch pixel along (J, I) in source
        pixels: volumes in mL must be those of the patient, whatever the patch was scaled by.
    """
    rows, columns = labels_kji.shape[1:]
    heart = (labels_kji > 0).any(dim=0).nonzero()
    if len(heart) and rng.random() >= options.anywhere:
        middle = (heart.amin(dim=0) + heart.amax(dim=0)) / 2
        centre_j, centre_i = middle.tolist()
        centre_j += rng.uniform(-options.shift_px, options.shift_px)
        centre_i += rng.uniform(-options.shift_px, options.shift_px)
    else:
        centre_j, centre_i = rng.uniform(0, rows), rng.uniform(0, columns)
    angle = rng.normal(0, options.angle_rad)
    if rng.random() < options.any_angle:
        angle = rng.uniform(-math.pi, math.pi)
    scale = math.exp(rng.uniform(-options.log_scale, options.log_scale))
    stretch = math.exp(rng.uniform(-options.log_stretch, options.log_stretch))
    cos, sin = math.cos(angle) * scale, math.sin(angle) * scale
    matrix = torch.tensor([[cos * stretch, -sin / stretch], [sin * stretch, cos / stretch]])
    offset = torch.arange(options.patch_px) - (options.patch_px - 1) / 2
    grid = torch.stack(torch.meshgrid(offset, offset, indexing="xy"), dim=-1) @ matrix.T
    if rng.random() < options.elastic:
        nodes = torch.from_numpy(rng.standard_normal((1, 2, 5, 5), dtype="float32"))
        size = (options.patch_px, options.patch_px)
        field = nn.functional.interpolate(nodes * rng.uniform(0, 4), size=size, mode="bicubic")
        grid = grid + field[0].permute(1, 2, 0)
    if options.mirrored and rng.random() < options.mirrored:
        grid = grid.flip(1)
    return grid + torch.tensor([centre_i, centre_j]), (scale / stretch, scale * stretch)


def sample_plane(image_kji: Tensor, labels_kji: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Image (K, P, P), linear, and labels (K, P, P), nearest; outside is the image's minimum."""
    rows, columns = image_kji.shape[1:]
    unit = ((grid + 0.5) * 2 / torch.tensor([columns, rows]) - 1)[None].float()
    lowest = image_kji.min()
    sample = nn.functional.grid_sample
    image = sample((image_kji - lowest)[None], unit, align_corners=False)[0] + lowest
    labels = sample(labels_kji[None].float(), unit, mode="nearest", align_corners=False)[0]
    return image, labels.long()


def vary_intensity(image_kji: Tensor, rng: np.random.Generator) -> Tensor:
    """Contrast, brightness, gamma, bias field, lower resolution and noise, each sometimes."""
    image = image_kji
    size = (image.shape[1], image.shape[2])
    resize = nn.functional.interpolate
    if rng.random() < 0.5:
        image = image * rng.uniform(0.7, 1.35) + rng.uniform(-0.3, 0.3)
    if rng.random() < 0.4:
        low, high = image.min(), image.max()
        unit = (image - low) / (high - low + 1e-6)
        image = unit.pow(math.exp(rng.uniform(-0.5, 0.5))) * (high - low) + low
    if rng.random() < 0.1:
        nodes = torch.from_numpy(rng.standard_normal((1, 1, 3, 3), dtype="float32")) * 0.25
        image = image * torch.exp(resize(nodes, size=size, mode="bicubic")[0])
    if rng.random() < 0.1:
        small = resize(image[None], scale_factor=rng.uniform(0.5, 1.0), mode="bilinear")
        image = resize(small, size=size, mode="bilinear")[0]
    if rng.random() < 0.3:
        noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype="float32"))
        image = image + noise * rng.uniform(0, 0.2)
    return image
