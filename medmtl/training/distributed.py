"""Several processes: one copy of the network each, gradients averaged by hand.

DistributedDataParallel averages gradients while they are computed, and waits for every parameter;
balancers compute several gradients, and a process whose batch lacks a task has none for its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Ranks", "join_ranks", "leave_ranks"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; the default is this one alone.

    Attributes:
        rank: Number of this process.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def any(self, *, flag: bool) -> bool:
        """Whether the flag is set on any process."""
        return flag if self.world == 1 else any(self.gather(flag))

    def gather(self, item: Item) -> list[Item]:
        """The items of all processes, on all of them, in order of rank."""
        if self.world == 1:
            return [item]
        items: list[Item | None] = [None] * self.world
        dist.all_gather_object(items, item)
        return [one for one in items if one is not None]

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean of `.grad` over the processes; no gradient counts as zero where others have one."""
        if self.world == 1:
            return
        own = list(parameters)
        device = own[0].device
        has_grad = torch.tensor([float(p.grad is not None) for p in own], device=device)
        pieces = [_gradient(p).flatten().to(device) for p in own]
        means = self._mean(torch.cat([has_grad, *pieces]))
        flags, flat = means[: len(own)].tolist(), means[len(own) :]
        for parameter, flag, mean in zip(
            own, flags, torch.split(flat, [p.numel() for p in own]), strict=True
        ):
            if flag > 0:
                parameter.grad = mean.view_as(parameter).to(parameter.device)

    @torch.no_grad()
    def average_buffers(self, model: nn.Module) -> None:
        """Mean of floating buffers (batch statistics) over the processes."""
        buffers = [b for b in model.buffers() if b.dtype.is_floating_point and b.numel()]
        if self.world == 1 or not buffers:
            return
        flat = self._mean(torch.cat([buffer.flatten() for buffer in buffers]))
        pieces = torch.split(flat, [b.numel() for b in buffers])
        for buffer, mean in zip(buffers, pieces, strict=True):
            buffer.copy_(mean.view_as(buffer))

    def _mean(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values / self.world

    def share(self, items: Sequence[Item]) -> list[Item]:
        """Every `world`-th item, from this process's rank on."""
        return list(items[self.rank :: self.world])


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def join_ranks(device: torch.device) -> Ranks:
    """Join the processes that `torchrun` started; this one alone where it did not."""
    if not dist.is_torchelastic_launched():
        return Ranks()
    if device.type == "cuda":
        torch.cuda.set_device(dist.get_node_local_rank())
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave_ranks() -> None:
    """Take leave of the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
