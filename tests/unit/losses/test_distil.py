"""Distillation: the teacher is followed exactly where labels leave something open."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medmtl.losses.distil import distillation
from medmtl.losses.partial import merge_unannotated

SEEDS = st.integers(0, 2**31 - 1)
STUDIES, SEGMENTS = 2, 3


def _case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, 4, 3, 4, 5) that require a gradient, those of a teacher, and what is open."""
    draw = torch.Generator().manual_seed(seed)
    logits, teacher = torch.randn(2, STUDIES, SEGMENTS + 1, 3, 4, 5, generator=draw)
    return logits.requires_grad_(), teacher, torch.rand(STUDIES, SEGMENTS, generator=draw) < 0.5


def _divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Of all classes, the mean over studies and voxels."""
    found, wanted = logits.log_softmax(dim=1), teacher.log_softmax(dim=1)
    terms = nn.functional.kl_div(found, wanted, reduction="none", log_target=True)
    return terms.nan_to_num().sum(dim=1).mean()  # 0 log 0 of a merged class is 0


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_without_labels_it_is_the_divergence_of_all_classes(seed: int) -> None:
    logits, teacher, is_open = _case(seed)
    loss = distillation(logits, teacher, torch.ones_like(is_open))
    torch.testing.assert_close(loss, _divergence(logits, teacher))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_what_labels_leave_open_is_what_their_own_loss_does_not_see(seed: int) -> None:
    """The divergence of all classes, less that of the classes as the marginal loss merges them."""
    logits, teacher, is_open = _case(seed)
    none = torch.zeros(STUDIES, 3, 4, 5, dtype=torch.long)
    merged, known = (merge_unannotated(one, none, ~is_open)[0] for one in (logits, teacher))
    rest = _divergence(logits, teacher) - _divergence(merged, known)
    torch.testing.assert_close(distillation(logits, teacher, is_open), rest, atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_only_what_is_open_has_a_gradient(seed: int) -> None:
    """Background and the open segments, whose gradients move probability among them alone."""
    logits, teacher, is_open = _case(seed)
    (gradient,) = torch.autograd.grad(distillation(logits, teacher, is_open), logits)
    assert not gradient[:, 1:][~is_open].any()
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(STUDIES, 3, 4, 5))
    assert gradient.flatten(1).any(dim=1).tolist() == is_open.any(dim=1).tolist()
