"""Sharpness-aware minimisation: the gradient of the worst place nearby, and nothing else moved."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medmtl.balancing.configs import DWAConfig, UWConfig
from medmtl.balancing.table import build_balancer
from medmtl.training.sharpness import frozen_statistics, sharpness_aware


class Quadratic(nn.Module):
    """f(w) = a w^2 / 2 in two dimensions, with gradient a w."""

    def __init__(self, start: tuple[float, float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.curvature = torch.tensor([1.0, 4.0], dtype=torch.float64)

    def forward(self) -> Tensor:
        return (self.curvature * self.weight.square()).sum() / 2


def going_back(model: nn.Module, scale: float = 1.0) -> Callable[[], None]:
    return lambda: torch.autograd.backward(model() * scale)


@pytest.mark.parametrize("scale", [1.0, 2.0**16])
def test_the_gradient_is_that_at_distance_rho_uphill(scale: float) -> None:
    model = Quadratic((3.0, 1.0))
    gradient = torch.tensor([3.0, 4.0], dtype=torch.float64)  # of length 5
    sharpness_aware(model, going_back(model, scale), rho=0.5)
    moved = torch.tensor([3.0, 1.0], dtype=torch.float64) + 0.5 * gradient / 5
    assert model.weight.grad is not None
    torch.testing.assert_close(model.weight.grad / scale, model.curvature * moved)


def test_weights_end_bit_by_bit_as_they_were() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1))
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(9, 7)
    sharpness_aware(model, lambda: model(x).square().mean().backward(), rho=0.1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_return_even_if_the_second_pass_fails() -> None:
    model = Quadratic((3.0, 1.0))
    calls: list[int] = []

    def backward() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        torch.autograd.backward(model())

    with pytest.raises(RuntimeError, match="out of memory"):
        sharpness_aware(model, backward, rho=0.5)
    assert model.weight.tolist() == [3.0, 1.0]


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1).double()
    halves = torch.randn(2, 6, 4, dtype=torch.float64)

    def in_two() -> None:
        for half in halves:
            torch.autograd.backward(model(half).square().mean() / 2)

    def at_once() -> None:
        torch.autograd.backward(model(halves.flatten(0, 1)).square().mean())

    gradients = []
    for backward in (in_two, at_once):
        model.zero_grad()
        sharpness_aware(model, backward, rho=0.3)
        assert model.weight.grad is not None
        gradients.append(model.weight.grad.clone())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_running_statistics_see_each_batch_once() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3) * 2 + 5
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    plain = copy.deepcopy(model)
    plain(x)
    sharpness_aware(model, lambda: model(x).square().mean().backward(), rho=0.5)
    for name, value in plain[1].state_dict().items():
        assert torch.equal(model[1].state_dict()[name], value), name
    model(x)  # and are updated again afterwards
    assert model[1].state_dict()["num_batches_tracked"].item() == 2


def test_frozen_statistics_normalise_by_the_batch() -> None:
    x = torch.randn(64, 2) * 3 + 7
    norm = nn.BatchNorm1d(2)
    with frozen_statistics(norm):
        y = norm(x)
    torch.testing.assert_close(y.mean(dim=0), torch.zeros(2), atol=1e-5, rtol=0)
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_an_overflow_is_left_for_the_loss_scaler(value: float) -> None:
    model = Quadratic((3.0, 1.0))
    calls: list[int] = []

    def backward() -> None:
        calls.append(1)
        torch.autograd.backward(model() * value)

    sharpness_aware(model, backward, rho=0.5)
    assert len(calls) == 1
    assert model.weight.grad is not None
    assert not torch.isfinite(model.weight.grad).all()
    assert model.weight.tolist() == [3.0, 1.0]


def test_a_balancer_learns_from_the_first_pass_only() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    once, twice = (build_balancer(DWAConfig(window=2), ("a", "b")) for _ in range(2))

    def backward() -> dict[str, float]:
        a, b = model(x).square().mean(dim=0)
        return twice.backward({"a": a, "b": b}).weights

    a, b = model(x).square().mean(dim=0)
    once.backward({"a": a, "b": b})
    weights = sharpness_aware(model, backward, rho=0.5, remembers=[twice])
    assert twice.state_dict() == once.state_dict()
    assert weights == {"a": 1.0, "b": 1.0}


def test_learned_weights_of_a_balancer_get_the_gradient_of_one_pass() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    balancer = build_balancer(UWConfig(), ("a", "b"))

    def backward() -> None:
        a, b = model(x).square().mean(dim=0)
        balancer.backward({"a": a, "b": b})

    backward()
    alone = [weight.grad for weight in balancer.parameters()]
    for weight in (*model.parameters(), *balancer.parameters()):
        weight.grad = None
    sharpness_aware(model, backward, rho=1e-6, remembers=[balancer])
    for weight, gradient in zip(balancer.parameters(), alone, strict=True):
        assert weight.grad is not None
        assert gradient is not None
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-3, atol=1e-5)


def test_bfloat16_autocast() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1))
    x = torch.randn(10, 6)

    def backward() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(x).float().square().mean()
        loss.backward()

    sharpness_aware(model, backward, rho=0.05)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
