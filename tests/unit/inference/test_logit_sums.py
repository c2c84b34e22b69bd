"""Sums in half precision keep the labels, also near a tie, and take the memory of a slab."""

import pytest
import torch

from medmtl.inference import logit_sums as module
from medmtl.inference.logit_sums import LOWEST, add_logits, below_largest

SHAPE = (5, 8, 12, 16)


def tiles(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two logits of one place, large numbers whose classes are close, and their shares."""
    torch.manual_seed(seed)
    common = 300 * torch.randn(1, 1, *SHAPE[1:])
    one, other = (common + torch.randn(1, *SHAPE) for _ in range(2))
    share = torch.rand(*SHAPE[1:])
    return one, other, share, 1 - share


def summed(*pairs: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    total = torch.zeros(1, *SHAPE, dtype=torch.half)
    for logits, share in pairs:
        add_logits(total, logits, share)
    return total


def test_the_sum_is_the_mean_below_its_largest_class() -> None:
    one, other, share, rest = tiles()
    mean = one.double() * share + other.double() * rest
    expected = mean - mean.amax(dim=1, keepdim=True)
    found = summed((one, share), (other, rest))
    assert found.dtype == torch.half
    assert (found.amax(dim=1) == 0).all()
    torch.testing.assert_close(found.double(), expected, atol=2**-9, rtol=2**-10)


def test_labels_near_a_tie_stay_where_half_precision_of_the_logits_loses_them() -> None:
    logits = torch.tensor([300.0, 300.01, -5.0]).view(1, 3, 1, 1, 1)
    total = torch.zeros_like(logits, dtype=torch.half)
    add_logits(total, logits, torch.ones(1, 1, 1))
    assert total.argmax(dim=1).item() == 1
    assert (logits.half()[:, 0] == logits.half()[:, 1]).all()
    assert total[0, 0].item() == pytest.approx(-0.01, rel=1e-2)


def test_interpolated_labels_do_not_depend_on_what_is_taken_from_all_classes() -> None:
    one, *_ = tiles(1)
    lower = below_largest(one)
    size = [2 * n for n in SHAPE[1:]]

    def labels(values: torch.Tensor) -> torch.Tensor:
        fine = torch.nn.functional.interpolate(values.double(), size=size, mode="trilinear")
        return fine.argmax(dim=1)

    assert (labels(one) != labels(lower)).double().mean() < 1e-3
    torch.testing.assert_close(lower.float().softmax(dim=1), one.softmax(dim=1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("values", [1, 3 * 5 * 12 * 16, 10**9])
def test_slabs_of_any_size_give_the_same_sums(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, share, rest = tiles()
    expected = summed((one, share), (other, rest))
    monkeypatch.setattr(module, "_SLAB_VALUES", {"cpu": values})
    assert torch.equal(summed((one, share), (other, rest)), expected)


def test_what_lies_far_below_stays_finite() -> None:
    logits = torch.tensor([0.0, -1e30]).view(1, 2, 1, 1, 1)
    total = torch.zeros_like(logits, dtype=torch.half)
    add_logits(total, logits, torch.ones(1, 1, 1))
    assert total.flatten().tolist() == [0.0, LOWEST]
    assert below_largest(logits).flatten().tolist() == [0.0, LOWEST]
