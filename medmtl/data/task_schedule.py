"""How often each task is drawn: fixed shares, or shares that follow how hard the task is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from medmtl.data.samples import TASKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.data.samples import Task

__all__ = ["ConstantShares", "DynamicTaskPriority", "ScheduleConfig", "TaskScheduler"]

_EASIEST = 0.999
_HARDEST = 0.001


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ConstantShares(_Settings):
    """Shares that stay.

    Attributes:
        segmentation: Weight of segmentation; the weights are divided by their sum.
        diagnosis: Weight of diagnosis.
    """

    name: Literal["constant"] = "constant"
    segmentation: PositiveFloat = 1.0
    diagnosis: PositiveFloat = 1.0


class DynamicTaskPriority(_Settings):
    """The worse a task is done, the more often it is drawn.

    The priority of a task is the focal loss -(1 - k)^gamma log(k) of its performance k in 0..1,
    which is averaged over the validations as k = a k_new + (1 - a) k_old (Guo et al., Dynamic Task
    Prioritization for Multitask Learning, ECCV 2018). There the priorities weigh
    the losses; here they are how often the task is drawn, as in Jean et al. (Adaptive Scheduling
    for Multi-Task Learning, 2019, arXiv:1909.06434).

    Attributes:
        gamma: How much a task done well is neglected.
        momentum: Weight a of the newest validation.
        floor: Smallest share of a task, so that none starves; at most 0.5.
    """

    name: Literal["dynamic_task_priority"] = "dynamic_task_priority"
    gamma: float = Field(default=1.0, ge=0)
    momentum: float = Field(default=0.5, gt=0, le=1)
    floor: float = Field(default=0.2, gt=0, le=0.5)


ScheduleConfig = Annotated[ConstantShares | DynamicTaskPriority, Field(discriminator="name")]


class TaskScheduler:
    """Shares of the tasks; tell it every validation.

    Args:
        config: The rule.
        tasks: The tasks for which there are labels.
    """

    def __init__(self, config: ScheduleConfig, tasks: Sequence[Task] = TASKS) -> None:
        self.config = config
        self.tasks = tuple(tasks)
        self._performance: dict[str, float] = {}

    @property
    def shares(self) -> dict[Task, float]:
        """How often each task is drawn; they add up to 1. Equal until all tasks have a score."""
        if isinstance(self.config, ConstantShares):
            weights = {task: float(getattr(self.config, task)) for task in self.tasks}
        elif set(self._performance) >= set(self.tasks):
            weights = {task: self._priority(self._performance[task]) for task in self.tasks}
        else:
            weights = dict.fromkeys(self.tasks, 1.0)
        total = sum(weights.values())
        floor = self.config.floor if isinstance(self.config, DynamicTaskPriority) else 0.0
        rest = 1 - floor * len(weights)
        return {task: floor + rest * weight / total for task, weight in weights.items()}

    def update(self, scores: Mapping[str, float]) -> None:
        """Take in one validation.

        Args:
            scores: Performance per task, 0 useless to 1 perfect: the mean Dice, and for a diagnosis
                twice the AUROC minus one. A score that is missing or NaN changes nothing.
        """
        if isinstance(self.config, ConstantShares):
            return
        for task in self.tasks:
            score = scores.get(task, math.nan)
            if math.isnan(score):
                continue
            new = min(max(score, _HARDEST), _EASIEST)
            old = self._performance.get(task, new)
            self._performance[task] = old + self.config.momentum * (new - old)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"performance": dict(self._performance)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._performance = {str(name): float(k) for name, k in state["performance"].items()}

    def _priority(self, performance: float) -> float:
        gamma = self.config.gamma if isinstance(self.config, DynamicTaskPriority) else 0.0
        return float(-((1 - performance) ** gamma) * math.log(performance))
