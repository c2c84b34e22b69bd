"""Names of the loss balancers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchjd import scalarization

from medmtl.balancing.scalarizers import EachTask, Forgetful, RemembersChange, RemembersRates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

__all__ = ["SCALARIZERS"]

Tasks = tuple[str, ...]
"""Names of tasks in their order."""


def _weights(config: Any, tasks: Tasks) -> Tensor:
    """(P,) configured weights, 1 where not named."""
    return torch.tensor([config.weights.get(task, 1.0) for task in tasks])


def _shares(config: Any, tasks: Tasks) -> Tensor:
    """(P,) the same, summing to 1."""
    weights = _weights(config, tasks)
    return weights / weights.sum().clamp_min(1e-12)


def _reference(config: Any, tasks: Tasks) -> Tensor:
    """(P,) lowest losses thought possible, 0 where not named."""
    return torch.tensor([config.reference.get(task, 0.0) for task in tasks])


def _forgetful(make: Callable[[Any, Tasks], Any]) -> Callable[[Any, Tasks], nn.Module]:
    """Settings `c` and the tasks present `t` to a scalarizer of these tasks."""
    return lambda config, _: Forgetful(lambda present: make(config, present))


SCALARIZERS: Mapping[str, Callable[[Any, Tasks], nn.Module]] = {
    "sum": _forgetful(lambda _, __: scalarization.Sum()),
    "mean": _forgetful(lambda _, __: scalarization.Mean()),
    "fixed": _forgetful(lambda c, t: scalarization.Constant(_weights(c, t))),
    "random": _forgetful(lambda _, __: scalarization.Random()),
    "geometric_mean": _forgetful(lambda _, __: scalarization.GeometricMean()),
    "stch": _forgetful(lambda c, t: scalarization.STCH(c.mu, _shares(c, t), _reference(c, t))),
    "cosmos": _forgetful(lambda c, t: scalarization.COSMOS(c.penalty, _shares(c, t))),
    "pbi": _forgetful(lambda c, t: scalarization.PBI(c.theta, _weights(c, t), _reference(c, t))),
    "uw": lambda _, tasks: EachTask(tasks, lambda: scalarization.UW(1)),
    "imtl_l": lambda _, tasks: EachTask(tasks, lambda: scalarization.IMTLL(1)),
    "dwa": lambda c, tasks: RemembersRates(tasks, temperature=c.temperature, window=c.window),
    "famo": lambda c, tasks: RemembersChange(
        tasks, lr=c.lr, weight_decay=c.weight_decay, min_losses=c.min_losses
    ),
}
"""Settings and all tasks to a module that turns losses by task into one scalar."""
