"""Losses to one loss: torchjd's scalarizers, made to bear that a task is missing.

Each takes the losses present, by task, and gives a scalar; its gradient with respect to the losses
is the weight of each task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torchjd.scalarization import DWA, FAMO, Scalarizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["EachTask", "Forgetful", "RemembersChange", "RemembersRates"]


def _stack(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values()))


class Forgetful(nn.Module):
    """A scalarizer without memory, made anew for the tasks present."""

    def __init__(self, make: Callable[[tuple[str, ...]], Scalarizer]) -> None:
        super().__init__()
        self.make = make

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Scalar of the losses present."""
        value: Tensor = self.make(tuple(losses))(_stack(losses))
        return value


class EachTask(nn.Module):
    """A sum of terms with one learned number each (UW, IMTL-L).

    The number of a missing task has no gradient at all, so that no optimiser moves it.
    """

    def __init__(self, tasks: Sequence[str], make: Callable[[], Scalarizer]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.each = nn.ModuleList(make() for _ in tasks)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Sum of the terms of the tasks present."""
        terms = [
            self.each[self.tasks.index(task)](loss.reshape(1)) for task, loss in losses.items()
        ]
        return torch.stack(terms).sum()


class RemembersRates(nn.Module):
    """Dynamic weight average (arXiv:1803.10704) whose epoch is a number of batches of each task.

    A missing task keeps its averages; the weights of those present sum to their number.
    """

    def __init__(self, tasks: Sequence[str], *, temperature: float, window: int) -> None:
        super().__init__()
        self.temperature, self.window = temperature, window
        self.averages: dict[str, list[float]] = {task: [] for task in tasks}
        self.current: dict[str, list[float]] = {task: [] for task in tasks}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum; the losses are remembered."""
        dwa = DWA(self.temperature)
        if all(len(self.averages[task]) == 2 for task in losses):
            for age in range(2):
                dwa(torch.tensor([self.averages[task][age] for task in losses]))
                dwa.step()
        value: Tensor = dwa(_stack(losses))
        for task, loss in losses.items():
            self._remember(task, float(loss.detach()))
        return value

    def _remember(self, task: str, loss: float) -> None:
        self.current[task].append(loss)
        if len(self.current[task]) == self.window:
            self.averages[task] = [*self.averages[task], sum(self.current[task]) / self.window][-2:]
            self.current[task] = []

    def get_extra_state(self) -> dict[str, Any]:
        """Averages and losses since."""
        names = ("averages", "current")
        return {n: {t: list(v) for t, v in getattr(self, n).items()} for n in names}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_extra_state`."""
        for name in ("averages", "current"):
            setattr(self, name, {task: list(values) for task, values in state[name].items()})


class _ResumableFAMO(FAMO):
    """torchjd's FAMO with its optimiser and the losses before the step in its state."""

    def get_extra_state(self) -> dict[str, Any]:
        optimiser = self._optimizer.state_dict() if self._optimizer else None
        return {"optimiser": optimiser, "before": self._prev_losses}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self._prev_losses = state["before"]
        self._optimizer = None
        if state["optimiser"] is not None:
            self._optimizer = Adam([self._w], lr=self.lr, weight_decay=self.weight_decay)
            self._optimizer.load_state_dict(state["optimiser"])


class RemembersChange(nn.Module):
    """FAMO (arXiv:2306.03792), with a memory for each set of tasks that occurs together."""

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        lr: float,
        weight_decay: float,
        min_losses: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.numbers = {"lr": lr, "weight_decay": weight_decay}
        self.min_losses = dict(min_losses)
        self.memories: dict[tuple[str, ...], _ResumableFAMO] = {}

    def _memory(self, tasks: tuple[str, ...]) -> _ResumableFAMO:
        if tasks not in self.memories:
            lowest = torch.tensor([self.min_losses.get(task, 0.0) for task in tasks])
            self.memories[tasks] = _ResumableFAMO(len(tasks), lowest, **self.numbers)
        return self.memories[tasks]

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Normalised sum of the logarithms."""
        value: Tensor = self._memory(tuple(losses))(_stack(losses))
        return value

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Learn from the losses of the same batch after the step."""
        self._memory(tuple(losses)).update(_stack(losses))

    def get_extra_state(self) -> dict[str, Any]:
        """State of every memory."""
        return {"+".join(tasks): famo.state_dict() for tasks, famo in self.memories.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Continue from `get_extra_state`."""
        self.memories = {}
        for joined, memory in state.items():
            self._memory(tuple(joined.split("+"))).load_state_dict(memory)
