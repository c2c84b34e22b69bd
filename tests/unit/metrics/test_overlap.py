"""Dice and surface numbers that a pencil confirms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meaniou import compute_iou
from monai.metrics.surface_distance import compute_average_surface_distance
from numpy.typing import NDArray

from medmtl.metrics.overlap import dice, jaccard_of_dice
from medmtl.metrics.surface import hd95_mm, normalised_surface_dice, surface_distances

Mask = NDArray[np.bool_]
EMPTY: Mask = np.zeros((30, 20, 10), dtype=bool)


def cube(*, start: int, size: int = 8) -> Mask:
    mask = np.zeros((30, 20, 10), dtype=bool)
    mask[start : start + size, 2 : 2 + size, 1 : 1 + size] = True
    return mask


def test_half_overlapping_cubes_have_dice_one_half() -> None:
    assert dice(cube(start=2), cube(start=6)) == pytest.approx(0.5)


def test_identical_masks_are_perfect() -> None:
    mask = cube(start=3)
    assert dice(mask, mask) == 1.0
    assert hd95_mm(mask, mask, spacing_mm=(1, 1, 5)) == 0.0
    assert normalised_surface_dice(mask, mask, spacing_mm=(1, 1, 5)) == 1.0


@pytest.mark.parametrize("shift", [1, 3, 5])
@pytest.mark.parametrize("spacing_i_mm", [0.5, 1.5])
def test_hd95_of_a_shifted_cube_is_the_shift_in_mm(shift: int, spacing_i_mm: float) -> None:
    value = hd95_mm(cube(start=2), cube(start=2 + shift), spacing_mm=(spacing_i_mm, 4, 4))
    assert value == pytest.approx(shift * spacing_i_mm)


def test_distance_counts_the_slice_axis_in_its_own_spacing() -> None:
    one, other = np.zeros_like(EMPTY), np.zeros_like(EMPTY)
    one[5:15, 5:15, 2], other[5:15, 5:15, 4] = True, True
    assert hd95_mm(one, other, spacing_mm=(1, 1, 8)) == pytest.approx(16.0)


def test_surface_dice_is_one_within_the_tolerance_and_falls_beyond_it() -> None:
    one, other = cube(start=2), cube(start=5)
    within = normalised_surface_dice(one, other, spacing_mm=(1, 1, 1), tolerance_mm=3.0)
    beyond = normalised_surface_dice(one, other, spacing_mm=(1, 1, 1), tolerance_mm=2.0)
    assert within == 1.0
    assert beyond is not None
    assert 0.5 < beyond < 0.85  # the two end faces, one sixth of the area each, are too far


def test_surface_dice_of_masks_far_apart_is_zero() -> None:
    value = normalised_surface_dice(
        cube(start=0), cube(start=20), spacing_mm=(1, 1, 1), tolerance_mm=2.0
    )
    assert value == 0.0


def test_both_empty_is_nothing_and_one_empty_is_a_miss() -> None:
    mask = cube(start=3)
    assert dice(EMPTY, EMPTY) is None
    assert dice(EMPTY, EMPTY, if_both_empty=1.0) == 1.0
    assert hd95_mm(EMPTY, EMPTY, spacing_mm=(1, 1, 1)) is None
    assert normalised_surface_dice(EMPTY, EMPTY, spacing_mm=(1, 1, 1)) is None
    for prediction, truth in ((mask, EMPTY), (EMPTY, mask)):
        assert dice(prediction, truth) == 0.0
        assert hd95_mm(prediction, truth, spacing_mm=(1, 1, 1)) is None
        assert normalised_surface_dice(prediction, truth, spacing_mm=(1, 1, 1)) == 0.0


def test_dice_is_symmetric_and_does_not_see_the_empty_surroundings(
    rng: np.random.Generator,
) -> None:
    one, other = rng.random((9, 8, 7)) > 0.6, rng.random((9, 8, 7)) > 0.4
    wide_one, wide_other = np.pad(one, 5), np.pad(other, 5)
    assert dice(one, other) == pytest.approx(dice(other, one))
    assert dice(wide_one, wide_other) == pytest.approx(dice(one, other))
    expected = 2 * (one & other).sum() / (one.sum() + other.sum())
    assert dice(one, other) == pytest.approx(expected)


def test_masks_on_different_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice(EMPTY, EMPTY[:, :, :-1])


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI's own call
@pytest.mark.parametrize("seed", range(4))
def test_overlap_and_distances_are_those_of_monai(seed: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.random((2, 12, 9, 5)) > 0.7
    spacing_mm = (1.25, 1.5, 8.0)
    batch = [torch.from_numpy(mask.astype(np.float32))[None, None] for mask in (one, other)]
    assert jaccard_of_dice(dice(one, other)) == pytest.approx(float(compute_iou(*batch)))
    found = surface_distances(one, other, spacing_mm=spacing_mm)
    assert found is not None
    hausdorff = compute_hausdorff_distance(
        *batch, include_background=True, percentile=95, spacing=list(spacing_mm)
    )
    average = compute_average_surface_distance(
        *batch, include_background=True, symmetric=True, spacing=list(spacing_mm)
    )
    assert found.hd95_mm == pytest.approx(float(hausdorff))
    assert found.assd_mm == pytest.approx(float(average))


def test_average_distance_of_parallel_sheets_is_their_distance() -> None:
    one, other = np.zeros_like(EMPTY), np.zeros_like(EMPTY)
    one[:, :, 2], other[:, :, 5] = True, True
    found = surface_distances(one, other, spacing_mm=(1, 1, 2))
    assert found is not None
    assert found.assd_mm == pytest.approx(6.0)
    assert surface_distances(one, EMPTY, spacing_mm=(1, 1, 2)) is None
