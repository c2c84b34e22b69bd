"""How the rows of a meeting become one: torchjd's weightings and aggregators behind one interface.

Most methods need nothing but inner products, so they get the Gramian (P, P) of the tasks present,
scaled to mean squared norm 1: torchjd's small constants (norm_eps, eps) are meant for numbers of
that size, while gradients of features are often below 1e-4 and would all count as zero.

A method with a memory keeps one for each set of tasks that occurs together: a batch without a task
leaves untouched what was learned with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from medmtl.balancing.gramian import combine, factor
from medmtl.balancing.memory_order import flat_column, unflat
from medmtl.balancing.ranks import of_first_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torchjd.aggregation import Aggregator, Weighting

    from medmtl.balancing.graph import Row
    from medmtl.balancing.meeting import Meeting

__all__ = ["Elementwise", "Method", "Statistic", "Weighted"]

Statistic = Literal["gramian", "raw_gramian", "factor", "matrix"]
"""What a weighting reads: inner products (scaled or not), a square matrix with the same scaled
inner products, or the gradients themselves."""


class Method(Protocol):
    """Two or more non-zero rows to one."""

    def combine(self, meeting: Meeting, device: torch.device) -> tuple[Row, dict[str, float]]:
        """The combined row, and the weight of each task where the method has any."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Memory."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class Weighted:
    """One weight per row.

    Args:
        make: Gives the torchjd weighting of a set of tasks.
        statistic: What it reads.
        memory: Its attributes that last from batch to batch.
    """

    def __init__(
        self,
        make: Callable[[tuple[str, ...]], Weighting],
        *,
        statistic: Statistic = "gramian",
        memory: tuple[str, ...] = (),
    ) -> None:
        self.make, self.statistic, self.memory = make, statistic, memory
        self.made: dict[tuple[str, ...], Weighting] = {}

    def combine(self, meeting: Meeting, device: torch.device) -> tuple[Row, dict[str, float]]:
        """The rows times the weights of the first rank."""
        weighting = self._of(meeting.tasks)
        weights = of_first_rank(weighting(_read(meeting, self.statistic)).cpu().double(), device)
        numbers = weights.tolist()
        return combine(meeting.rows, numbers), dict(zip(meeting.tasks, numbers, strict=True))

    def _of(self, tasks: tuple[str, ...]) -> Weighting:
        if tasks not in self.made:
            self.made[tasks] = self.make(tasks)
        return self.made[tasks]

    def state_dict(self) -> dict[str, Any]:
        """The remembered attributes of every set of tasks."""
        return {
            "+".join(tasks): {name: getattr(made, name) for name in self.memory}
            for tasks, made in self.made.items()
            if self.memory
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.made = {}
        for joined, values in state.items():
            weighting = self._of(tuple(joined.split("+")))
            for name, value in values.items():
                setattr(weighting, name, value)


def _read(meeting: Meeting, statistic: Statistic) -> Tensor:
    if statistic == "raw_gramian":
        return meeting.gramian
    if statistic == "matrix":
        return torch.stack([_flat(row, meeting.rows) for row in meeting.rows])
    scaled = meeting.gramian / meeting.gramian.diagonal().mean()
    return factor(scaled) if statistic == "factor" else scaled


def _flat(row: Row, rows: list[Row]) -> Tensor:
    """One vector; points that no task reaches are left out."""
    parts = []
    for place, gradient in enumerate(row):
        other = next((one[place] for one in rows if one[place] is not None), None)
        if gradient is not None:
            parts.append(gradient.reshape(-1).float())
        elif other is not None:
            parts.append(torch.zeros_like(other).reshape(-1).float())
    return torch.cat(parts)


class Elementwise:
    """A torchjd aggregator that treats every element alone, so every point alone.

    Args:
        make: Gives the aggregator of a set of tasks.
        min_tasks: With fewer tasks present the mean is taken.
    """

    def __init__(
        self, make: Callable[[tuple[str, ...]], Aggregator], *, min_tasks: int = 2
    ) -> None:
        self.make, self.min_tasks = make, min_tasks

    def combine(self, meeting: Meeting, device: torch.device) -> tuple[Row, dict[str, float]]:  # noqa: ARG002
        """Point by point."""
        count = len(meeting.tasks)
        if count < self.min_tasks:
            weights = [1 / count] * count
            return combine(meeting.rows, weights), dict(zip(meeting.tasks, weights, strict=True))
        aggregator = self.make(meeting.tasks)
        return [_together(aggregator, column) for column in zip(*meeting.rows, strict=True)], {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing is remembered."""


def _together(aggregator: Aggregator, column: tuple[Tensor | None, ...]) -> Tensor | None:
    known = next((gradient for gradient in column if gradient is not None), None)
    if known is None:
        return None
    rows = [torch.zeros_like(known) if gradient is None else gradient for gradient in column]
    matrix = torch.stack([row.float() for row in flat_column(rows) if row is not None])
    return unflat(aggregator(matrix), known)
