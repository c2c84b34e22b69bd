"""Which cases make up the batch of a step, so that every batch teaches every task something.

The batch is a function of seed, step and task shares alone: a resumed run draws what the run before
it would have drawn, and each of several processes works out the whole batch and takes its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medmtl.core.errors import ConfigError
from medmtl.data.samples import TASKS
from medmtl.data.task_schedule import ConstantShares, ScheduleConfig, TaskScheduler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.data.label_table import LabelTable
    from medmtl.data.samples import Task

__all__ = ["AUGMENT", "Draw", "SamplingConfig", "TaskSampler"]

_SLOTS, _CYCLE, AUGMENT = 0, 1, 2
"""Streams of random numbers under one seed; NumPy takes [1, 0] and [1, 0, 0] for the same seed, so
what a place changes in its sample must not lie in the stream that drew its task."""


class SamplingConfig(BaseModel):
    """How cases are drawn.

    Attributes:
        balance: 0 draws every case that knows the task equally often, 1 in proportion to the rarity
            of what it knows (`LabelTable.rarity`); 0.5, the square root, lies between (Mahajan et
            al., ECCV 2018).
        one_task_per_case: A case teaches only the task that it was drawn for. So the shares also
            hold where every case knows every task, at the cost of labels not used.
        schedule: How often each task is drawn, beyond once per batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: float = Field(default=0.5, ge=0, le=1)
    one_task_per_case: bool = False
    schedule: ScheduleConfig = Field(default_factory=ConstantShares)


@dataclass(frozen=True)
class Draw:
    """One place of a batch.

    Attributes:
        index: Of the case in the data set.
        task: The task it was drawn for.
    """

    index: int
    task: Task


class TaskSampler:
    """Draws batches of cases.

    A process with at least as many places as there are tasks gets every task in every batch. With
    fewer places the tasks take turns over processes and steps where all processes together have
    enough places; a single place is drawn by the shares alone.

    Args:
        table: What is known of every case.
        config: How cases are drawn.
        batch_size: Cases per step and process.
        seed: Of the run.
        rank: Of this process.
        world: Number of processes.
        tasks: Tasks to be trained; those for which no case has a label are left out.

    Raises:
        ConfigError: If no case has a label for any of the tasks.
    """

    def __init__(
        self,
        table: LabelTable,
        config: SamplingConfig,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        tasks: tuple[Task, ...] = TASKS,
    ) -> None:
        self.config, self.seed = config, seed
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.tasks = tuple(task for task in tasks if table.is_known(task).any())
        if not self.tasks:
            message = f"No training case has a label for {' or '.join(tasks)}: found {len(table)} "
            raise ConfigError(message + "cases. Check the splits and the names of the labels.")
        self.scheduler = TaskScheduler(config.schedule, self.tasks)
        self._weights = {task: _weights(table, task, balance=config.balance) for task in self.tasks}

    @property
    def draws_by_shares(self) -> bool:
        """Whether any place of a batch is left for the shares to decide."""
        places = self.world * self.batch_size
        return self.batch_size > len(self.tasks) or places < len(self.tasks)

    def draw(self, step: int) -> tuple[Draw, ...]:
        """The cases of this process in a step; no case is twice in the batch of all processes.

        Only where a task has more places than there are cases that know it do cases repeat.
        """
        first = self.rank * self.batch_size
        return self._draw_all(step)[first : first + self.batch_size]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; the step it knows itself."""
        return {"scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.scheduler.load_state_dict(state["scheduler"])

    def _draw_all(self, step: int) -> tuple[Draw, ...]:
        """The places of all processes, process by process."""
        tasks = self._tasks_of_places(step)
        taken: set[int] = set()
        draws = []
        for place, task in enumerate(tasks):
            index = self._case(task, step * len(tasks) + place, taken)
            taken.add(index)
            draws.append(Draw(index, task))
        return tuple(draws)

    def _tasks_of_places(self, step: int) -> list[Task]:
        rng = np.random.default_rng([self.seed, _SLOTS, step])
        shares = self.scheduler.shares
        places = self.world * self.batch_size
        drawn = rng.choice(len(self.tasks), size=places, p=[shares[task] for task in self.tasks])
        count = len(self.tasks)
        for rank in range(self.world):
            first = rank * self.batch_size
            for place in range(min(count, self.batch_size)):
                if self.batch_size >= count:
                    drawn[first + place] = (place + step) % count
                elif places >= count:
                    drawn[first + place] = (rank * self.batch_size + place + step) % count
        return [self.tasks[number] for number in drawn]

    def _case(self, task: Task, position: int, taken: set[int]) -> int:
        """The case at a position of the task's endless stream, or the next one not taken."""
        weights = self._weights[task]
        size = int(np.count_nonzero(weights))
        key = next(i for i, other in enumerate(self.tasks)
                   if np.array_equal(self._weights[other], weights))  # fmt: skip
        cycle = _cycle(weights.tobytes(), size, (self.seed, _CYCLE, key, position // size))
        for offset in range(size):
            index = int(cycle[(position + offset) % size])
            if index not in taken:
                return index
        free = [i for i in np.flatnonzero(weights).tolist() if i not in taken]
        return int(free[0]) if free else int(cycle[position % size])


def _weights(table: LabelTable, task: Task, *, balance: float) -> NDArray[np.float64]:
    """(N,) chance of each case to be drawn for the task; they add up to 1."""
    weights = np.where(table.is_known(task), table.rarity(task) ** balance, 0.0)
    return np.asarray(weights / weights.sum())


@lru_cache(maxsize=8)
def _cycle(weights: bytes, size: int, seed: tuple[int, ...]) -> NDArray[np.intp]:
    """`size` cases in random order, each as often as its weight says, up to one time.

    Systematic resampling: where all weights are equal, this is a permutation of the cases.
    """
    rng = np.random.default_rng(seed)
    chance = np.frombuffer(weights, dtype=np.float64)
    cases = rng.permutation(np.flatnonzero(chance))
    edges = np.cumsum(chance[cases])
    points = (np.arange(size) + rng.random()) / size * edges[-1]
    return np.asarray(rng.permutation(cases[np.searchsorted(edges, points).clip(max=size - 1)]))
