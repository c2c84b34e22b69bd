"""Attribution: shares add up, and a share is drawn where its measurement was taken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medmtl.evidence.attribution import draw_contributions, integrated_gradients


def two_organs() -> Tensor:
    """(1, 3, 2, 4, 4): segment 1 on the first row, segment 2 on the last, hard masks."""
    masks = torch.zeros(1, 3, 2, 4, 4)
    masks[:, 1, :, 0], masks[:, 2, :, 3], masks[:, 0, :, 1:3] = 1, 1, 1
    return masks.requires_grad_()


def test_shares_of_a_linear_score_are_weight_times_difference() -> None:
    weight = torch.tensor([[2.0, -1.0, 0.0], [0.5, 3.0, 1.0]])
    at, baseline = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 1.0, 5.0])
    shares = integrated_gradients(lambda x: x @ weight.T, at, baseline=baseline)
    torch.testing.assert_close(shares, weight * (at - baseline))


def test_shares_add_up_to_what_the_score_gained() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 3))
    at, baseline = torch.randn(6), torch.zeros(6)
    shares = integrated_gradients(head, at, baseline=baseline, steps=256)
    gained = head(at[None])[0] - head(baseline[None])[0]
    torch.testing.assert_close(shares.sum(dim=1), gained.detach(), atol=1e-4, rtol=0)


def test_a_volume_is_drawn_evenly_inside_its_segment_and_nowhere_else() -> None:
    masks = two_organs()
    volume = masks[0, 1].sum()
    ((drawn,),) = draw_contributions(torch.tensor([[4.0]]), volume[None], [masks])
    expected = torch.zeros(2, 4, 4)
    expected[:, 0] = 4.0 / 8  # eight voxels
    torch.testing.assert_close(drawn, expected)


def test_a_ratio_is_drawn_in_both_of_its_segments_and_a_study_adds_up_over_volumes() -> None:
    first, second = two_organs(), two_organs()
    ratio = first[0, 1].sum() / second[0, 2].sum()
    (maps,) = draw_contributions(torch.tensor([[3.0]]), ratio[None], [first, second])
    assert maps[0][:, 0].sum() == pytest.approx(1.5)
    assert maps[1][:, 3].sum() == pytest.approx(1.5)


def test_what_speaks_against_is_unknown_or_was_measured_nowhere_is_not_drawn() -> None:
    masks = two_organs()
    volume = masks[0, 1].sum()
    unknown, constant = torch.full_like(volume, torch.nan), 0 * volume
    values = torch.stack([volume, unknown, constant])
    ((drawn,),) = draw_contributions(torch.tensor([[-1.0, 2.0, 2.0]]), values, [masks])
    assert not drawn.any()
    ((blind,),) = draw_contributions(torch.ones(1, 1), volume.detach()[None], [masks])
    assert not blind.any()
