"""The numbers of a training stage, and everything that a step changes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medmtl.balancing.balancer import BalanceReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from medmtl.balancing.balancer import Balancer

__all__ = ["FitOptions", "PlainSum", "TrainState"]


@dataclass(frozen=True)
class FitOptions:
    """Numbers of one training stage.

    Attributes:
        steps: Optimiser steps in total.
        peak_lr: Learning rate after the warm-up; cosine to `floor_lr` from there.
        warmup_steps: Linear warm-up.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        ema_decay: Of the averaged weights, which are what the stage returns; 0 for no average.
        save_every: Steps between checkpoints of `fit`.
        log_every: Steps between log lines of `fit`.
        compiled: Whether `fit` runs the model through `torch.compile`; for batches of one shape.
        floor_lr: Added to every learning rate.
        accumulate: Batches per step.
        sam_rho: Radius of sharpness-aware minimisation, at twice the cost; 0 for none.
        is_half: Whether the losses come from float16 and must be scaled.
        seed: Of what is random in a step.
    """

    steps: int
    peak_lr: float = 3e-3
    warmup_steps: int = 150
    weight_decay: float = 1e-3
    clip_norm: float = 5.0
    ema_decay: float = 0.998
    save_every: int = 100
    log_every: int = 50
    compiled: bool = False
    floor_lr: float = 1e-6
    accumulate: int = 1
    sam_rho: float = 0.0
    is_half: bool = False
    seed: int = 0

    def lr(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.peak_lr * warm * cosine + self.floor_lr


class PlainSum:
    """The balancer of stages that need none: the sum of the losses."""

    name = "sum"

    def backward(
        self,
        losses: Mapping[str, Tensor],
        *,
        features: Sequence[Tensor] = (),  # noqa: ARG002 - of the protocol
        shared: Sequence[nn.Parameter] = (),  # noqa: ARG002
        scale: float = 1.0,
    ) -> BalanceReport:
        """Add the gradient of the sum."""
        torch.autograd.backward(torch.stack(list(losses.values())).sum() * scale)
        return BalanceReport(dict.fromkeys(losses, 1.0))

    def after_step(self, losses: Callable[[], Mapping[str, Tensor]]) -> None:
        """Nothing to learn."""

    def parameters(self) -> list[nn.Parameter]:
        """None."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to remember."""


@dataclass(eq=False)
class TrainState:
    """Everything of a run that a step changes.

    Attributes:
        model: The network that learns.
        average: Moving average of its weights, None where there is none.
        optimiser: Of the model and of the balancer's own weights.
        balancer: From losses to gradients.
        scaler: Of the loss, for float16.
        step: Steps done.
    """

    model: nn.Module
    average: nn.Module | None
    optimiser: torch.optim.Optimizer
    balancer: Balancer
    scaler: torch.amp.GradScaler
    step: int = 0

    @classmethod
    def start(
        cls,
        model: nn.Module,
        options: FitOptions,
        *,
        balancer: Balancer | None = None,
        scales: Mapping[str, float] | None = None,
    ) -> TrainState:
        """The state before the first step.

        Args:
            model: Its weights that need no gradient are not learned.
            options: Of the stage.
            balancer: None is the plain sum.
            scales: Factor of the learning rate by name of a weight; 1 for those not named.
        """
        balancer = balancer or PlainSum()
        learned = [p for p in model.parameters() if p.requires_grad]
        groups = _groups(model, scales or {})
        if own := list(balancer.parameters()):
            groups.append({"params": own, "weight_decay": 0.0})
        return cls(
            model,
            copy.deepcopy(model) if options.ema_decay else None,
            torch.optim.AdamW(groups, weight_decay=options.weight_decay),
            balancer,
            torch.amp.GradScaler(learned[0].device.type, enabled=options.is_half),
        )

    @property
    def delivered(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.average or self.model

    def parameters(self) -> list[nn.Parameter]:
        """Whatever the optimiser changes."""
        return [p for group in self.optimiser.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "balancer": self.balancer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.balancer.load_state_dict(state.get("balancer", {}))
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.step = int(state["step"])


def _groups(model: nn.Module, scales: Mapping[str, float]) -> list[dict[str, Any]]:
    """Weights to learn, those of one learning rate together."""
    groups: dict[float, dict[str, Any]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            scale = scales.get(name, 1.0)
            groups.setdefault(scale, {"params": [], "scale": scale})["params"].append(weight)
    return list(groups.values())
