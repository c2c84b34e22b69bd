"""The ranges of int8 come from the middle of a large input, all of a small one."""

from __future__ import annotations

import torch

from medmtl.inference.quantise import MIDDLE, MOST_VOXELS, middle


def test_a_small_input_stays_as_it_is() -> None:
    stem = torch.zeros(1, 1, 100, 100, 200)
    assert stem.numel() <= MOST_VOXELS
    assert middle(stem) is stem


def test_of_a_large_one_the_middle_is_taken_and_a_short_axis_whole() -> None:
    stem = torch.zeros(1, 1, 160, 32, 432)
    stem[..., 80, 16, 216] = 1
    found = middle(stem)
    assert found.shape[2:] == (MIDDLE, 32, MIDDLE)
    assert found[..., MIDDLE // 2, 16, MIDDLE // 2] == 1
