"""What is unknown says nothing: no loss and no gradient."""

import math

import pytest
import torch

from medmtl.losses.diagnosis import known_binary_cross_entropy

NAN = math.nan


def test_an_unknown_finding_gets_exactly_no_gradient() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 4.0]], requires_grad=True)
    target = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    torch.autograd.backward(known_binary_cross_entropy(logits, target))
    assert logits.grad is not None
    is_zero = logits.grad == 0
    assert is_zero.tolist() == [[False, True], [True, False]]


def test_nothing_known_is_zero_and_still_in_the_graph() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = known_binary_cross_entropy(logits, torch.full((3, 2), NAN))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_mean_is_over_known_labels_only() -> None:
    target = torch.tensor([[1.0, NAN, NAN, 0.0]])
    loss = known_binary_cross_entropy(torch.zeros(1, 4), target)
    assert loss.item() == pytest.approx(math.log(2))


def test_a_large_logit_of_an_unknown_label_does_not_overflow() -> None:
    logits = torch.tensor([[0.0, math.inf]], requires_grad=True)
    loss = known_binary_cross_entropy(logits, torch.tensor([[1.0, NAN]]))
    assert loss.item() == pytest.approx(math.log(2))
