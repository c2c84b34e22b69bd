"""Two processes learn what one would, whatever one of them lacks."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from medmtl.balancing.configs import SumConfig, UWConfig
from medmtl.balancing.table import build_balancer
from medmtl.training.distributed import Ranks
from medmtl.training.loop import FitOptions, TaskLosses, TrainState, train_steps

TASKS = ("a", "b")
OPTIONS = FitOptions(steps=5, peak_lr=0.05, warmup_steps=2, ema_decay=0.5)
BALANCERS: dict[str, SumConfig | UWConfig] = {"sum": SumConfig(), "uw": UWConfig()}
Rows = tuple[Tensor, Tensor, Tensor]


class Net(nn.Module):
    """A trunk and a head per task."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({task: nn.Linear(4, 1) for task in TASKS})


def rows(step: int) -> Rows:
    """Four rows; in odd steps the second half, which is that of rank 1, knows nothing of b."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(4, 3, generator=generator)
    b = x[:, :1].clone()
    if step % 2:
        b[2:] = torch.nan
    return x, x.sum(dim=1, keepdim=True), b


def objective(model: nn.Module, batch: Rows) -> TaskLosses:
    assert isinstance(model, Net)
    x, *targets = batch
    feature = torch.tanh(model.trunk(x))
    losses = {}
    for task, target in zip(TASKS, targets, strict=True):
        known = ~target.isnan()
        if bool(known.any()):
            answer = model.heads[task](feature)
            losses[task] = (answer[known] - target[known]).square().mean()
    return TaskLosses(losses, [feature])


def learn(name: str, ranks: Ranks) -> dict[str, Tensor]:
    """The weights after five steps on this process's part of the rows."""
    torch.manual_seed(0)
    net = Net()
    state = TrainState.start(net, OPTIONS, balancer=build_balancer(BALANCERS[name], TASKS))
    part = slice(None) if ranks.world == 1 else slice(2 * ranks.rank, 2 * ranks.rank + 2)
    batches = (tuple(values[part] for values in rows(step)) for step in range(OPTIONS.steps))
    for _ in train_steps(state, iter(batches), objective, OPTIONS, ranks=ranks):
        pass
    return {name: value.clone() for name, value in state.delivered.state_dict().items()}


def _process(rank: int, folder: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {name: learn(name, Ranks(rank, 2)) for name in BALANCERS}
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()  # gloo ends a process whose peer leaves while it still talks
    dist.destroy_process_group()


def test_two_gloo_processes_match_one_with_a_task_missing_on_one(tmp_path: Path) -> None:
    spawn(_process, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in BALANCERS:
        for key, value in learn(name, Ranks()).items():
            for rank in range(2):
                torch.testing.assert_close(found[rank][name][key], value, rtol=1e-4, atol=1e-5)


def test_one_process_needs_no_group() -> None:
    ranks = Ranks()
    assert ranks.gather("x") == ["x"]
    assert ranks.any(flag=True)
    assert not ranks.any(flag=False)
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    ranks.average_gradients([weight])
    assert torch.equal(weight.grad, torch.ones(2))


def test_shares_part_the_cases() -> None:
    shares = [Ranks(rank, 3).share(range(8)) for rank in range(3)]
    assert sorted(shares[0] + shares[1] + shares[2]) == list(range(8))
    assert replace(Ranks(), rank=1).is_main is False
