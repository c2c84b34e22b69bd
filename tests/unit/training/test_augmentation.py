"""Augmentation: the patient's millilitres stay, labels stay labels, a seed is a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from medmtl.core.errors import ConfigError
from medmtl.data.samples import Sample, collate
from medmtl.networks.joint import COVARIATES
from medmtl.training.augmentation import (
    AugmentationConfig,
    NoAugmentation,
    PatchConfig,
    PlanarMR,
    VolumeCT,
    VolumeMR,
    build_augmentation,
)
from medmtl.training.space import SpaceChange, resample_volume

SETTINGS = {"planar_mr": PlanarMR(), "volume_ct": VolumeCT(), "volume_mr": VolumeMR()}
ISOTROPIC, THICK = (2.0, 2.0, 2.0), (8.0, 1.5, 1.5)


def _ball(shape: tuple[int, int, int], spacing_mm: tuple[float, ...], radius_mm: float) -> Tensor:
    """A ball of label 2 within a ball of label 1, in the middle."""
    axes = [(torch.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    k, j, i = torch.meshgrid(*axes, indexing="ij")
    distance = (k**2 + j**2 + i**2).sqrt()
    return ((distance < radius_mm).byte() + (distance < radius_mm / 2).byte()).byte()


def make_sample(
    *,
    shape: tuple[int, int, int] = (40, 48, 44),
    spacing_mm: tuple[float, ...] = ISOTROPIC,
    radius_mm: float = 26.0,
    volumes: int = 1,
) -> Sample:
    labels = _ball(shape, spacing_mm, radius_mm)
    image = labels.float() / 2 + 0.02 * torch.randn(shape, generator=torch.manual_seed(0)) - 0.5
    return Sample(
        case_id="a",
        dataset="made",
        images=(image.half(),) * volumes,
        labels=(labels,) * volumes,
        is_annotated=torch.ones(volumes, 2, dtype=torch.bool),
        findings=torch.tensor([1.0, torch.nan]),
        covariates={name: torch.tensor([50.0]) for name in COVARIATES},
        spacing_mm=torch.tensor([spacing_mm] * volumes),
    )


def _ml(sample: Sample, label: int, volume: int = 0) -> float:
    labels = sample.labels[volume]
    assert labels is not None
    return float((labels == label).sum() * sample.spacing_mm[volume].prod() / 1000)


def _augmented(
    name: str, sample: Sample, seed: int, *, patch: PatchConfig | None = None, **changes: object
) -> Sample:
    settings = SETTINGS[name].model_copy(update=changes)
    augment = build_augmentation(settings, patch=patch)  # type: ignore[arg-type]
    assert augment is not None
    return augment(sample, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["volume_ct", "volume_mr"])
@pytest.mark.parametrize("spacing_mm", [ISOTROPIC, THICK])
def test_volumes_in_ml_stay_those_of_the_patient(name: str, spacing_mm: tuple[float, ...]) -> None:
    shape = (40, 48, 44) if spacing_mm == ISOTROPIC else (12, 64, 60)
    radius_mm = 26.0 if spacing_mm == ISOTROPIC else 36.0
    sample = make_sample(shape=shape, spacing_mm=spacing_mm, radius_mm=radius_mm)
    views = [_augmented(name, sample, seed, space=1.0) for seed in range(10)]
    assert len({float(view.spacing_mm.prod()) for view in views}) == 10  # every seed scaled
    for label in (1, 2):
        ratios = [_ml(view, label) / _ml(sample, label) for view in views]
        assert np.mean(ratios) == pytest.approx(1, abs=0.015)
        assert np.abs(np.array(ratios) - 1).max() < 0.08  # the nearest voxel is half a voxel off


def test_planar_patches_keep_the_ml_too() -> None:
    sample = make_sample(shape=(10, 90, 80), spacing_mm=THICK, volumes=2)
    for seed in range(6):
        changed = _augmented("planar_mr", sample, seed, anywhere=0.0, elastic=0.0, patch_px=96)
        assert changed.images[0].shape == (10, 96, 96)
        for volume in range(2):
            assert _ml(changed, 1, volume) == pytest.approx(_ml(sample, 1), rel=0.04)


@pytest.mark.parametrize("name", SETTINGS)
def test_labels_stay_labels_on_the_grid_of_the_image(name: str) -> None:
    sample = make_sample(volumes=2)
    for seed in range(4):
        changed = _augmented(name, sample, seed)
        for image, labels in zip(changed.images, changed.labels, strict=True):
            assert labels is not None
            assert labels.dtype == torch.uint8
            assert set(labels.flatten().tolist()) <= {0, 1, 2}
            assert labels.shape == image.shape
            assert torch.isfinite(image).all()
        assert collate([changed], divisor=(1, 1, 1)).images[0].dtype == torch.float32


@pytest.mark.parametrize("name", SETTINGS)
def test_a_seed_is_a_seed(name: str) -> None:
    sample = make_sample()
    one, two, other = (_augmented(name, sample, seed) for seed in (1, 1, 2))
    assert torch.equal(one.images[0], two.images[0])
    assert torch.equal(one.spacing_mm, two.spacing_mm)
    assert one.labels[0] is not None
    assert two.labels[0] is not None
    assert torch.equal(one.labels[0], two.labels[0])
    assert one.images[0].shape != other.images[0].shape or not torch.equal(
        one.images[0], other.images[0]
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_the_sample_itself_is_left_alone(name: str) -> None:
    sample, untouched = make_sample(), make_sample()
    for seed in range(3):
        _augmented(name, sample, seed)
    assert torch.equal(sample.images[0], untouched.images[0])
    assert sample.labels[0] is not None
    assert torch.equal(sample.labels[0], untouched.labels[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SETTINGS)
def test_volumes_of_a_study_are_turned_alike(name: str) -> None:
    changed = _augmented(name, make_sample(volumes=2), 3)
    assert torch.equal(changed.labels[0], changed.labels[1])  # type: ignore[arg-type]
    assert torch.equal(changed.spacing_mm[0], changed.spacing_mm[1])


def _sided() -> Sample:
    """Label 1 on one side of every axis, label 2 on the other."""
    labels = torch.zeros(24, 24, 24, dtype=torch.uint8)
    labels[4:8, 4:8, 4:8], labels[16:20, 16:20, 16:20] = 1, 2
    return replace(make_sample(shape=(24, 24, 24)), images=(labels.half(),), labels=(labels,))


def _order(sample: Sample) -> list[bool]:
    """Whether label 1 comes before label 2 along each axis."""
    assert sample.labels[0] is not None
    one, two = ((sample.labels[0] == label).nonzero().float().mean(dim=0) for label in (1, 2))
    return (one < two).tolist()


@pytest.mark.parametrize("name", SETTINGS)
def test_no_side_is_swapped_unless_asked_for(name: str) -> None:
    small: dict[str, Any] = {"any_angle": 0.0, "angle_rad": 0.1}
    limits = small if name == "planar_mr" else {}
    for seed in range(12):
        changed = _augmented(name, _sided(), seed, **limits)
        if 1 in changed.labels[0] and 2 in changed.labels[0]:  # type: ignore[operator]
            assert _order(changed) == [True, True, True]


def test_an_axis_asked_for_is_mirrored_in_half_of_the_samples() -> None:
    seen = [
        _order(_augmented("volume_ct", _sided(), seed, flips=("i",), space=0.0))
        for seed in range(40)
    ]
    assert all(order[:2] == [True, True] for order in seen)
    assert 10 <= sum(order[2] for order in seen) <= 30


def test_ct_stays_in_its_window() -> None:
    sample = replace(make_sample(), images=(torch.rand(20, 20, 20) * 2 - 1,), labels=(None,))
    for seed in range(8):
        changed = _augmented("volume_ct", sample, seed)
        assert float(changed.images[0].min()) >= -1
        assert float(changed.images[0].max()) <= 1


def test_thick_slices_are_never_mixed() -> None:
    """Turned within their plane: what slice 3 shows, slice 3 shows afterwards."""
    labels = torch.zeros(8, 40, 40, dtype=torch.uint8)
    labels[3, 10:30, 10:30] = 1
    change = SpaceChange(angles_rad=(0.3, 0.3, 0.3), scale=1.2)
    _, turned, mm = resample_volume(
        labels.float(), labels, torch.tensor(THICK), change, centre=(0.5,) * 3, patch=(8, 40, 40)
    )
    assert turned is not None
    assert turned.flatten(1).any(dim=1).nonzero().flatten().tolist() == [3]
    assert mm.tolist() == pytest.approx([8.0, 1.8, 1.8])


def test_a_turn_in_mm_keeps_distances() -> None:
    """A quarter turn about K of voxels 1 by 2 mm: 20 mm along J become 20 mm along I."""
    labels = torch.zeros(3, 31, 61, dtype=torch.uint8)
    labels[:, 15, 20:41] = 1  # 21 voxels of 1 mm along I
    change = SpaceChange(angles_rad=(float(np.pi / 2), 0.0, 0.0))
    _, turned, _ = resample_volume(
        labels.float(), labels, torch.tensor([1.0, 2.0, 1.0]), change, centre=(0.5,) * 3,
        patch=(3, 31, 61),
    )  # fmt: skip
    assert turned is not None
    rows, columns = turned[1].nonzero().unbind(dim=1)
    assert int(rows.max() - rows.min() + 1) * 2 == pytest.approx(21, abs=2)
    assert columns.unique().numel() <= 2  # type: ignore[no-untyped-call]


PATCH = PatchConfig(size=(16, 20, 24), foreground=0.5)


@pytest.mark.parametrize("name", ["volume_ct", "volume_mr", "none"])
def test_a_patch_has_its_size_and_knows_no_diagnosis(name: str) -> None:
    settings = NoAugmentation() if name == "none" else SETTINGS[name]
    augment = build_augmentation(settings, patch=PATCH)  # type: ignore[arg-type]
    assert augment is not None
    for seed in range(4):
        changed = augment(make_sample(volumes=2), np.random.default_rng(seed))
        assert [tuple(image.shape) for image in changed.images] == [PATCH.size] * 2
        assert changed.findings.isnan().all()
        assert changed.is_annotated.all()


def test_a_patch_that_is_the_whole_keeps_the_diagnosis() -> None:
    changed = _augmented("volume_ct", make_sample(), 0, patch=PatchConfig(size=(64, 64, 64)))
    assert changed.images[0].shape == (40, 48, 44)
    assert changed.findings[0] == 1


def test_a_planar_patch_anywhere_knows_no_diagnosis() -> None:
    sample = make_sample(shape=(6, 60, 60), spacing_mm=THICK)
    assert _augmented("planar_mr", sample, 0, anywhere=1.0).findings.isnan().all()
    assert _augmented("planar_mr", sample, 0, anywhere=0.0).findings[0] == 1


def test_rare_foreground_is_found_where_asked_for() -> None:
    labels = torch.zeros(64, 64, 64, dtype=torch.uint8)
    labels[5, 60, 7] = 2
    labels[30:50, 30:50, 30:50] = 1
    sample = replace(make_sample(shape=(64, 64, 64)), images=(labels.half(),), labels=(labels,))
    patch = PatchConfig(size=(16, 16, 16), foreground=1.0)
    augment = build_augmentation(NoAugmentation(), patch=patch)
    assert augment is not None
    hits = [2 in augment(sample, np.random.default_rng(seed)).labels[0] for seed in range(40)]  # type: ignore[operator]
    assert 10 <= sum(hits) <= 30


def test_a_plain_patch_is_a_piece_of_the_image() -> None:
    voxels = torch.arange(64.0**3).view(64, 64, 64)
    sample = replace(make_sample(), images=(voxels,), labels=(None,))
    augment = build_augmentation(NoAugmentation(), patch=PATCH)
    assert augment is not None
    patch = augment(sample, np.random.default_rng(0)).images[0]
    k, j, i = np.unravel_index(int(patch[0, 0, 0]), (64, 64, 64))
    assert torch.equal(patch, voxels[k : k + 16, j : j + 20, i : i + 24])


def test_a_case_without_masks_is_augmented_too() -> None:
    sample = replace(make_sample(shape=(6, 60, 60), spacing_mm=THICK), labels=(None,))
    for name in SETTINGS:
        assert _augmented(name, sample, 0).labels == (None,)


def test_every_name_is_built_from_its_defaults() -> None:
    (union, *_) = get_args(AugmentationConfig)
    names = {member().name: build_augmentation(member()) for member in get_args(union)}
    assert set(names) == {"none", *SETTINGS}
    assert names.pop("none") is None
    assert None not in names.values()
    with pytest.raises(ConfigError, match="cuts its own"):
        build_augmentation(PlanarMR(), patch=PATCH)
