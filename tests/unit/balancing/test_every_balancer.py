"""What every balancer by name keeps: missing tasks, accumulation, loss scale, storage, autocast."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from medmtl.balancing.balancer import Balancer, BalanceReport
from medmtl.balancing.configs import BalancerConfig, GradientSettings
from medmtl.balancing.table import BALANCERS, build_balancer
from medmtl.core.errors import ConfigError

CONFIG: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
RANDOM = {"random", "graddrop"}
"""Different at every call, without a memory."""
FROM_THREE_TASKS = {"krum", "trimmed_mean"}
CASES = [
    (name, on, tasks)
    for name in BALANCERS
    for on, tasks in (
        ("features", ("a", "b")),
        ("features", ("a", "b", "c")),
        ("weights", ("a", "b", "c")),
    )
    if not (name in FROM_THREE_TASKS and len(tasks) < 3)
    and not (name == "excess_mtl" and on == "features")
    and ("on" in type(CONFIG.validate_python({"name": name})).model_fields or on == "features")
]
IDS = [f"{name}-{on}-{len(tasks)}" for name, on, tasks in CASES]
every = pytest.mark.parametrize(("name", "on", "tasks"), CASES, ids=IDS)


def make(name: str, on: str, tasks: tuple[str, ...]) -> Balancer:
    plain = CONFIG.validate_python({"name": name})
    settings = {"name": name} | ({"on": on} if isinstance(plain, GradientSettings) else {})
    return build_balancer(CONFIG.validate_python(settings), tasks)


class Net(nn.Module):
    """An encoder and one head per task; the features are a node of their own."""

    def __init__(self, tasks: Iterable[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        self.heads = nn.ModuleDict({task: nn.Linear(8, 1) for task in tasks})

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = self.encoder(x)
        features = features.view_as(features)
        losses = {
            task: (head(features).float() - number).square().mean() + 0.1
            for number, (task, head) in enumerate(self.heads.items())
        }
        return losses, [features]


def batch(seed: int = 1) -> Tensor:
    return torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))


def step(
    balancer: Balancer,
    net: Net,
    *,
    without: tuple[str, ...] = (),
    seed: int = 1,
    scale: float = 1.0,
) -> BalanceReport:
    torch.manual_seed(seed)
    losses, features = net(batch(seed))
    present = {task: loss for task, loss in losses.items() if task not in without}
    report = balancer.backward(present, features=features, scale=scale)
    balancer.after_step(lambda: {task: loss.detach() * 0.9 for task, loss in present.items()})
    return report


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


def assert_same(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], factor: float = 1.0
) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name] * factor, rtol=2e-4, atol=1e-6)


@every
def test_every_parameter_gets_a_finite_gradient(name: str, on: str, tasks: tuple[str, ...]) -> None:
    net = Net(tasks)
    report = step(make(name, on, tasks), net)
    found = gradients(net)
    assert len(found) == len(list(net.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in found.values())
    assert set(report.gradient_norms) == set(tasks)
    assert set(report.cosines) >= {"a:b"}
    assert all(abs(cosine) <= 1 + 1e-6 for cosine in report.cosines.values())


@pytest.mark.parametrize("has_features", [True, False])
def test_without_features_that_learn_no_norm_is_reported(has_features: bool) -> None:
    losses, features = Net("ab")(batch())
    fixed = [feature.detach() for feature in features] if has_features else []
    report = make("sum", "features", ("a", "b")).backward(losses, features=fixed)
    assert report == BalanceReport({"a": 1.0, "b": 1.0})


@every
def test_a_task_alone_passes_up_to_its_weight(name: str, on: str, tasks: tuple[str, ...]) -> None:
    plain = Net(tasks)
    torch.autograd.backward(plain(batch())[0]["b"])
    net = Net(tasks)
    others = tuple(task for task in tasks if task != "b")
    report = step(make(name, on, tasks), net, without=others)
    assert_same(gradients(net), gradients(plain), report.weights["b"])
    assert report.weights["b"] > 0


@every
def test_no_task_at_all_changes_nothing(name: str, on: str, tasks: tuple[str, ...]) -> None:
    net = Net(tasks)
    report = step(make(name, on, tasks), net, without=tasks)
    assert gradients(net) == {}
    assert report.weights == {}


@every
def test_a_missing_task_leaves_its_head_alone(name: str, on: str, tasks: tuple[str, ...]) -> None:
    net = Net(tasks)
    balancer = make(name, on, tasks)
    step(balancer, net)
    net.zero_grad()
    report = step(balancer, net, without=("a",))
    assert not [key for key in gradients(net) if key.startswith("heads.a")]
    assert "a" not in report.weights


@every
def test_micro_batches_add_up(name: str, on: str, tasks: tuple[str, ...]) -> None:
    """With memory in both: each batch adds what the same balancer gives for it alone."""
    together, apart = Net(tasks), Net(tasks)
    first, second = make(name, on, tasks), make(name, on, tasks)
    parts = []
    for seed in (1, 2):
        step(first, together, seed=seed, scale=0.5)
        apart.zero_grad()
        step(second, apart, seed=seed, scale=0.5)
        parts.append(gradients(apart))
    assert_same(gradients(together), {key: parts[0][key] + parts[1][key] for key in parts[0]})


@every
def test_a_loss_scale_scales_the_gradient_and_nothing_else(
    name: str, on: str, tasks: tuple[str, ...]
) -> None:
    plain, scaled = Net(tasks), Net(tasks)
    first, second = make(name, on, tasks), make(name, on, tasks)
    for seed in (1, 2):
        plain.zero_grad()
        scaled.zero_grad()
        unscaled_report = step(first, plain, seed=seed)
        report = step(second, scaled, seed=seed, scale=2.0**12)
    assert_same({k: g / 2.0**12 for k, g in gradients(scaled).items()}, gradients(plain))
    assert report.weights == pytest.approx(unscaled_report.weights, rel=1e-4)


@every
def test_storage_continues_to_the_same_numbers(name: str, on: str, tasks: tuple[str, ...]) -> None:
    first = make(name, on, tasks)
    net = Net(tasks)
    step(first, net)
    step(first, net, seed=2, without=("a",))
    step(first, net, seed=3)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make(name, on, tasks)
    second.load_state_dict(torch.load(file, weights_only=True))
    results = []
    for balancer in (first, second):
        net = Net(tasks)
        reports = [step(balancer, net, seed=seed).weights for seed in (4, 5)]
        results.append((gradients(net), reports))
    assert_same(results[1][0], results[0][0])
    assert results[1][1] == results[0][1]


@every
def test_bfloat16_autocast(name: str, on: str, tasks: tuple[str, ...]) -> None:
    net = Net(tasks)
    balancer = make(name, on, tasks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, features = net(batch())
    assert next(net.heads["a"].parameters()).dtype == torch.float32
    torch.manual_seed(1)
    balancer.backward(losses, features=features, scale=128.0)
    exact = Net(tasks)
    step(make(name, on, tasks), exact)
    found = torch.cat([g.flatten() for g in gradients(net).values()]) / 128.0
    wanted = torch.cat([g.flatten() for g in gradients(exact).values()])
    assert torch.isfinite(found).all()
    if name not in RANDOM | {"krum"}:  # krum chooses one gradient, by whatever is closest
        assert float(torch.nn.functional.cosine_similarity(found, wanted, dim=0)) > 0.97


ON_GRADIENTS = [case for case in CASES if hasattr(make(*case), "method")]
"""The others weigh losses, which are finite; only gradients overflow."""


@pytest.mark.parametrize(("name", "on", "tasks"), ON_GRADIENTS)
def test_an_overflow_is_left_for_the_loss_scaler(
    name: str, on: str, tasks: tuple[str, ...]
) -> None:
    net = Net(tasks)
    step(make(name, on, tasks), net, scale=float("inf"))
    assert not all(torch.isfinite(gradient).all() for gradient in gradients(net).values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "fixed", "weights": {"c": 2.0}}, "names 'c'"),
        ({"name": "pcd", "primary": "c"}, "primary names 'c'"),
        ({"name": "krum"}, "expected at least 3"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_balancer(CONFIG.validate_python(settings), ("a", "b"))


def test_a_loss_of_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of the tasks"):
        make("sum", "features", ("a", "b")).backward({"c": torch.ones((), requires_grad=True)})


def test_gradients_of_features_need_features() -> None:
    with pytest.raises(ConfigError, match="features"):
        make("mgda", "features", ("a", "b")).backward({"a": torch.ones((), requires_grad=True)})


def test_features_of_each_other_are_refused() -> None:
    net = Net(("a", "b"))
    losses, (feature,) = net(batch())
    with pytest.raises(ConfigError, match="depends on another"):
        make("mgda", "features", ("a", "b")).backward(losses, features=[feature, feature.square()])


def test_features_that_no_loss_reaches_are_refused() -> None:
    losses, _ = Net(("a", "b"))(batch())
    side = torch.ones(3, requires_grad=True)
    with pytest.raises(ConfigError, match="No loss depends"):
        make("mgda", "features", ("a", "b")).backward(losses, features=[side * 2])
