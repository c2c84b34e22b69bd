"""The marginal loss: what is unknown gives no gradient, what is known is learned as ever."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medmtl.losses.diagnosis import known_binary_cross_entropy
from medmtl.losses.partial import marginal_dice_cross_entropy, merge_unannotated
from medmtl.losses.segmentation import dice_cross_entropy

SEEDS = st.integers(0, 2**31 - 1)
CLASSES = 4


def _case(seed: int, *, cases: int = 2) -> tuple[Tensor, Tensor]:
    """Logits (B, 4, 3, 4, 5) that require a gradient, and labels (B, 3, 4, 5)."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(cases, CLASSES, 3, 4, 5, generator=draw)
    labels = torch.randint(0, CLASSES, (cases, 3, 4, 5), generator=draw)
    return logits.requires_grad_(), labels


def _annotated(seed: int, *, cases: int = 2) -> Tensor:
    draw = torch.Generator().manual_seed(seed + 1)
    return torch.rand(cases, CLASSES - 1, generator=draw) < 0.5


def _gradient(loss: Tensor | None, logits: Tensor) -> Tensor:
    assert loss is not None
    (gradient,) = torch.autograd.grad(loss, logits)
    return gradient


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_all_annotated_is_the_plain_loss(seed: int) -> None:
    logits, labels = _case(seed)
    everything = torch.ones(2, CLASSES - 1, dtype=torch.bool)
    marginal = marginal_dice_cross_entropy(logits, labels, everything)
    plain = dice_cross_entropy(logits, labels)
    assert marginal is not None
    assert marginal.item() == plain.item()
    assert torch.equal(_gradient(marginal, logits), _gradient(plain, logits))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_merging_nothing_changes_nothing(seed: int) -> None:
    logits, labels = _case(seed)
    merged, target = merge_unannotated(logits, labels, torch.ones(2, CLASSES - 1) > 0)
    torch.testing.assert_close(merged, logits)
    assert torch.equal(target, labels)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_probability_moves_freely_between_background_and_what_was_not_annotated(seed: int) -> None:
    """With p0 + pU kept, the loss does not know how the two share it."""
    logits, labels = _case(seed)
    is_annotated = _annotated(seed)
    is_annotated[:, 1] = False  # class 2 in no case
    is_annotated[:, 0] = True
    both = logits[:, [0, 2]].detach().logsumexp(dim=1)
    share = torch.zeros_like(both).requires_grad_()  # log-odds of background against class 2

    def loss(log_odds: Tensor) -> Tensor:
        parts = list(logits.detach().unbind(dim=1))
        parts[0] = both + torch.nn.functional.logsigmoid(log_odds)
        parts[2] = both + torch.nn.functional.logsigmoid(-log_odds)
        value = marginal_dice_cross_entropy(torch.stack(parts, dim=1), labels, is_annotated)
        assert value is not None
        return value

    assert _gradient(loss(share), share).abs().max() < 1e-8
    moved = loss(torch.randn(both.shape, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(moved, loss(share), rtol=1e-5, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_case_without_any_annotation_gives_exactly_zero_gradient(seed: int) -> None:
    logits, labels = _case(seed)
    is_annotated = torch.tensor([[True, False, True], [False, False, False]])
    gradient = _gradient(marginal_dice_cross_entropy(logits, labels, is_annotated), logits)
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))
    assert gradient[0].abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_an_ignored_voxel_gives_exactly_zero_gradient(seed: int) -> None:
    logits, labels = _case(seed)
    is_ignored = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    is_annotated = _annotated(seed)
    is_annotated[:, 0] = True
    target = torch.where(is_ignored, -1, labels)
    gradient = _gradient(marginal_dice_cross_entropy(logits, target, is_annotated), logits)
    of_ignored = gradient.movedim(1, -1)[is_ignored]
    assert torch.equal(of_ignored, torch.zeros_like(of_ignored))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_padding_and_a_case_without_mask_change_no_number(seed: int) -> None:
    logits, labels = _case(seed)
    is_annotated = _annotated(seed)
    is_annotated[:, 0] = True
    alone = marginal_dice_cross_entropy(logits, labels, is_annotated)
    padded_logits = torch.nn.functional.pad(logits, (0, 3, 0, 1, 0, 2))
    padded = torch.nn.functional.pad(labels, (0, 3, 0, 1, 0, 2), value=-1)
    extra_logits = torch.cat([padded_logits, torch.ones_like(padded_logits[:1])])
    extra = torch.cat([padded, torch.full_like(padded[:1], -1)])
    more = torch.cat([is_annotated, torch.zeros(1, CLASSES - 1, dtype=torch.bool)])
    both = marginal_dice_cross_entropy(extra_logits, extra, more)
    assert alone is not None
    assert both is not None
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-6)


