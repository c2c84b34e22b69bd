"""The largest connected piece of predicted masks."""

from __future__ import annotations

import torch

from medmtl.networks.gate import largest_piece


def masks(*boxes: tuple[slice, slice, slice]) -> torch.Tensor:
    """Probabilities (1, 2, 6, 24, 24) that are 0.9 foreground in the boxes and 0.1 elsewhere."""
    foreground = torch.full((1, 1, 6, 24, 24), 0.1)
    for box in boxes:
        foreground[(0, 0, *box)] = 0.9
    return torch.cat([1 - foreground, foreground], dim=1)


def test_the_smaller_piece_is_closed_and_the_larger_one_is_open() -> None:
    large = (slice(1, 5), slice(2, 10), slice(2, 10))
    small = (slice(1, 3), slice(18, 21), slice(18, 21))
    gate = largest_piece(masks(large, small))
    assert gate.shape == (1, 1, 6, 24, 24)
    assert gate[(0, 0, *large)].all()
    assert not gate[(0, 0, *small)].any()


def test_the_gate_grows_in_plane_only() -> None:
    box = (slice(2, 4), slice(8, 12), slice(8, 12))
    gate = largest_piece(masks(box), grow=2)[0, 0]
    assert gate[2, 6:14, 6:14].all()
    assert not gate[1].any()
    assert int(gate.sum()) == 2 * 8 * 8


def test_slices_that_touch_by_a_corner_are_one_piece() -> None:
    lower = (slice(1, 2), slice(4, 8), slice(4, 8))
    upper = (slice(2, 3), slice(8, 12), slice(8, 12))
    gate = largest_piece(masks(lower, upper), grow=0)[0, 0]
    assert gate[(lower)].all()
    assert gate[(upper)].all()


def test_nothing_found_gates_nothing() -> None:
    assert largest_piece(masks()).all()
