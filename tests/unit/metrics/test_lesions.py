"""Lesions one by one: scenes counted by hand, and the counts of MONAI."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.metrics.lesions import MIN_IOU, LesionCounts, match_lesions

SHAPE = (30, 12, 8)


def blocks(*starts: int, size: int = 4) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, dtype=bool)
    for start in starts:
        mask[start : start + size, 2:6, 2:6] = True
    return mask


def test_found_missed_and_invented_lesions_are_counted() -> None:
    counts = match_lesions(blocks(0, 20), blocks(0, 10), voxel_mm3=1.0)
    assert (counts.truth, counts.predicted, counts.matched, counts.iou_sum) == (2, 2, 1, 1.0)


def test_every_lesion_has_its_size_and_whether_it_was_found() -> None:
    """A ball of 64 voxels of 8 mm3 has a diameter of 9.93 mm."""
    counts = match_lesions(blocks(0, 20), blocks(0, 10), voxel_mm3=8.0)
    assert counts.diameters_mm == pytest.approx([(6 * 512 / np.pi) ** (1 / 3)] * 2)
    assert counts.is_found == (True, False)


def test_a_half_shifted_lesion_is_found_with_its_iou() -> None:
    counts = match_lesions(blocks(2), blocks(0), voxel_mm3=1.0)
    assert counts.matched == 1
    assert counts.iou_sum == pytest.approx(1 / 3)


def test_a_touch_finds_nothing() -> None:
    touch = blocks(3)  # 1 of 7 columns shared
    assert match_lesions(touch, blocks(0), voxel_mm3=1.0).matched == 1
    assert match_lesions(touch, blocks(0), voxel_mm3=1.0, min_iou=1 / 7).matched == 0


def test_one_large_piece_finds_only_one_of_the_lesions_it_covers() -> None:
    counts = match_lesions(blocks(0, size=14), blocks(0, 8), voxel_mm3=1.0)
    assert (counts.truth, counts.predicted, counts.matched) == (2, 1, 1)


def test_lesions_that_meet_at_a_corner_are_one() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert match_lesions(mask, mask, voxel_mm3=1.0).truth == 1


def test_without_lesions_nothing_is_counted() -> None:
    empty, one = blocks(), blocks(0)
    assert match_lesions(empty, empty, voxel_mm3=1.0) == LesionCounts(0, 0, 0, 0.0)
    assert match_lesions(one, empty, voxel_mm3=1.0) == LesionCounts(0, 1, 0, 0.0)
    missed = match_lesions(empty, one, voxel_mm3=1.0)
    assert (missed.truth, missed.predicted, missed.is_found) == (1, 0, (False,))


@pytest.mark.parametrize("seed", range(6))
def test_the_counts_are_those_of_monai(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = ndimage.binary_opening(generator.random(SHAPE) > 0.35)
    prediction = np.roll(truth, 1, axis=0) & (generator.random(SHAPE) > 0.1)
    pieces = [
        torch.from_numpy(ndimage.label(mask, structure=np.ones((3, 3, 3)))[0])
        for mask in (prediction, truth)
    ]
    matched, invented, missed, iou_sum = compute_panoptic_quality(
        pieces[0], pieces[1], match_iou_threshold=MIN_IOU, output_confusion_matrix=True
    ).tolist()
    found = match_lesions(prediction, truth, voxel_mm3=1.0)
    assert found.truth > 2
    assert found.matched == matched
    assert found.predicted - found.matched == invented
    assert found.truth - found.matched == missed
    assert found.iou_sum == pytest.approx(iou_sum, rel=1e-5)
