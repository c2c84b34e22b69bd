"""Training in float16 with a scaled loss, which a CPU can do too, slowly."""

from __future__ import annotations

import math

import pytest
import torch

from medmtl.balancing.configs import BalancerConfig, MGDAConfig, SumConfig
from medmtl.balancing.table import build_balancer
from medmtl.networks.joint import JointNet
from medmtl.training.loop import FitOptions, StepReport, TrainState, train_steps
from medmtl.training.objective import JointObjective
from tests.unit.training.test_objective import batch, net

STEPS = 6
TASKS = ("segmentation", "diagnosis")


def start(balancer: BalancerConfig, *, is_half: bool) -> tuple[TrainState, FitOptions]:
    model = net()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    options = FitOptions(steps=STEPS, peak_lr=1e-2, warmup_steps=2, is_half=is_half)
    return TrainState.start(model, options, balancer=build_balancer(balancer, TASKS)), options


def learn(state: TrainState, options: FitOptions) -> list[StepReport]:
    objective = JointObjective(precision="float16" if options.is_half else "float32")
    return list(train_steps(state, iter([batch()] * STEPS), objective, options))


@pytest.mark.parametrize("balancer", [SumConfig(), MGDAConfig()], ids=lambda config: config.name)
def test_it_learns_what_float32_learns(balancer: BalancerConfig) -> None:
    exact, half = (learn(*start(balancer, is_half=is_half)) for is_half in (False, True))
    for wanted, found in zip(exact, half, strict=True):
        assert found.losses == pytest.approx(wanted.losses, rel=2e-2)
        assert found.gradient_norm == pytest.approx(wanted.gradient_norm, rel=5e-2)
        assert found.balance.weights == pytest.approx(wanted.balance.weights, abs=5e-2)
    assert half[-1].losses["segmentation"] < half[0].losses["segmentation"]


def test_a_step_that_overflows_is_left_out_and_the_scale_falls() -> None:
    state, options = start(SumConfig(), is_half=True)
    state.scaler.load_state_dict(state.scaler.state_dict() | {"scale": 2.0**30})
    before = [weight.clone() for weight in weights_of(state)]
    objective = JointObjective(precision="float16")
    steps = train_steps(state, iter([batch()] * STEPS), objective, options)
    assert math.isnan(next(steps).gradient_norm)
    assert all(
        torch.equal(one, other) for one, other in zip(before, weights_of(state), strict=True)
    )
    assert state.scaler.get_scale() == 2.0**29
    list(steps)
    assert state.scaler.get_scale() == 2.0 ** (30 - STEPS), "a step of these numbers overflows yet"


def weights_of(state: TrainState) -> list[torch.Tensor]:
    assert isinstance(state.model, JointNet)
    return [weight.detach() for weight in state.model.parameters()]
