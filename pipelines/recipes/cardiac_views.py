"""What the training of `cardiac-mr` sees: augmented slices and studies of ACDC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medmtl.data.dataset import DataSource, StudyDataset
from medmtl.networks.joint import COVARIATES
from medmtl.training.augment import PlaneAugmentation, plane_grid, sample_plane, vary_intensity

from .cardiac_settings import NETWORK, PREPROCESSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medmtl.data.cases import Manifest
    from medmtl.data.samples import Sample

BATCH = 12
COVARIATE_DROPOUT = 0.2
AUGMENTATION = PlaneAugmentation()
SLICE_AUGMENTATION = replace(AUGMENTATION, patch_px=128, shift_px=14.0)


@dataclass(frozen=True, eq=False)
class StudyView:
    """One augmented study: images (K, P, P), labels (K, P, P), spacing (3,)."""

    images: list[Tensor]
    labels: list[Tensor]
    spacing_mm: Tensor
    findings: Tensor
    covariates: dict[str, Tensor]


def load_samples(manifest: Manifest, data_root: Path, cache: Path) -> list[Sample]:
    """All training patients on the network grid, from the cache where they are there."""
    source = DataSource(manifest, data_root, manifest.in_split("train"))
    studies = StudyDataset([source], network=NETWORK, preprocessing=PREPROCESSING, cache_dir=cache)
    return [studies[index] for index in range(len(studies))]


def masks_of(sample: Sample) -> tuple[Tensor, Tensor]:
    """Masks of end diastole and end systole."""
    diastole, systole = sample.labels
    if diastole is None or systole is None:
        raise ValueError(f"case {sample.case_id}: a phase has no masks.")
    return diastole, systole


def any_slice(sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
    """Phase and slice, all alike."""
    phase = int(rng.integers(2))
    return phase, int(rng.integers(sample.images[phase].shape[0]))


def slice_batches(
    samples: Sequence[Sample],
    rng: np.random.Generator,
    *,
    draw: Callable[[Sample, np.random.Generator], tuple[int, int]] = any_slice,
    augmentation: PlaneAugmentation = SLICE_AUGMENTATION,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (images (B, 3, P, P), labels (B, P, P)): slices with both neighbours."""
    while True:
        chosen = [samples[int(rng.integers(len(samples)))] for _ in range(BATCH)]
        pairs = [slice_view(sample, *draw(sample, rng), rng, augmentation) for sample in chosen]
        yield torch.stack([image for image, _ in pairs]), torch.stack([mask for _, mask in pairs])


def slice_view(
    sample: Sample, phase: int, k: int, rng: np.random.Generator, augmentation: PlaneAugmentation
) -> tuple[Tensor, Tensor]:
    """One slice of one patient with its neighbours, augmented."""
    image, labels = sample.images[phase], masks_of(sample)[phase]
    grid, _ = plane_grid(labels, augmentation, rng)
    lowest = image.min()
    stack = torch.full((3, *image.shape[1:]), float(lowest))
    for offset in (-1, 0, 1):
        is_kept = offset == 0 or rng.random() >= 0.05
        if 0 <= k + offset < image.shape[0] and is_kept:
            stack[offset + 1] = image[k + offset].float()
    if rng.random() < 0.5:  # a DICOM stack may run from apex to base, ACDC's from base to apex
        stack = stack.flip(0)
    patch, truth = sample_plane(stack, labels[k : k + 1], grid)
    return vary_intensity(patch, rng), truth[0]


def study_view(sample: Sample, rng: np.random.Generator) -> StudyView:
    """Both phases of one patient under one in-plane transform."""
    truths = masks_of(sample)
    grid, (along_j, along_i) = plane_grid(truths[0], AUGMENTATION, rng)
    images, labels = [], []
    for image, mask in zip(sample.images, truths, strict=True):
        patch, truth = sample_plane(image.float(), mask, grid)
        images.append(vary_intensity(patch, rng))
        labels.append(truth)
    covariates = sample.covariates
    if rng.random() < 0.5:  # a DICOM stack may run from apex to base, ACDC's from base to apex
        images, labels = [x.flip(0) for x in images], [x.flip(0) for x in labels]
    if rng.random() < COVARIATE_DROPOUT:
        covariates = {name: torch.full((1,), torch.nan) for name in COVARIATES}
    spacing = sample.spacing_mm[0] * torch.tensor([1.0, along_j, along_i])
    return StudyView(images, labels, spacing, sample.findings, covariates)


def study_views(samples: Sequence[Sample], rng: np.random.Generator) -> Iterator[StudyView]:
    """Endless augmented studies, every patient equally often."""
    while True:
        for index in rng.permutation(len(samples)):
            yield study_view(samples[index], rng)
