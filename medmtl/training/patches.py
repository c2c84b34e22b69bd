"""Where a patch lies in a study, and what a patch still says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from medmtl.data.samples import Sample

__all__ = [
    "PatchConfig",
    "PatchCut",
    "choose_centre",
    "crop",
    "on_foreground",
    "patch_shapes",
    "place",
    "without_diagnosis",
]

Centre = tuple[float, float, float]


class PatchConfig(BaseModel):
    """Training on patches: for masks too large to be learned whole.

    A patch says nothing of a diagnosis, which may rest on what lies outside it: its findings are
    unknown, unless the patch is the whole of every volume.

    Attributes:
        size: Voxels along (K, J, I) of the network grid; a smaller volume is taken whole.
        foreground: Share of the patches centred on a voxel of an annotated segment, each segment
            that is present equally often (nnU-Net, Isensee et al. 2021, takes a third).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[PositiveInt, PositiveInt, PositiveInt]
    foreground: float = Field(default=0.33, ge=0, le=1)


class PatchCut:
    """Cuts a patch out of every sample and changes nothing else.

    Args:
        config: Size and share of foreground.
    """

    def __init__(self, config: PatchConfig) -> None:
        self.config = config

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The patch; the same place of every volume."""
        centre, shapes = choose_centre(sample, self.config, rng), patch_shapes(sample, self.config)
        images = [crop(x, centre, patch) for x, patch in zip(sample.images, shapes, strict=True)]
        labels = [
            None if mask is None else crop(mask, centre, patch)
            for mask, patch in zip(sample.labels, shapes, strict=True)
        ]
        cut = replace(sample, images=tuple(images), labels=tuple(labels))
        is_whole = shapes == [tuple(image.shape) for image in sample.images]
        return cut if is_whole else without_diagnosis(cut)


def patch_shapes(sample: Sample, config: PatchConfig | None) -> list[tuple[int, int, int]]:
    """Size (K, J, I) of the patch of every volume; the whole volume without a config."""
    shapes = []
    for image in sample.images:
        k, j, i = image.shape
        if config is not None:
            k, j, i = (min(a, b) for a, b in zip((k, j, i), config.size, strict=True))
        shapes.append((k, j, i))
    return shapes


def choose_centre(sample: Sample, config: PatchConfig | None, rng: np.random.Generator) -> Centre:
    """Middle of the patch as a share 0..1 of each axis (K, J, I), the same for every volume."""
    if config is None:
        return (0.5, 0.5, 0.5)
    if rng.random() < config.foreground:
        masks = [labels for labels in sample.labels if labels is not None and labels.any()]
        if masks:
            return on_foreground(masks[int(rng.integers(len(masks)))], rng)
    k, j, i = rng.random(3).tolist()
    return (k, j, i)


def on_foreground(labels_kji: Tensor, rng: np.random.Generator) -> Centre:
    """The middle of a random voxel of a segment, each segment that is present equally often."""
    labels = labels_kji.numpy()
    present = np.unique(labels)
    wanted = rng.choice(present[present > 0])
    voxels = np.flatnonzero(labels == wanted)
    place = np.unravel_index(int(voxels[int(rng.integers(voxels.size))]), labels.shape)
    k, j, i = ((int(at) + 0.5) / size for at, size in zip(place, labels.shape, strict=True))
    return (k, j, i)


def place(centre: Centre, shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """First voxel along each axis of a patch that lies inside the volume."""
    return [
        int(min(max(round(share * size - part / 2), 0), size - part))
        for share, size, part in zip(centre, shape, patch, strict=True)
    ]


def crop(array_kji: Tensor, centre: Centre, patch: Sequence[int]) -> Tensor:
    """The patch itself, without interpolation."""
    starts = place(centre, array_kji.shape, patch)
    k, j, i = (slice(start, start + part) for start, part in zip(starts, patch, strict=True))
    return array_kji[k, j, i]


def without_diagnosis(sample: Sample) -> Sample:
    """The sample with every finding unknown."""
    return replace(sample, findings=torch.full_like(sample.findings, torch.nan))
