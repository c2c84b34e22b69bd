"""Two processes balance as one process with both batches: by every method, where one lacks a task,
in mixed precision, with a loss scale and accumulated micro-batches.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pydantic import TypeAdapter
from torch import Tensor, nn

from medmtl.balancing.configs import BalancerConfig, GradientSettings
from medmtl.balancing.gradient_table import MIN_TASKS
from medmtl.balancing.table import BALANCERS, build_balancer

CONFIG: TypeAdapter[BalancerConfig] = TypeAdapter(BalancerConfig)
EARLY: dict[str, dict[str, object]] = {"dwa": {"window": 1}, "gradnorm": {"initial_batches": 1}}
"""So that what they remember counts within the few steps."""
FROM_ELEMENTS = {"name": "graddrop", "on": "features"}
"""Draws for each element of the features, which one process has in one tensor and two in two."""


def every() -> list[dict[str, object]]:
    """The settings of each method, once per place where it can work."""
    found: list[dict[str, object]] = []
    for name in BALANCERS:
        plain = {"name": name} | EARLY.get(name, {})
        is_on = isinstance(CONFIG.validate_python(plain), GradientSettings)
        places = ["weights"] if name == "excess_mtl" else ["features", "weights"]
        found += [plain | {"on": place} for place in places] if is_on else [plain]
    return found


@dataclass(frozen=True)
class Mode:
    """What the steps are like.

    Attributes:
        b: For each micro-batch and rank whether it knows task b.
        is_mixed: Whether the forward pass is in bfloat16 and the loss scaled.
    """

    b: tuple[tuple[bool, bool], ...]
    is_mixed: bool = False


MODES = {
    "complete": Mode(((True, True),)),
    "rank 1 lacks b": Mode(((True, False),)),
    "mixed and accumulated, then both lack b": Mode(((True, False), (False, False)), is_mixed=True),
}
SETTINGS = every()
SCALE = 1024.0
STEPS = 3
FALLS = {"a": 0.9, "b": 0.7, "c": 0.8}
"""What FAMO is told of the losses after a step, relative to before."""


def tasks_of(settings: dict[str, object]) -> tuple[str, ...]:
    return ("a", "b", "c") if settings["name"] in MIN_TASKS else ("a", "b")


def network(tasks: tuple[str, ...]) -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"e": nn.Linear(4, 3)} | {task: nn.Linear(3, 1) for task in tasks})


def samples(step: int, micro: int) -> Tensor:
    """(rank, sample, input)"""
    return torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(10 * step + micro))


def losses_of(net: nn.ModuleDict, x: Tensor, b: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Task b of those samples where `b`, absent if there are none; the others of all."""
    features = net["e"](x)
    features = features.view_as(features)
    losses = {}
    for number, task in enumerate(task for task in net if task != "e"):
        known = b if task == "b" else torch.ones_like(b)
        if known.any():
            losses[task] = (net[task](features[known]).float() - number).square().mean()
    return losses, [features]


def run(settings: dict[str, object], mode: Mode, rank: int | None) -> dict[str, object]:
    """Of one rank, or of one process that has the samples of both ranks."""
    tasks = tasks_of(settings)
    net = network(tasks)
    balancer = build_balancer(CONFIG.validate_python(settings), tasks)
    mine = slice(None) if rank is None else slice(rank, rank + 1)
    scale = SCALE if mode.is_mixed else 1.0
    weights = {}
    for step in range(STEPS):
        net.zero_grad()
        losses: dict[str, Tensor] = {}
        for micro, knows in enumerate(mode.b):
            torch.manual_seed(10 * step + micro)
            has_b = torch.tensor(knows)[:, None].expand(2, 5)[mine].flatten()
            x = samples(step, micro)[mine].flatten(0, 1)
            with torch.autocast("cpu", torch.bfloat16, enabled=mode.is_mixed):
                losses, features = losses_of(net, x, has_b)
            report = balancer.backward(losses, features=features, scale=scale / len(mode.b))
            weights = report.weights
        after = {task: loss.detach() * FALLS[task] for task, loss in losses.items()}
        balancer.after_step(lambda after=after: after)  # type: ignore[misc]
        for weight in net.parameters():
            gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
            if rank is not None:
                dist.all_reduce(gradient)
                gradient /= 2
            weight.grad = gradient / scale
    learned = [weight.grad for weight in balancer.parameters()]
    found = {name: weight.grad for name, weight in net.named_parameters()}
    return {"gradients": found, "weights": weights, "learned": learned}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = [[run(settings, mode, rank) for mode in MODES.values()] for settings in SETTINGS]
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()  # gloo ends a process whose peer leaves while it still talks
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[list[dict[str, object]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, args=(str(folder),), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("place", range(len(MODES)), ids=list(MODES))
@pytest.mark.parametrize(
    "number", range(len(SETTINGS)), ids=["-".join(map(str, s.values())) for s in SETTINGS]
)
def test_two_ranks_are_one_process_with_both_batches(
    found: list[list[list[dict[str, object]]]], number: int, place: int
) -> None:
    settings, mode = SETTINGS[number], list(MODES.values())[place]
    first, second = (rank[number][place] for rank in found)
    assert first["weights"] == second["weights"]
    for key in ("gradients", "learned"):
        torch.testing.assert_close(first[key], second[key])
    if settings == FROM_ELEMENTS:
        return
    alone = run(settings, mode, None)
    # bfloat16 keeps 8 bits, and what is rounded depends on how many samples a product has.
    rtol, atol = (2e-2, 1e-2) if mode.is_mixed else (1e-4, 1e-5)
    for key in ("weights", "gradients", "learned"):
        torch.testing.assert_close(first[key], alone[key], rtol=rtol, atol=atol)
