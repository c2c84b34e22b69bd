"""Dice plus cross entropy, at values known on paper."""

import math

import pytest
import torch
from torch import Tensor, nn

from medmtl.losses.segmentation import dice_cross_entropy


def sure(labels: Tensor, classes: int, strength: float = 40.0) -> Tensor:
    """Logits that say exactly these labels."""
    return strength * nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


@pytest.fixture
def labels() -> Tensor:
    labels = torch.zeros(2, 4, 6, 6, dtype=torch.long)
    labels[:, 1:3, 1:4, 1:4] = 1
    labels[0, 3, 4:, 4:] = 2
    return labels


def test_a_perfect_answer_costs_nothing(labels: Tensor) -> None:
    assert dice_cross_entropy(sure(labels, 3), labels).item() == pytest.approx(0, abs=1e-5)


def test_a_class_that_the_batch_lacks_has_no_dice_term(labels: Tensor) -> None:
    with_more = nn.functional.pad(sure(labels, 3), (0, 0, 0, 0, 0, 0, 0, 2), value=0.0)
    assert dice_cross_entropy(with_more, labels).item() == pytest.approx(0, abs=1e-5)


def test_without_any_foreground_only_the_cross_entropy_is_left() -> None:
    labels = torch.zeros(1, 2, 3, 3, dtype=torch.long)
    loss = dice_cross_entropy(torch.zeros(1, 4, 2, 3, 3), labels)
    assert loss.item() == pytest.approx(math.log(4))


def test_half_overlap_on_paper() -> None:
    labels = torch.tensor([[1, 1, 0, 0]])
    answer = torch.tensor([[0, 1, 1, 0]])
    # Dice 0.5; two of four voxels are wrong, each by 40 nats.
    loss = dice_cross_entropy(sure(answer, 2), labels)
    assert loss.item() == pytest.approx(0.5 + 20.0, abs=1e-3)


def test_the_dice_is_that_of_the_whole_batch(labels: Tensor) -> None:
    answer = labels.clone()
    answer[0, 3] = 0  # class 2 missed: Dice 0 for one of two present classes
    wrong = int((answer != labels).sum())
    loss = dice_cross_entropy(sure(answer, 3), labels)
    assert loss.item() == pytest.approx(0.5 + 40 * wrong / labels.numel(), abs=1e-3)


def test_class_weights_reach_the_cross_entropy(labels: Tensor) -> None:
    logits = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    plain = dice_cross_entropy(logits, labels)
    same = dice_cross_entropy(logits, labels, class_weights=torch.ones(3))
    other = dice_cross_entropy(logits, labels, class_weights=torch.tensor([0.1, 1.0, 5.0]))
    assert same.item() == pytest.approx(plain.item(), rel=1e-5)
    assert other.item() != pytest.approx(plain.item(), rel=1e-2)


def test_half_precision_logits_are_computed_in_single(labels: Tensor) -> None:
    logits = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0)).half()
    loss = dice_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(dice_cross_entropy(logits.float(), labels).item())
