"""Two processes balance as one process with both batches, also where one lacks a task."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import TypeAdapter
from torch import Tensor, nn

from medmtl.balancing.configs import BalancerConfig
from medmtl.balancing.table import build_balancer

SETTINGS: list[dict[str, object]] = [
    {"name": "sum"},
    {"name": "uw"},
    {"name": "dwa", "window": 1},
    {"name": "famo"},
    {"name": "mgda"},
    {"name": "gradvac", "on": "weights"},
    {"name": "gradnorm", "initial_batches": 1},
]
TASKS = ("a", "b")
STEPS = 3
FALLS = {"a": 0.9, "b": 0.7}
"""What FAMO is told of the losses after a step, relative to before."""


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"e": nn.Linear(4, 3), "a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})


def samples(step: int) -> Tensor:
    """(rank, sample, input)"""
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(step))


def losses_of(net: nn.ModuleDict, x: Tensor, b: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Task a of all samples `x`; task b of those where `b`, absent if there are none."""
    features = net["e"](x)
    features = features.view_as(features)
    losses = {"a": net["a"](features).square().mean()}
    if b.any():
        losses["b"] = (net["b"](features[b]) - 1).square().mean()
    return losses, [features]


def run(settings: dict[str, object], rank: int | None, *, lacks_b: bool) -> dict[str, object]:
    """Of one rank, or of one process that has the samples of both ranks."""
    net = network()
    config: BalancerConfig = TypeAdapter(BalancerConfig).validate_python(settings)
    balancer = build_balancer(config, TASKS)
    weights = {}
    for step in range(STEPS):
        net.zero_grad()
        has_b = torch.ones(2, 5, dtype=torch.bool)
        has_b[1] = not lacks_b
        x = samples(step)
        mine = slice(None) if rank is None else slice(rank, rank + 1)
        losses, features = losses_of(net, x[mine].flatten(0, 1), has_b[mine].flatten())
        weights = balancer.backward(losses, features=features).weights
        after = {task: loss.detach() * FALLS[task] for task, loss in losses.items()}
        balancer.after_step(lambda after=after: after)  # type: ignore[misc]
        for weight in net.parameters():
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            if rank is not None:
                dist.all_reduce(gradient)
                gradient /= 2
            weight.grad = gradient
    learned = [weight.grad for weight in balancer.parameters()]
    found = {name: weight.grad for name, weight in net.named_parameters()}
    return {"gradients": found, "weights": weights, "learned": learned}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = [
        run(settings, rank, lacks_b=lacks_b) for settings in SETTINGS for lacks_b in (False, True)
    ]
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()  # gloo ends a process whose peer leaves while it still talks
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, object]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("lacks_b", [False, True], ids=["complete", "rank 1 lacks b"])
@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=[str(s["name"]) for s in SETTINGS])
def test_two_ranks_are_one_process_with_both_batches(
    found: list[list[dict[str, object]]], number: int, lacks_b: bool
) -> None:
    first, second = (rank[2 * number + lacks_b] for rank in found)
    alone = run(SETTINGS[number], None, lacks_b=lacks_b)
    assert first["weights"] == second["weights"]
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
    for key in ("gradients", "learned"):
        torch.testing.assert_close(first[key], second[key])
        torch.testing.assert_close(first[key], alone[key], rtol=1e-4, atol=1e-5)
