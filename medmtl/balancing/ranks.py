"""What the processes of one run tell each other, so that all balance alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Present", "count_ranks", "gather_losses", "of_first_rank", "sum_over_ranks"]


@dataclass(frozen=True, eq=False)
class Present:
    """The tasks that any rank has in this batch.

    Attributes:
        tasks: Their names, in the order of all tasks.
        values: (P,) float32 on the CPU, the mean loss over the ranks that have the task.
        factors: For each task the number of ranks over the number of those that have it: with it
            the mean of the gradients over all ranks becomes the mean over these.
    """

    tasks: tuple[str, ...]
    values: Tensor
    factors: dict[str, float]


def count_ranks() -> int:
    """Number of processes of the run, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum over the ranks, in place."""
    if count_ranks() > 1:
        dist.all_reduce(tensor)
    return tensor


def of_first_rank(tensor: Tensor, device: torch.device) -> Tensor:
    """The first rank's numbers, so that random choices agree; on the device of `tensor`."""
    if count_ranks() == 1:
        return tensor
    shared = tensor.to(device)
    dist.broadcast(shared, src=0)
    return shared.to(tensor.device)


def gather_losses(
    losses: Mapping[str, Tensor], tasks: Sequence[str], device: torch.device
) -> Present:
    """Which tasks are present anywhere, with their mean losses.

    Raises:
        ConfigError: If a loss belongs to no task.
    """
    if unknown := [name for name in losses if name not in tasks]:
        raise ConfigError(f"Losses {unknown} belong to none of the tasks {list(tasks)}.")
    nothing = torch.zeros((), device=device)
    values = [losses[t].detach().float().to(device) if t in losses else nothing for t in tasks]
    is_here = torch.tensor([float(task in losses) for task in tasks], device=device)
    sums, counts = sum_over_ranks(torch.stack([torch.stack(values), is_here])).cpu()
    rows = [row for row in range(len(tasks)) if counts[row] > 0]
    ranks = count_ranks()
    return Present(
        tuple(tasks[row] for row in rows),
        sums[rows] / counts[rows],
        {tasks[row]: ranks / float(counts[row]) for row in rows},
    )
