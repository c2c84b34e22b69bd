"""The training loop: AdamW, warm-up and cosine, clipping, EMA, and a checkpoint that resumes."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

__all__ = ["FitOptions", "TrainingDivergedError", "fit"]

logger = logging.getLogger(__name__)


class TrainingDivergedError(RuntimeError):
    """The loss became NaN or infinite; the checkpoint before it is kept."""


@dataclass(frozen=True)
class FitOptions:
    """Numbers of one training stage.

    Attributes:
        steps: Optimiser steps in total.
        peak_lr: Learning rate after the warm-up; cosine to zero from there.
        warmup_steps: Linear warm-up.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        ema_decay: Of the averaged weights, which are what the stage returns.
        save_every: Steps between checkpoints.
        log_every: Steps between log lines.
        compiled: Run the model through `torch.compile`; for batches of one shape.
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

    def lr(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.peak_lr * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps)) + 1e-6


def fit(
    model: nn.Module,
    batches: Iterator[Any],
    losses: Callable[[nn.Module, Any], Mapping[str, Tensor]],
    options: FitOptions,
    *,
    checkpoint: Path,
) -> nn.Module:
    """Train and return the averaged model; continues from `checkpoint` where it exists.

    Args:
        model: Trained in place.
        batches: Endless batches.
        losses: Called as `losses(model, batch)`; the terms are summed.
        options: Numbers of the stage.
        checkpoint: Written atomically every `save_every` steps and at the end.

    Raises:
        TrainingDivergedError: If the loss or its gradient is not finite.
    """
    average = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], weight_decay=options.weight_decay
    )
    start = _resume(checkpoint, model, average, optimiser)
    model.train()
    run: nn.Module = torch.compile(model) if options.compiled else model  # type: ignore[assignment]
    began, seen = time.monotonic(), start
    for step in range(start, options.steps):
        for group in optimiser.param_groups:
            group["lr"] = options.lr(step)
        terms = losses(run, next(batches))
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise TrainingDivergedError(f"step {step}: loss {total.item()}; lower peak_lr.")
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        norm = nn.utils.clip_grad_norm_(model.parameters(), options.clip_norm)
        if not torch.isfinite(norm):
            raise TrainingDivergedError(f"step {step}: gradient {norm.item()}; lower peak_lr.")
        optimiser.step()
        _average(average, model, min(options.ema_decay, (step + 1) / (step + 20)))
        if (step + 1) % options.log_every == 0:
            each_s = (time.monotonic() - began) / (step + 1 - seen)
            values = ", ".join(f"{name} {term.item():.4f}" for name, term in terms.items())
            logger.info("step %d of %d: %s, %.2f s each", step + 1, options.steps, values, each_s)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            _save(checkpoint, model, average, optimiser, step + 1)
    average.eval()
    return average


@torch.no_grad()
def _average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of parameters and buffers."""
    new = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


def _save(
    path: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, step: int
) -> None:
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _resume(
    path: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    logger.info("continuing from step %d", state["step"])
    return int(state["step"])
