"""Augmentation of whole volumes and patches of CT and MR.

The intensity steps and their ranges follow nnU-Net (Isensee et al., Nature Methods 18, 2021,
supplement), but for CT, whose Hounsfield units are calibrated and move little. No elastic
deformation: nnU-Net gave it up, and it changes volumes. No mirror images unless asked for: a liver
on the left is another diagnosis, and left and right organs would change their names.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from medmtl.training.patches import choose_centre, crop, patch_shapes, without_diagnosis
from medmtl.training.space import SpaceChange, draw_change, resample_volume

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from medmtl.data.samples import Sample
    from medmtl.training.patches import PatchConfig

__all__ = ["VolumeAugment", "VolumeCT", "VolumeMR"]

_AXES = {"k": 0, "j": 1, "i": 2}


class _VolumeSettings(BaseModel):
    """What CT and MR have in common.

    Attributes:
        space: Share of the samples that are turned and scaled.
        angle_rad: Largest turn about each axis; only in the plane of thick slices.
        log_scale: Largest logarithm of the scale; the spacing follows, so volumes stay true.
        flips: Axes of the network grid that are mirrored in half of the samples. Empty, since most
            anatomy has sides; name an axis only where no segment and no finding does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: float = Field(default=0.5, ge=0, le=1)
    angle_rad: NonNegativeFloat = 0.26
    log_scale: NonNegativeFloat = 0.2
    flips: tuple[Literal["k", "j", "i"], ...] = ()


class VolumeCT(_VolumeSettings):
    """CT after `window_hu`: values in -1..1, and they stay there.

    Attributes:
        noise: Largest standard deviation of the noise, where 2 is the whole window.
        brightness: Largest shift.
        contrast: Largest relative change of the range.
    """

    name: Literal["volume_ct"] = "volume_ct"
    noise: NonNegativeFloat = 0.1
    brightness: NonNegativeFloat = 0.05
    contrast: NonNegativeFloat = 0.1

    def intensity(self) -> list[Any]:
        """The MONAI transforms, on (1, K, J, I)."""
        return [
            RandGaussianNoise(prob=0.15, std=self.noise),
            RandGaussianSmooth((0.25, 1.0), (0.25, 1.0), (0.25, 1.0), prob=0.1),
            RandScaleIntensity(factors=self.contrast, prob=0.15),
            RandShiftIntensity(offsets=self.brightness, prob=0.15),
            RandSimulateLowResolution(prob=0.15, zoom_range=(0.5, 1.0)),
        ]

    def limits(self, image: Tensor) -> Tensor:
        """Clipped to the window, as the preprocessing leaves it."""
        return image.clamp(-1.0, 1.0)


class VolumeMR(_VolumeSettings):
    """MR after `robust_z_score`: units of one standard deviation, arbitrary contrast.

    Attributes:
        noise: Largest standard deviation of the noise.
        brightness: Largest shift.
        contrast: Largest relative change of the range.
        gamma: Range of the gamma curve.
        bias: Largest coefficient of the smooth gain field (coils are nearer to some voxels).
    """

    name: Literal["volume_mr"] = "volume_mr"
    noise: NonNegativeFloat = 0.2
    brightness: NonNegativeFloat = 0.3
    contrast: NonNegativeFloat = 0.3
    gamma: tuple[NonNegativeFloat, NonNegativeFloat] = (0.7, 1.5)
    bias: NonNegativeFloat = 0.2

    def intensity(self) -> list[Any]:
        """The MONAI transforms, on (1, K, J, I)."""
        return [
            RandGaussianNoise(prob=0.15, std=self.noise),
            RandGaussianSmooth((0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.2),
            RandScaleIntensity(factors=self.contrast, prob=0.3),
            RandShiftIntensity(offsets=self.brightness, prob=0.3),
            RandBiasField(degree=3, coeff_range=(0.0, self.bias), prob=0.15),
            RandSimulateLowResolution(prob=0.25, zoom_range=(0.5, 1.0)),
            RandAdjustContrast(prob=0.3, gamma=self.gamma),
        ]

    def limits(self, image: Tensor) -> Tensor:
        """MR has no limits."""
        return image


class VolumeAugment:
    """Applies the settings to samples, whole or as patches.

    Args:
        settings: Of the modality.
        patch: Patches instead of whole volumes; their findings are unknown.
    """

    def __init__(self, settings: VolumeCT | VolumeMR, patch: PatchConfig | None = None) -> None:
        self.settings, self.patch = settings, patch

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The changed sample; every volume of the study is turned and scaled alike."""
        settings = self.settings
        centre = choose_centre(sample, self.patch, rng)
        shapes = patch_shapes(sample, self.patch)
        is_whole = shapes == [tuple(image.shape) for image in sample.images]
        change = SpaceChange()
        if rng.random() < settings.space:
            change = draw_change(rng, angle_rad=settings.angle_rad, log_scale=settings.log_scale)
        flips = [_AXES[axis] for axis in settings.flips if rng.random() < 0.5]
        images, labels, spacings = [], [], []
        for number, patch in enumerate(shapes):
            image, mask, mm = _cut(sample, number, change, centre=centre, patch=patch)
            images.append(self._vary(image, rng).flip(flips))
            labels.append(None if mask is None else mask.flip(flips))
            spacings.append(mm)
        changed = replace(
            sample,
            images=tuple(images),
            labels=tuple(labels),
            spacing_mm=torch.stack(spacings),
        )
        return changed if is_whole else without_diagnosis(changed)

    @cached_property
    def _intensity(self) -> Compose:
        return Compose(self.settings.intensity())

    def _vary(self, image_kji: Tensor, rng: np.random.Generator) -> Tensor:
        self._intensity.set_random_state(seed=int(rng.integers(2**32)))
        varied = self._intensity(image_kji.float()[None])
        return self.settings.limits(torch.as_tensor(varied.as_tensor())[0])


def _cut(
    sample: Sample,
    number: int,
    change: SpaceChange,
    *,
    centre: tuple[float, float, float],
    patch: tuple[int, int, int],
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Image, labels and spacing of one volume's patch; untouched voxels where nothing changes."""
    image, labels, mm = sample.images[number], sample.labels[number], sample.spacing_mm[number]
    if change != SpaceChange():
        return resample_volume(image, labels, mm, change, centre=centre, patch=patch)
    mask = None if labels is None else crop(labels, centre, patch)
    return crop(image, centre, patch), mask, mm
