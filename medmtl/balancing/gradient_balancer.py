"""Methods that look at the gradient of each task where the tasks meet.

On features: the gradient of every loss with respect to the shared feature maps, added up by the
method, then one backward pass through the encoder. On weights: the same with respect to the shared
parameters, which takes one pass through the encoder per task. What is not shared gets the plain
gradient of the losses that it serves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from medmtl.balancing.balancer import BalanceReport
from medmtl.balancing.gramian import combine, report
from medmtl.balancing.loss_balancer import device_of
from medmtl.balancing.meeting import Meeting, Place, Points, meet
from medmtl.balancing.ranks import Present, gather_losses
from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import Tensor, nn

    from medmtl.balancing.graph import Row
    from medmtl.balancing.methods import Method

__all__ = ["GradientBalancer", "meet_tasks"]


class GradientBalancer:
    """Combines the tasks' gradients by a method; see `Balancer` for ranks.

    A task alone, or without any gradient at the points, passes with weight 1. Gradients that are
    not finite are summed, so that a loss scaler sees them and skips the step.

    Accumulation: the method sees the gradients of one micro-batch, and its result is added.

    Args:
        name: Of the method.
        tasks: All tasks, in their order.
        method: Combines two or more rows.
        on: Where the tasks meet.
        report_every: Norms and cosines are reported in every such micro-batch.
    """

    def __init__(
        self, name: str, tasks: Sequence[str], method: Method, *, on: Place, report_every: int
    ) -> None:
        self.name = name
        self.tasks = tuple(tasks)
        self.method = method
        self.on: Place = on
        self.report_every = report_every
        self._batches = 0

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor] = (),
        shared: Sequence[nn.Parameter] = (),
        scale: float = 1.0,
    ) -> BalanceReport:
        """Add the combined gradient; see `Balancer.backward`."""
        device = device_of(losses, (*features, *shared))
        points = Points.choose(self.on, features, shared)
        meeting, _ = meet_tasks(
            losses, points, self.tasks, scale=scale, device=device, is_first=self._batches == 0
        )
        combined, weights = self._combine(meeting, device)
        points.add(combined)
        is_due = self._batches % self.report_every == 0
        self._batches += 1
        return report(meeting.tasks, weights, meeting.gramian) if is_due else BalanceReport(weights)

    def _combine(self, meeting: Meeting, device: torch.device) -> tuple[Row, dict[str, float]]:
        """Of the tasks with a gradient; the others have nothing to add."""
        equal = dict.fromkeys(meeting.tasks, 1.0)
        active = [n for n, norm in enumerate(meeting.gramian.diagonal()) if norm > 0]
        if len(active) < 2 or not torch.isfinite(meeting.gramian).all():
            return combine(meeting.rows, list(equal.values())), equal
        part = replace(
            meeting,
            tasks=tuple(meeting.tasks[n] for n in active),
            rows=[meeting.rows[n] for n in active],
            gramian=meeting.gramian[active][:, active],
        )
        combined, weights = self.method.combine(part, device)
        return combined, equal | weights if weights else {}

    def after_step(self, losses: Callable[[], Mapping[str, Tensor]]) -> None:
        """Nothing to learn."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """None."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Memory of the method."""
        return {"batches": self._batches, "method": self.method.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._batches = int(state["batches"])
        self.method.load_state_dict(state["method"])


def meet_tasks(
    losses: Mapping[str, Tensor],
    points: Points,
    tasks: Sequence[str],
    *,
    scale: float,
    device: torch.device,
    is_first: bool,
    weights: Mapping[str, float] | None = None,
) -> tuple[Meeting, Present]:
    """The tasks present, met at the points; the first batch of a run is checked.

    Args:
        losses: Of this rank.
        points: Of this rank.
        tasks: All tasks, in their order.
        scale: See `meet`.
        device: See `meet`.
        is_first: Whether points and losses are checked, which costs a walk through the graph.
        weights: See `meet`; of all tasks.

    Raises:
        ConfigError: If a point depends on another, or no task reaches the points.
    """
    if is_first:
        points.check()
    present = gather_losses(losses, tasks, device)
    meeting = meet(losses, points, present, scale=scale, device=device, weights=weights)
    if is_first:
        _check_reached(meeting, tasks, losses)
    return meeting, present


def _check_reached(meeting: Meeting, tasks: Sequence[str], losses: Mapping[str, Tensor]) -> None:
    """Refuse a complete batch of which no task reaches the points.

    Raises:
        ConfigError: If so; balancing would do nothing.
    """
    is_reached = any(gradient is not None for row in meeting.rows for gradient in row)
    if meeting.rows and meeting.rows[0] and not is_reached and set(tasks) == set(losses):
        raise ConfigError(
            "No loss depends on the features to balance on. In a network compiled as a whole they "
            "are a side output: compile the encoder and the decoder apart, or balance losses."
        )
