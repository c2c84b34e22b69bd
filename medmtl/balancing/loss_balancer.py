"""One weight per task, from the values of the losses alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medmtl.balancing.balancer import BalanceReport
from medmtl.balancing.gramian import gramian_of, report
from medmtl.balancing.ranks import (
    Present,
    count_ranks,
    gather_losses,
    of_first_rank,
    sum_over_ranks,
)
from medmtl.balancing.scalarizers import RemembersChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from medmtl.balancing.graph import Row

__all__ = ["LossBalancer", "device_of", "weighted_sum"]


def device_of(losses: Mapping[str, Tensor], points: Sequence[Tensor]) -> torch.device:
    """Where the losses are, or the points of a batch without any."""
    return next((tensor.device for tensor in (*losses.values(), *points)), torch.device("cpu"))


def weighted_sum(
    losses: Mapping[str, Tensor], weights: Mapping[str, float], present: Present, scale: float
) -> Tensor | None:
    """Sum to go backward from, or None where no loss depends on a parameter."""
    terms = [
        loss * (weights[task] * present.factors[task] * scale)
        for task, loss in losses.items()
        if loss.requires_grad
    ]
    return torch.stack(terms).sum() if terms else None


class LossBalancer:
    """Scalarises the mean losses of all ranks; its derivative is the weight of each task.

    Accumulation: the weights of each micro-batch come from its own losses, and what is remembered
    counts micro-batches. The rest as in `Balancer`.

    Args:
        name: Of the method.
        tasks: All tasks, in their order.
        scalarizer: Takes scalar losses by task, present ones only, and gives one scalar.
        report_every: Norms and cosines are measured in every such micro-batch.
    """

    def __init__(
        self, name: str, tasks: Sequence[str], scalarizer: nn.Module, *, report_every: int
    ) -> None:
        self.name = name
        self.tasks = tuple(tasks)
        self.scalarizer = scalarizer
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
        """Add the gradient of the weighted losses; see `Balancer.backward`."""
        device = device_of(losses, (*features, *shared))
        present = gather_losses(losses, self.tasks, device)
        weights = self._weights(present, scale, device)
        result = BalanceReport(weights)
        points = [feature for feature in features if feature.requires_grad]
        if self._batches % self.report_every == 0:
            result = _measured(losses, present, points, weights, device)
        self._batches += 1
        total = weighted_sum(losses, weights, present, scale)
        if total is not None:
            torch.autograd.backward(total)
        return result

    def _weights(self, present: Present, scale: float, device: torch.device) -> dict[str, float]:
        """Derivative of the scalar; that of learned numbers is added to their `.grad`."""
        if not present.tasks:
            return {}
        values = present.values.clone().requires_grad_()
        scalar = self.scalarizer(dict(zip(present.tasks, values, strict=True)))
        torch.autograd.backward(scalar * scale)
        derivative = torch.zeros_like(values) if values.grad is None else values.grad / scale
        weights = of_first_rank(derivative, device).tolist()
        return dict(zip(present.tasks, weights, strict=True))

    def after_step(self, losses: Callable[[], Mapping[str, Tensor]]) -> None:
        """FAMO learns from the losses after the step; every rank takes part."""
        if not isinstance(self.scalarizer, RemembersChange):
            return
        new = {task: loss.detach() for task, loss in losses().items()}
        present = gather_losses(new, self.tasks, device_of(new, ()))
        if present.tasks:
            self.scalarizer.update(dict(zip(present.tasks, present.values, strict=True)))

    def parameters(self) -> Iterable[nn.Parameter]:
        """Learned numbers of UW and IMTL-L."""
        return self.scalarizer.parameters()

    def state_dict(self) -> dict[str, Any]:
        """Learned numbers and memory."""
        return {"batches": self._batches, "scalarizer": self.scalarizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._batches = int(state["batches"])
        self.scalarizer.load_state_dict(state["scalarizer"])


def _measured(
    losses: Mapping[str, Tensor],
    present: Present,
    points: Sequence[Tensor],
    weights: dict[str, float],
    device: torch.device,
) -> BalanceReport:
    """Norms and cosines at the features, over all ranks: one backward pass per task.

    The weights alone where no rank has features that learn.
    """
    if not sum_over_ranks(torch.tensor(len(points), device=device)):
        return BalanceReport(weights)
    rows: list[Row] = []
    for task in present.tasks:
        loss = losses.get(task)
        if loss is None or not loss.requires_grad or not points:
            rows.append([None] * len(points))
            continue
        gradients = torch.autograd.grad(
            loss * present.factors[task], points, retain_graph=True, allow_unused=True
        )
        rows.append(list(gradients))
    gramian = sum_over_ranks(gramian_of(rows, device)).cpu() / count_ranks() ** 2
    return report(present.tasks, weights, gramian)
