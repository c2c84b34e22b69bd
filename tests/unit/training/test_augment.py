"""Augmentation keeps what makes a heart a heart: its handedness and its volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medmtl.training.augment import PlaneAugmentation, plane_grid, sample_plane, vary_intensity

STILL = PlaneAugmentation(
    patch_px=96, shift_px=0, anywhere=0, angle_rad=0, any_angle=0, log_scale=0, log_stretch=0,
    elastic=0,
)  # fmt: skip
WILD = PlaneAugmentation(
    shift_px=5, patch_px=96, any_angle=1, anywhere=0, log_scale=0.3, log_stretch=0.1, elastic=0
)  # fmt: skip


def disc(radius: float = 20.0, centre: tuple[float, float] = (60, 52)) -> Tensor:
    """Labels (3, 120, 110), a disc of label 2 inside a ring of label 1."""
    j, i = torch.meshgrid(torch.arange(120), torch.arange(110), indexing="ij")
    distance = ((j - centre[0]) ** 2 + (i - centre[1]) ** 2).float().sqrt()
    plane = (distance < radius + 5).long() + (distance < radius).long()
    return plane.expand(3, -1, -1).contiguous()


def steps(grid: Tensor) -> tuple[Tensor, Tensor]:
    """Source (i, j) per pixel along the patch's columns and rows."""
    return grid[:-1, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, :-1]


def determinant(grid: Tensor) -> Tensor:
    along_i, along_j = steps(grid)
    return along_i[..., 0] * along_j[..., 1] - along_i[..., 1] * along_j[..., 0]


@pytest.mark.parametrize("seed", range(20))
def test_no_mirror_images(seed: int) -> None:
    grid, _ = plane_grid(disc(), WILD, np.random.default_rng(seed))
    assert (determinant(grid) > 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_mirror_images_where_they_are_asked_for(seed: int) -> None:
    straight, size = plane_grid(disc(), WILD, np.random.default_rng(seed))
    mirrored, same = plane_grid(disc(), replace(WILD, mirrored=1.0), np.random.default_rng(seed))
    assert torch.equal(mirrored, straight.flip(1))
    assert (determinant(mirrored) < 0).all()
    assert size == same


def test_the_smooth_deformation_does_not_fold() -> None:
    options = replace(PlaneAugmentation(), elastic=1.0)
    for seed in range(20):
        grid, _ = plane_grid(disc(), options, np.random.default_rng(seed))
        assert (determinant(grid) > 0).float().mean() > 0.99


@pytest.mark.parametrize("seed", range(20))
def test_pixel_size_is_the_length_of_the_steps(seed: int) -> None:
    grid, (size_j, size_i) = plane_grid(disc(), WILD, np.random.default_rng(seed))
    along_i, along_j = steps(grid)
    assert along_i.norm(dim=-1).mean().item() == pytest.approx(size_i, rel=1e-4)
    assert along_j.norm(dim=-1).mean().item() == pytest.approx(size_j, rel=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_the_volume_is_that_of_the_patient_however_the_patch_was_scaled(seed: int) -> None:
    labels = disc()
    grid, (size_j, size_i) = plane_grid(labels, WILD, np.random.default_rng(seed))
    _, sampled = sample_plane(torch.rand(3, 120, 110), labels, grid)
    for value in (1, 2):
        whole = int((labels == value).sum())
        assert int((sampled == value).sum()) * size_j * size_i == pytest.approx(whole, rel=0.03)


def test_without_any_change_the_patch_is_a_crop_around_the_heart() -> None:
    labels, image = disc(centre=(60.0, 52.0)), torch.rand(3, 120, 110)
    grid, size = plane_grid(labels, STILL, np.random.default_rng(0))
    sampled_image, sampled = sample_plane(image, labels, grid + 0.5)
    assert size == (1.0, 1.0)
    rows, columns = slice(13, 109), slice(5, 101)  # 60 and 52, less 47.5 plus 0.5
    assert torch.equal(sampled, labels[:, rows, columns])
    torch.testing.assert_close(sampled_image, image[:, rows, columns], atol=1e-4, rtol=0)


def test_outside_is_the_lowest_value_and_background() -> None:
    image = torch.full((3, 120, 110), 7.0)
    image[0, 60, 60] = -3.0
    far = torch.full((4, 4, 2), 1000.0)
    sampled, labels = sample_plane(image, torch.full((3, 120, 110), 2), far)
    assert torch.equal(sampled, torch.full((3, 4, 4), -3.0))
    assert not labels.any()


def test_labels_stay_those_of_the_input() -> None:
    labels = disc()
    labels[labels == 2] = 7
    for seed in range(5):
        grid, _ = plane_grid(labels, replace(WILD, elastic=1.0), np.random.default_rng(seed))
        _, sampled = sample_plane(torch.rand(3, 120, 110), labels, grid)
        assert sampled.dtype == torch.int64
        assert set(sampled.flatten().tolist()) <= {0, 1, 7}


def test_a_stack_without_a_heart_is_sampled_somewhere() -> None:
    grid, _ = plane_grid(torch.zeros(2, 50, 40).long(), STILL, np.random.default_rng(0))
    middle_i, middle_j = grid.mean(dim=(0, 1)).tolist()
    assert 0 <= middle_i <= 40
    assert 0 <= middle_j <= 50


def test_intensities_vary_stay_finite_and_keep_their_grid() -> None:
    image = torch.rand(4, 32, 24) * 4 - 1
    seen = [vary_intensity(image, np.random.default_rng(seed)) for seed in range(30)]
    assert all(one.shape == image.shape and torch.isfinite(one).all() for one in seen)
    assert sum(not torch.equal(one, image) for one in seen) > 20
    again = vary_intensity(image, np.random.default_rng(3))
    assert torch.equal(again, seen[3])