def test_what_was_not_annotated_is_never_taught_as_background() -> None:
    """A network sure of an organ that the data set did not look for is not punished."""
    labels = torch.zeros(1, 2, 2, 2, dtype=torch.long)
    labels[0, 0, 0, 0] = 1
    says_two = torch.zeros(1, CLASSES, 2, 2, 2)
    says_two[:, 2] = 40.0
    says_two[0, :, 0, 0, 0] = torch.tensor([0.0, 40.0, 0.0, 0.0])
    partly = torch.tensor([[True, False, False]])
    free = marginal_dice_cross_entropy(says_two, labels, partly)
    taught = marginal_dice_cross_entropy(says_two, labels, torch.ones(1, 3) > 0)
    assert free is not None
    assert taught is not None
    assert free.item() == pytest.approx(0, abs=1e-5)
    assert taught.item() > 30


def test_a_label_of_a_class_not_annotated_counts_as_background() -> None:
    logits, _ = _case(0, cases=1)
    labels = torch.full((1, 3, 4, 5), 3)
    partly = torch.tensor([[True, True, False]])
    strange = marginal_dice_cross_entropy(logits, labels, partly)
    usual = marginal_dice_cross_entropy(logits, torch.zeros_like(labels), partly)
    assert strange is not None
    assert usual is not None
    assert strange.item() == usual.item()


@pytest.mark.parametrize("how", ["voxels", "classes"])
def test_nothing_known_is_no_loss(how: str) -> None:
    logits, labels = _case(0)
    nothing = torch.zeros(2, CLASSES - 1, dtype=torch.bool)
    if how == "voxels":
        assert marginal_dice_cross_entropy(logits, torch.full_like(labels, -1), ~nothing) is None
    else:
        assert marginal_dice_cross_entropy(logits, labels, nothing) is None


def test_wrong_shapes_are_named() -> None:
    logits, labels = _case(0)
    with pytest.raises(ValueError, match=r"\(B, C - 1\)"):
        marginal_dice_cross_entropy(logits, labels, torch.ones(2, CLASSES) > 0)


def test_half_precision_is_computed_in_full() -> None:
    logits, labels = _case(0)
    partly = torch.tensor([[True, False, True], [True, True, False]])
    full = marginal_dice_cross_entropy(logits.bfloat16().float(), labels, partly)
    half = marginal_dice_cross_entropy(logits.bfloat16(), labels, partly)
    assert full is not None
    assert half is not None
    assert half.dtype == torch.float32
    assert half.item() == full.item()


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_an_unknown_finding_gives_exactly_zero_gradient(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 4, generator=draw).requires_grad_()
    truth = (torch.rand(3, 4, generator=draw) < 0.5).float()
    is_unknown = torch.rand(3, 4, generator=draw) < 0.5
    target = torch.where(is_unknown, torch.nan, truth)
    gradient = _gradient(known_binary_cross_entropy(logits, target), logits)
    assert torch.equal(gradient[is_unknown], torch.zeros_like(gradient[is_unknown]))
    assert (gradient[~is_unknown] != 0).all()
