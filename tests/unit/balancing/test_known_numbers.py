"""Numbers known on paper, and what theory says of features and weights."""

import math
from collections.abc import Callable

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torchjd.aggregation import UPGrad
from torchjd.autojac import jac_to_grad, mtl_backward

from medmtl.balancing.balancer import Balancer
from medmtl.balancing.configs import (
    BalancerConfig,
    ConFIGConfig,
    DWAConfig,
    FixedConfig,
    GradDropConfig,
    GradNormConfig,
    IMTLGConfig,
    IMTLLConfig,
    MGDAConfig,
    NashMTLConfig,
    PCDConfig,
    PCGradConfig,
    SumConfig,
    TrimmedMeanConfig,
    UPGradConfig,
    UWConfig,
)
from medmtl.balancing.table import BALANCERS, build_balancer

ANY: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
NAMES = "abc"


def balanced(config: BalancerConfig, *rows: tuple[float, ...]) -> tuple[list[float], Balancer]:
    """Gradient of features whose task gradients are the rows."""
    point = torch.zeros(len(rows[0]), requires_grad=True)
    tasks = tuple(NAMES[: len(rows)])
    balancer = build_balancer(config, tasks)
    losses = {
        task: torch.dot(torch.tensor(row), point) + 1 for task, row in zip(tasks, rows, strict=True)
    }
    balancer.backward(losses, features=[point])
    assert point.grad is not None
    return point.grad.tolist(), balancer


@pytest.mark.parametrize(
    ("config", "rows", "wanted"),
    [
        (SumConfig(), [(1.0, 0.0), (2.0, 3.0)], [3.0, 3.0]),
        (FixedConfig(weights={"b": 0.5}), [(1.0, 0.0), (2.0, 4.0)], [2.0, 2.0]),
        # g1 = (1, 0), g2 = (-1, 1): g1 becomes (1/2, 1/2), g2 becomes (0, 1).
        (PCGradConfig(), [(1.0, 0.0), (-1.0, 1.0)], [0.5, 1.5]),
        (PCGradConfig(), [(1.0, 0.0), (1.0, 1.0)], [2.0, 1.0]),  # no conflict: the sum
        # The point of the segment from (2, 0) to (0, 1) closest to the origin.
        (MGDAConfig(), [(2.0, 0.0), (0.0, 1.0)], [0.4, 0.8]),
        (MGDAConfig(), [(1.0, 0.0), (3.0, 0.0)], [1.0, 0.0]),
        # Equal projections on both unit gradients, weights summing to 1.
        (IMTLGConfig(), [(2.0, 0.0), (0.0, 1.0)], [2 / 3, 2 / 3]),
        # Direction of equal cosine, as long as the projections of both gradients together.
        (ConFIGConfig(), [(2.0, 0.0), (0.0, 1.0)], [1.5, 1.5]),
        # G a = 1 / a: orthogonal gradients are all brought to the same length.
        (NashMTLConfig(max_norm=0), [(2.0, 0.0), (0.0, 1.0)], [math.sqrt(2.5)] * 2),
        (NashMTLConfig(), [(2.0, 0.0), (0.0, 1.0)], [math.sqrt(2.5 / 2)] * 2),
        # Half of each gradient, projected where it would hurt the other: (1/4, 1/4) + (0, 1/2).
        (UPGradConfig(), [(1.0, 0.0), (-1.0, 1.0)], [0.25, 0.75]),
        (TrimmedMeanConfig(), [(1.0, 9.0), (2.0, 5.0), (9.0, 1.0)], [2.0, 5.0]),
        (GradDropConfig(), [(1.0, -2.0), (3.0, -1.0)], [4.0, -3.0]),  # signs agree: the sum
        # Without conflict the primary gradient, here that of the second task.
        (PCDConfig(primary="b", tau=0.0), [(1.0, 0.0), (1.0, 2.0)], [1.0, 2.0]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_on_paper(
    config: BalancerConfig, rows: list[tuple[float, ...]], wanted: list[float]
) -> None:
    assert balanced(config, *rows)[0] == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3])
@pytest.mark.parametrize("name", [name for name in BALANCERS if name not in {"graddrop", "random"}])
def test_the_size_of_gradients_changes_no_weights(name: str, size: float) -> None:
    """Gradients of features are small: no constant of a solver may take them for zero."""
    on = {} if name != "excess_mtl" else {"warmup_batches": 10}
    config = ANY.validate_python({"name": name, **on})
    rows = [(1.0, 0.0, 1.0), (-1.0, 1.0, 0.5), (0.2, 0.4, -1.0)]
    torch.manual_seed(0)
    plain = balanced(config, *rows)[0]
    torch.manual_seed(0)
    sized = balanced(config, *[(a * size, b * size, c * size) for a, b, c in rows])[0]
    assert [value / size for value in sized] == pytest.approx(plain, rel=1e-3, abs=1e-5)


def test_nash_of_three_tasks_is_the_bargaining_solution() -> None:
    rows = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 1.0, 0.5], [0.2, 0.4, -1.0]])
    gradient, _ = balanced(NashMTLConfig(max_norm=0), *map(tuple, rows.tolist()))
    weights = torch.linalg.solve(rows.T, torch.tensor(gradient))
    scale = (rows @ rows.T).diagonal().mean()
    torch.testing.assert_close(rows @ rows.T / scale @ weights, 1 / weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "weight", "slope"),
    [
        (UWConfig(), 0.5, lambda loss: 0.5 - 0.5 * loss),  # L / 2 exp(-s) + s / 2 at s = 0
        (IMTLLConfig(), 1.0, lambda loss: loss - 1),  # exp(s) L - s at s = 0
    ],
)
def test_learned_weights(
    config: BalancerConfig, weight: float, slope: Callable[[float], float]
) -> None:
    balancer = build_balancer(config, ("a", "b"))
    x = torch.tensor(3.0, requires_grad=True)
    balancer.backward({"a": 2 * x}, scale=4.0)
    a, b = balancer.parameters()
    assert x.grad is not None
    assert x.grad.item() == pytest.approx(weight * 2 * 4)
    assert a.grad is not None
    assert a.grad.item() == pytest.approx(slope(6.0) * 4)
    assert b.grad is None  # a missing task: no optimiser moves its weight


