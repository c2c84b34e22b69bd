"""The training loop: AdamW, warm-up and cosine, clipping, EMA, and a state that resumes.

`train_steps` is the whole loop; it yields after every optimiser step and leaves checkpoints,
validation and progress to its caller. What is random in a batch depends on the seed, its number in
the run and the process alone, so a resumed run goes on to the same numbers.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.training.checkpoint import load_checkpoint, save_checkpoint
from medmtl.training.distributed import Ranks
from medmtl.training.ema import average_into, warm_decay
from medmtl.training.sharpness import frozen_statistics, sharpness_aware
from medmtl.training.state import FitOptions, TrainState
from medmtl.training.step import (
    StepLosses,
    TaskLosses,
    TrainingDivergedError,
    backward,
    loss_scale,
    update,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from medmtl.balancing.balancer import BalanceReport

    Objective = Callable[[nn.Module, Any], TaskLosses]
    Numbered = tuple[int, Any]

__all__ = [
    "FitOptions",
    "StepReport",
    "TaskLosses",
    "TrainState",
    "TrainingDivergedError",
    "fit",
    "train_steps",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes:
        step: Number of steps done.
        losses: Mean loss of each task over the step's batches on this process.
        balance: How the last batch was balanced.
        lr: Learning rate.
        gradient_norm: Before clipping; NaN where float16 overflowed and the step was left out.
        wait_s: Seconds waited for batches.
        step_s: Seconds in all.
    """

    step: int
    losses: dict[str, float]
    balance: BalanceReport
    lr: float
    gradient_norm: float
    wait_s: float
    step_s: float


def train_steps(
    state: TrainState,
    batches: Iterator[Any],
    objective: Objective,
    options: FitOptions,
    *,
    run: nn.Module | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
) -> Iterator[StepReport]:
    """Train from `state.step` to `options.steps`, one report per optimiser step.

    Args:
        state: Changed in place; whole at every yield.
        batches: Endless, from the batch of `state.step` on.
        objective: Called as `objective(run, batch)`.
        options: Numbers of the stage.
        run: What the objective calls instead of the model, such as a compiled one.
        ranks: The processes that train together.

    Raises:
        TrainingDivergedError: If a loss or its gradient is not finite.
    """
    run = state.model if run is None else run  # a compiled module has no truth value
    while state.step < options.steps:
        began = time.monotonic()
        first = state.step * options.accumulate
        micro = list(enumerate(islice(batches, options.accumulate), start=first))
        wait_s = time.monotonic() - began
        lr = options.lr(state.step)
        for group in state.optimiser.param_groups:
            group["lr"] = lr * group.get("scale", 1.0)
        state.optimiser.zero_grad(set_to_none=True)
        losses = partial(_losses, objective, run, seed=options.seed, rank=ranks.rank)
        learn = partial(_learn, state, losses, micro, ranks)
        found = (
            sharpness_aware(state.model, learn, rho=options.sam_rho, remembers=[state.balancer])
            if options.sam_rho
            else learn()
        )
        ranks.average_buffers(state.model)
        norm = update(state, options)
        if state.average:
            average_into(
                state.average,
                state.model,
                decay=warm_decay(options.ema_decay, state.step + 1),
            )
        state.balancer.after_step(partial(_losses_again, losses, run, micro[-1]))
        state.step += 1
        step_s = time.monotonic() - began
        yield StepReport(state.step, found.losses, found.balance, lr, norm, wait_s, step_s)


def _learn(
    state: TrainState,
    losses: Callable[[Numbered], TaskLosses],
    micro: Sequence[Numbered],
    ranks: Ranks,
) -> StepLosses:
    """Leave the step's gradient in `.grad`; called twice, it does the same twice."""
    for weight in state.balancer.parameters():
        weight.grad = None
    found = backward(state, losses, micro, scale=loss_scale(state))
    ranks.average_gradients(state.parameters())
    return found


def _losses(
    objective: Objective, run: nn.Module, numbered: Numbered, *, seed: int, rank: int
) -> TaskLosses:
    """Of a batch by its number, which seeds dropout and the like: asked twice, they are alike."""
    number, batch = numbered
    words = np.random.SeedSequence([seed, number, rank]).generate_state(2)
    torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)
    return objective(run, batch)


@torch.no_grad()
def _losses_again(
    losses: Callable[[Numbered], TaskLosses], run: nn.Module, numbered: Numbered
) -> Mapping[str, Tensor]:
    with frozen_statistics(run):
        return losses(numbered).by_task


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
    state = TrainState.start(model, options)
    if (saved := load_checkpoint(checkpoint)) is not None:
        state.load_state_dict(saved)
        logger.info("continuing from step %d", state.step)
    model.train()
    run: nn.Module = torch.compile(model) if options.compiled else model  # type: ignore[assignment]

    def objective(net: nn.Module, batch: Any) -> TaskLosses:
        return TaskLosses(losses(net, batch))

    for report in train_steps(state, batches, objective, options, run=run):
        if report.step % options.log_every == 0:
            values = ", ".join(f"{name} {value:.4f}" for name, value in report.losses.items())
            message = "step %d of %d: %s, %.2f s"
            logger.info(message, report.step, options.steps, values, report.step_s)
        if report.step % options.save_every == 0 or report.step == options.steps:
            save_checkpoint(checkpoint, state.state_dict())
    return state.delivered.eval()
