"""Augmentation of short-axis studies: in-plane patches around the heart, all slices kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt

from medmtl.training.augment import PlaneAugmentation, plane_grid, sample_plane, vary_intensity
from medmtl.training.patches import without_diagnosis

if TYPE_CHECKING:
    from torch import Tensor

    from medmtl.data.samples import Sample

__all__ = ["PlanarAugment", "PlanarMR"]


class PlanarMR(BaseModel):
    """Stacks of thick slices: one in-plane transform per study, intensities per volume.

    Attributes:
        patch_px: Side of the square patch, in pixels of the network grid.
        shift_px: Largest offset of the patch from the middle of the masks; without masks, from the
            middle of the image.
        anywhere: Share of the patches placed anywhere; their findings are unknown.
        angle_rad: Standard deviation of the rotation.
        any_angle: Share of patches rotated by any angle.
        log_scale: Largest logarithm of the scale; the spacing follows, so volumes stay true.
        log_stretch: Largest logarithm of the stretch of one axis against the other.
        elastic: Share of patches with a smooth deformation.
        reverse_slices: Share of the samples with the slices in reverse order. That is a mirror
            image, so 0 unless stacks of both directions occur and nothing named has a side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["planar_mr"] = "planar_mr"
    patch_px: PositiveInt = 144
    shift_px: NonNegativeFloat = 20.0
    anywhere: float = Field(default=0.1, ge=0, le=1)
    angle_rad: NonNegativeFloat = 0.25
    any_angle: float = Field(default=0.15, ge=0, le=1)
    log_scale: NonNegativeFloat = 0.22
    log_stretch: NonNegativeFloat = 0.08
    elastic: float = Field(default=0.15, ge=0, le=1)
    reverse_slices: float = Field(default=0.0, ge=0, le=1)


class PlanarAugment:
    """Applies the settings to samples.

    Args:
        settings: How far the changes go.
    """

    def __init__(self, settings: PlanarMR) -> None:
        self.settings = settings

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; every volume of the study is cut, turned and scaled alike."""
        settings = self.settings
        is_anywhere = bool(rng.random() < settings.anywhere)
        options = PlaneAugmentation(
            **settings.model_dump(exclude={"name", "anywhere", "reverse_slices"}),
            anywhere=float(is_anywhere),
        )
        seed = int(rng.integers(2**63))
        is_reversed = bool(rng.random() < settings.reverse_slices)
        images, labels, spacings = [], [], []
        for number, image in enumerate(sample.images):
            # The same seed for each: volumes on one grid get one and the same transform.
            guide = _guide(sample, number)
            grid, (along_j, along_i) = plane_grid(guide, options, np.random.default_rng(seed))
            mask = sample.labels[number]
            patch, truth = sample_plane(image.float(), guide if mask is None else mask, grid)
            order = [0] if is_reversed else []
            images.append(vary_intensity(patch, rng).flip(order))
            labels.append(None if mask is None else truth.byte().flip(order))
            spacings.append(sample.spacing_mm[number] * torch.tensor([1.0, along_j, along_i]))
        changed = replace(
            sample,
            images=tuple(images),
            labels=tuple(labels),
            spacing_mm=torch.stack(spacings),
        )
        return without_diagnosis(changed) if is_anywhere else changed


def _guide(sample: Sample, number: int) -> Tensor:
    """The label map that places the patch: the first on this grid that shows anything."""
    shape = sample.images[number].shape
    for labels in sample.labels:
        if labels is not None and labels.shape[1:] == shape[1:] and labels.any():
            return labels
    middle = torch.zeros(tuple(shape), dtype=torch.uint8)
    middle[0, shape[1] // 2, shape[2] // 2] = 1
    return middle