def test_dwa_weighs_the_task_that_falls_slower() -> None:
    balancer = build_balancer(DWAConfig(temperature=2.0, window=1), ("a", "b"))
    x = torch.ones((), requires_grad=True)
    weights = {}
    for a, b in ((1.0, 1.0), (0.5, 1.0), (0.4, 0.9)):
        weights = balancer.backward({"a": a * x, "b": b * x}).weights
    share = math.exp(0.5 / 2) / (math.exp(0.5 / 2) + math.exp(1.0 / 2))
    assert weights == pytest.approx({"a": 2 * share, "b": 2 * (1 - share)})


def test_dwa_of_a_missing_task_stands_still() -> None:
    balancer = build_balancer(DWAConfig(window=1), ("a", "b"))
    x = torch.ones((), requires_grad=True)
    for a in (1.0, 0.5):
        balancer.backward({"a": a * x, "b": x})
    for _ in range(5):
        balancer.backward({"b": x})  # b stands still, so its rate stays 1; a's stays 1/2
    weights = balancer.backward({"a": 0.4 * x, "b": x}).weights
    share = math.exp(0.5 / 2) / (math.exp(0.5 / 2) + math.exp(1.0 / 2))
    assert weights == pytest.approx({"a": 2 * share, "b": 2 * (1 - share)})


def test_gradnorm_gives_weight_to_the_task_that_falls_slower() -> None:
    balancer = build_balancer(GradNormConfig(lr=0.05, initial_batches=1), ("a", "b"))
    weights = {}
    for step in range(40):
        point = torch.zeros(2, requires_grad=True)
        fast = 0.95**step
        losses = {"a": point[0] + fast, "b": point[1] + 1.0}  # gradients of equal norm
        weights = balancer.backward(losses, features=[point]).weights
        assert sum(weights.values()) == pytest.approx(2.0)
    assert weights["b"] > 1.2
    assert weights["a"] < 0.8


