"""Unknown is not zero: what is missing speaks through its indicator only."""

import math

import pytest
import torch
from pydantic import ValidationError

from medmtl.networks.diagnosis_head import DiagnosisHead, HeadConfig, Standardise

CONFIG = HeadConfig(covariates=("age_years", "height_cm"), embedding=4, hidden=8, members=3)


def head(config: HeadConfig = CONFIG, *, measurements: int = 2) -> DiagnosisHead:
    torch.manual_seed(0)
    module = DiagnosisHead(config, pooled=6, measurements=measurements, findings=3).eval()
    facts = torch.tensor([10.0, 0.5, 50.0, 170.0])[: measurements + 2]
    module.facts.mean.copy_(torch.cat([facts, facts.log1p()]))
    return module


def covariates(age: float, height: float) -> dict[str, torch.Tensor]:
    return {"age_years": torch.tensor([age]), "height_cm": torch.tensor([height])}


def test_standardised_values_have_zero_mean_and_unit_deviation_without_the_unknown() -> None:
    module = Standardise(2)
    module.fit(torch.tensor([[1.0, 5.0], [3.0, math.nan], [math.nan, 5.0]]))
    logarithms = [(math.log(2) + math.log(4)) / 2, math.log(6)]
    assert module.mean.tolist() == pytest.approx([2.0, 5.0, *logarithms])
    z = module(torch.tensor([[3.0, 5.0]]))
    one_deviation = pytest.approx(4 * math.tanh(0.25))  # hardly bent
    assert z[0, [0, 2]].tolist() == [one_deviation, one_deviation]
    assert z[0, [1, 3, 4, 5]].tolist() == pytest.approx([0.0] * 4, abs=1e-5)


def test_the_logarithm_keeps_its_sign() -> None:
    z = Standardise(1)(torch.tensor([[-math.expm1(1.0)], [math.expm1(1.0)]]))
    assert z[:, 1].tolist() == pytest.approx([-4 * math.tanh(0.25), 4 * math.tanh(0.25)])


def test_a_column_that_was_never_known_does_no_harm() -> None:
    module = Standardise(1)
    module.fit(torch.full((4, 1), math.nan))
    assert module(torch.tensor([[math.nan]])).tolist() == [[0.0, 0.0, 1.0]]
    assert torch.isfinite(module(torch.tensor([[7.0]]))).all()


def test_far_outside_of_training_the_value_saturates() -> None:
    assert Standardise(1)(torch.tensor([[1e9]]))[0, 0] == pytest.approx(4.0)


def test_unknown_equals_the_training_mean_except_for_its_indicator() -> None:
    module, pooled = head(), torch.randn(1, 6)
    unknown = module.inputs(pooled, torch.tensor([[10.0, math.nan]]), covariates(math.nan, 180.0))
    known = module.inputs(pooled, torch.tensor([[10.0, 0.5]]), covariates(50.0, 180.0))
    difference = (unknown - known)[0]
    assert difference.nonzero().flatten().tolist() == [9, 10]  # indicators of facts 1 and 2
    assert difference[9:11].tolist() == [1.0, 1.0]


def test_unknown_leaves_the_answer_finite_and_the_gradient_of_the_known_intact() -> None:
    module = head()
    measurements = torch.tensor([[8.0, math.nan]], requires_grad=True)
    logits = module(torch.randn(1, 6), measurements, covariates(math.nan, math.nan))
    assert torch.isfinite(logits).all()
    (gradient,) = torch.autograd.grad(logits.sum(), measurements)
    assert gradient[0, 0] != 0
    assert gradient[0, 1] == 0


def test_members_are_averaged() -> None:
    module, pooled = head(), torch.randn(2, 6)
    facts = torch.rand(2, 2)
    known = {name: torch.tensor([40.0, 60.0]) for name in CONFIG.covariates}
    vector = module.inputs(pooled, facts, known)
    expected = sum(member(vector) for member in module.members) / 3
    torch.testing.assert_close(module(pooled, facts, known), expected)


def test_without_an_embedding_the_images_are_not_read() -> None:
    module = head(HeadConfig(covariates=("age_years", "height_cm"), embedding=0, hidden=8))
    facts, known = torch.rand(1, 2), covariates(50.0, 170.0)
    a, b = (module(pooled, facts, known) for pooled in (torch.zeros(1, 6), torch.ones(1, 6)))
    torch.testing.assert_close(a, b)


def test_global_pooling_is_always_there_to_fall_back_to() -> None:
    with pytest.raises(ValidationError, match="must start with 'global'"):
        HeadConfig(pooling=("mask",))
