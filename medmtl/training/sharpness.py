"""Sharpness-aware minimisation (Foret et al. 2021, https://arxiv.org/abs/2010.01412).

The gradient of a step is taken not at the weights w but at w + rho * g / |g|, the worst place
nearby to first order, with the gradient g at w: minima that are flat are preferred. Every step
costs two passes.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["Remembers", "frozen_statistics", "sharpness_aware"]

T = TypeVar("T")


class Remembers(Protocol):
    """Something that changes in a backward pass, such as a balancer."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """What it learns by gradients, beside those of the model."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything remembered."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Back to `state_dict`."""
        ...


def sharpness_aware(
    model: nn.Module,
    backward: Callable[[], T],
    *,
    rho: float,
    remembers: Sequence[Remembers] = (),
) -> T:
    """Leave in `.grad` the gradient at the worst place nearby; the weights end as they were.

    Normalisation statistics, and whatever is in `remembers`, change in the first pass alone. A loss
    scale cancels in g / |g|. Where g is not finite, or zero, it is left as it is, so that a loss
    scaler sees it and skips the step.

    Args:
        model: Whose parameters are moved and moved back, bit by bit.
        backward: The forward and backward passes of all micro-batches of the step, and their
            average over the ranks; adds to `.grad`. Called twice, and meant to do the same twice.
        rho: Distance in the space of the weights, at least 0; the paper uses 0.05.
        remembers: What must learn from the step once only.

    Returns:
        What the first call of `backward` returned, at the weights themselves.
    """
    result = backward()
    weights = [weight for weight in model.parameters() if weight.grad is not None]
    norm = _norm(weights)
    if rho == 0 or not torch.isfinite(norm) or norm == 0:
        return result
    kept = [copy.deepcopy(one.state_dict()) for one in remembers]
    places = _move(weights, rho / float(norm))
    for weight in (*model.parameters(), *(w for one in remembers for w in one.parameters())):
        weight.grad = None
    try:
        with frozen_statistics(model):
            backward()
    finally:
        _put_back(weights, places)
        for one, state in zip(remembers, kept, strict=True):
            one.load_state_dict(state)
    return result


def _norm(weights: list[nn.Parameter]) -> torch.Tensor:
    norms = [weight.grad.float().norm() for weight in weights if weight.grad is not None]
    device = norms[0].device if norms else None
    return torch.stack([norm.to(device) for norm in norms]).norm() if norms else torch.zeros(())


@torch.no_grad()
def _move(weights: list[nn.Parameter], factor: float) -> list[torch.Tensor]:
    """Step along the gradient; returns copies of the weights before."""
    places = [weight.detach().clone() for weight in weights]
    for weight in weights:
        if weight.grad is not None:
            weight.add_(weight.grad, alpha=factor)
    return places


@torch.no_grad()
def _put_back(weights: list[nn.Parameter], places: list[torch.Tensor]) -> None:
    for weight, place in zip(weights, places, strict=True):
        weight.copy_(place)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Normalise by the batch as in training, without updating running statistics."""
    tracking = [
        module
        for module in model.modules()
        if isinstance(module, _NormBase) and module.track_running_stats
    ]
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True