def test_gradnorm_without_alpha_makes_the_norms_equal() -> None:
    balancer = build_balancer(GradNormConfig(alpha=0, lr=0.02, initial_batches=1), ("a", "b"))
    weights = {}
    for _ in range(200):
        point = torch.zeros(2, requires_grad=True)
        losses = {"a": 3 * point[0] + 1, "b": point[1] + 1}
        weights = balancer.backward(losses, features=[point]).weights
    assert weights["a"] * 3 == pytest.approx(weights["b"], rel=0.1)


def test_gradnorm_of_a_missing_task_keeps_its_weight() -> None:
    balancer = build_balancer(GradNormConfig(initial_batches=1), ("a", "b", "c"))
    for step in range(5):
        point = torch.zeros(3, requires_grad=True)
        losses = {"a": point[0] + 1, "b": 5 * point[1] + 1}
        if step == 0:
            losses["c"] = point[2] + 1
            first = balancer.backward(losses, features=[point]).weights["c"]
            kept = balancer.state_dict()["weights"]["c"]
        else:
            balancer.backward(losses, features=[point])
    assert first == 1.0
    state = balancer.state_dict()["weights"]
    assert state["c"] == kept
    assert sum(state.values()) == pytest.approx(3.0)


class Joint(nn.Module):
    """Linear encoder; the second task reads the first one's output too, as a diagnosis does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, 3).double()
        self.masks = nn.Linear(3, 2).double()
        self.head = nn.Linear(5, 1).double()

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = self.encoder(x)
        features = features.view_as(features)
        masks = self.masks(features)
        finding = self.head(torch.cat([features, masks], dim=-1))
        losses = {"a": masks.square().mean(), "b": (finding - 1).square().mean()}
        return losses, [features]


def gradients_of(config: BalancerConfig, net: Joint, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    losses, features = net(x)
    build_balancer(config, ("a", "b")).backward(losses, features=features)
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


X = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("on", ["features", "weights"])
def test_without_conflict_surgery_is_the_plain_sum(on: str) -> None:
    net = Joint()
    losses, _ = net(X)
    torch.autograd.backward(losses["a"] * 2 + losses["a"])
    plain = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    losses, features = net(X)
    config = ANY.validate_python({"name": "pcgrad", "on": on})
    build_balancer(config, ("a", "b")).backward(
        {"a": losses["a"] * 2, "b": losses["a"]}, features=features
    )
    for name, gradient in plain.items():
        torch.testing.assert_close(net.get_parameter(name).grad, gradient)


@pytest.mark.parametrize("on", ["features", "weights"])
@pytest.mark.parametrize("name", ["mgda", "upgrad", "graddrop"])
def test_what_is_not_shared_gets_the_plain_gradient_of_both_tasks(name: str, on: str) -> None:
    net = Joint()
    plain = gradients_of(SumConfig(), net, X)
    found = gradients_of(ANY.validate_python({"name": name, "on": on}), net, X)
    for own in ("masks.weight", "masks.bias", "head.weight", "head.bias"):
        torch.testing.assert_close(found[own], plain[own])
    assert not torch.allclose(found["encoder.weight"], plain["encoder.weight"])


def test_one_sample_and_a_linear_encoder_make_features_and_weights_agree() -> None:
    """Its weights' gradients are the features' times the input, so all inner products scale."""
    net = Joint()
    on_features = gradients_of(ANY.validate_python({"name": "mgda"}), net, X[:1])
    on_weights = gradients_of(ANY.validate_python({"name": "mgda", "on": "weights"}), net, X[:1])
    for name, gradient in on_features.items():
        torch.testing.assert_close(on_weights[name], gradient, rtol=1e-5, atol=1e-8)


def test_on_weights_is_what_torchjd_computes() -> None:
    net = Joint()
    found = gradients_of(ANY.validate_python({"name": "upgrad", "on": "weights"}), net, X)
    net.zero_grad()
    losses, read = net(X)
    heads = [list(net.masks.parameters()), list(net.head.parameters())]
    mtl_backward(
        [losses["a"], losses["b"]],
        features=read,
        tasks_params=heads,
        shared_params=list(net.encoder.parameters()),
        retain_graph=True,
    )
    jac_to_grad(list(net.encoder.parameters()), UPGrad())
    for name in ("encoder.weight", "encoder.bias"):
        torch.testing.assert_close(found[name], net.get_parameter(name).grad, rtol=1e-3, atol=1e-6)
