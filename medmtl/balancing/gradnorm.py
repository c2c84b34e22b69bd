"""GradNorm (Chen et al. 2018, https://arxiv.org/abs/1711.02257): learned weights of the losses.

The weights w are learned so that the norms of the weighted gradients, G_i = |w_i g_i| where the
tasks meet, approach mean(G) * r_i ** alpha; r_i is how far task i lags behind, the ratio of its
loss to its loss at the start, relative to the mean over the tasks. With the targets held constant
the derivative of sum_i |G_i - target_i| with respect to w_i is sign(G_i - target_i) * |g_i|.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medmtl.balancing.balancer import BalanceReport
from medmtl.balancing.gradient_balancer import meet_tasks
from medmtl.balancing.gramian import combine, report
from medmtl.balancing.loss_balancer import device_of
from medmtl.balancing.meeting import Place, Points

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from medmtl.balancing.ranks import Present

__all__ = ["GradNorm"]

_LEAST_WEIGHT = 1e-3
"""The paper lets weights fall without limit; at zero a task would never come back."""


class GradNorm:
    """Weights that sum to the number of tasks, updated by Adam after every micro-batch.

    A missing task keeps its weight, and those present share what is left; they are not updated
    where fewer than two of the tasks have a gradient.

    Args:
        tasks: All tasks, in their order.
        alpha: Strength of the pull towards equal rates.
        lr: Learning rate of the weights.
        initial_batches: Batches of a task whose mean loss is its loss at the start.
        on: Where the tasks meet.
        report_every: Norms and cosines are reported in every such micro-batch.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        initial_batches: int = 10,
        on: Place = "features",
        report_every: int = 50,
    ) -> None:
        self.name = "gradnorm"
        self.tasks = tuple(tasks)
        self.alpha, self.initial_batches = alpha, initial_batches
        self.on: Place = on
        self.report_every = report_every
        self.weights = {task: nn.Parameter(torch.ones((), dtype=torch.float64)) for task in tasks}
        self.starts: dict[str, list[float]] = {task: [] for task in tasks}
        self._optimiser = torch.optim.Adam(self.weights.values(), lr=lr)
        self._batches = 0

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor] = (),
        shared: Sequence[nn.Parameter] = (),
        scale: float = 1.0,
    ) -> BalanceReport:
        """Add the gradient of the weighted losses, then update the weights."""
        device = device_of(losses, (*features, *shared))
        points = Points.choose(self.on, features, shared)
        meeting, present = meet_tasks(
            losses,
            points,
            self.tasks,
            scale=scale,
            device=device,
            is_first=self._batches == 0,
            weights={task: weight.item() for task, weight in self.weights.items()},
        )
        weights = {task: self.weights[task].item() for task in present.tasks}
        points.add(combine(meeting.rows, [1.0] * len(meeting.rows)))
        self._learn(present, meeting.gramian.diagonal().sqrt())
        is_due = self._batches % self.report_every == 0
        self._batches += 1
        unweighted = torch.tensor([1 / weights[task] for task in present.tasks]).double()
        gramian = meeting.gramian * torch.outer(unweighted, unweighted)
        return report(present.tasks, weights, gramian) if is_due else BalanceReport(weights)

    def _learn(self, present: Present, norms: Tensor) -> None:
        """One step of the weights of the tasks present; `norms` (P,) of weighted gradients."""
        values = dict(zip(present.tasks, present.values.tolist(), strict=True))
        for task, value in values.items():
            if len(self.starts[task]) < self.initial_batches:
                self.starts[task].append(value)
        is_started = all(len(self.starts[task]) == self.initial_batches for task in values)
        if not is_started or (norms > 0).sum() < 2 or not torch.isfinite(norms).all():
            return
        ratios = torch.tensor([value / self._start(task) for task, value in values.items()])
        rates = (ratios / ratios.mean()).double()
        signs = (norms - norms.mean() * rates**self.alpha).sign()
        self._optimiser.zero_grad(set_to_none=True)
        for task, sign, norm in zip(values, signs, norms, strict=True):
            self.weights[task].grad = sign * norm / self.weights[task].detach()
        before = sum(self.weights[task].item() for task in values)
        self._optimiser.step()
        self._renormalise(tuple(values), before)

    def _start(self, task: str) -> float:
        return max(sum(self.starts[task]) / len(self.starts[task]), 1e-12)

    @torch.no_grad()
    def _renormalise(self, tasks: tuple[str, ...], total: float) -> None:
        """Bring the sum of these weights back to what it was."""
        for task in tasks:
            self.weights[task].clamp_(min=_LEAST_WEIGHT)
        after = sum(self.weights[task].item() for task in tasks)
        for task in tasks:
            self.weights[task].mul_(total / after)

    def after_step(self, losses: Callable[[], Mapping[str, Tensor]]) -> None:
        """Nothing to learn."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """None: the weights have an optimiser of their own, since they are renormalised."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Weights, their optimiser and the losses at the start."""
        return {
            "batches": self._batches,
            "weights": {task: weight.item() for task, weight in self.weights.items()},
            "starts": {task: list(values) for task, values in self.starts.items()},
            "optimiser": self._optimiser.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._batches = int(state["batches"])
        self.starts = {task: list(state["starts"][task]) for task in self.tasks}
        for task in self.tasks:
            self.weights[task].fill_(state["weights"][task])
        self._optimiser.load_state_dict(state["optimiser"])
