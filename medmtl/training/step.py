"""One optimiser step: backward over its batches, checks, clipping, update."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.balancing.balancer import BalanceReport
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medmtl.training.state import FitOptions, TrainState

__all__ = [
    "StepLosses",
    "TaskLosses",
    "TrainingDivergedError",
    "backward",
    "loss_scale",
    "update",
]


class TrainingDivergedError(MedmtlError):
    """The loss became NaN or infinite; the checkpoint before it is kept."""


@dataclass(frozen=True, eq=False)
class TaskLosses:
    """What an objective finds on one batch.

    Attributes:
        by_task: Scalar loss of each task of which the batch knows anything.
        features: Where the tasks part, for balancers; see `Balancer.backward`.
        penalty: Of no task and added as it is, such as the distance of two tied encoders.
    """

    by_task: Mapping[str, Tensor]
    features: Sequence[Tensor] = ()
    penalty: Tensor | None = None


@dataclass(eq=False)
class StepLosses:
    """Losses and balance over the batches of a step."""

    values: dict[str, list[float]] = field(default_factory=dict)
    balance: BalanceReport = field(default_factory=lambda: BalanceReport({}))

    @property
    def losses(self) -> dict[str, float]:
        """Mean of each task."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}


def backward(
    state: TrainState,
    objective: Callable[[Any], TaskLosses],
    batches: Sequence[Any],
    *,
    scale: float,
) -> StepLosses:
    """Add the gradient of the mean over the batches, as the balancer wants it."""
    found = StepLosses()
    for batch in batches:
        result = objective(batch)
        numbers = _finite(result, state.step)
        report = state.balancer.backward(
            result.by_task, features=result.features, scale=scale / len(batches)
        )
        if result.penalty is not None:
            torch.autograd.backward(result.penalty * (scale / len(batches)))
        found.balance = _newest(found.balance, report)
        for name, value in numbers.items():
            found.values.setdefault(name, []).append(value)
    return found


def _finite(result: TaskLosses, step: int) -> dict[str, float]:
    """The losses as numbers."""
    if not result.by_task:
        return {}
    values = torch.stack([loss.detach().float() for loss in result.by_task.values()]).tolist()
    numbers = dict(zip(result.by_task, values, strict=True))
    if bad := [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]:
        raise TrainingDivergedError(
            f"step {step}: the loss is not finite: {', '.join(bad)}. Lower the learning rate, clip "
            "gradients harder, or look for extreme intensities in the images."
        )
    return numbers


def _newest(old: BalanceReport, new: BalanceReport) -> BalanceReport:
    """The newer report, with measurements of the older one where it has none."""
    return BalanceReport(
        old.weights | new.weights,
        new.gradient_norms or old.gradient_norms,
        new.cosines or old.cosines,
    )


def loss_scale(state: TrainState) -> float:
    """Factor of the losses: above 1 only with float16, whose gradients would vanish."""
    if not state.scaler.is_enabled():
        return 1.0
    state.scaler.scale(torch.zeros((), device=next(state.model.parameters()).device))  # starts it
    return float(state.scaler.get_scale())


def update(state: TrainState, options: FitOptions) -> float:
    """Clip and step; the norm of the gradient before."""
    state.scaler.unscale_(state.optimiser)
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), options.clip_norm).item()
    overflowed = state.scaler.is_enabled() and state.scaler.get_scale() > 1
    if not math.isfinite(norm) and not overflowed:
        raise TrainingDivergedError(
            f"step {state.step}: the gradient is not finite ({_first_bad(state.model)}). Lower the "
            "learning rate, or look for extreme intensities in the images."
        )
    state.scaler.step(state.optimiser)
    state.scaler.update()
    return norm if math.isfinite(norm) else math.nan


def _first_bad(model: nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
            return f"first in {name}"
    return "its norm overflows"
