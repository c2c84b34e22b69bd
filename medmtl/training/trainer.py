"""A training run: steps, validations, checkpoints and what the tracker is told.

The loop itself is `loop.train_steps`; this is everything around it.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from medmtl.core.errors import MedmtlError
from medmtl.training.checkpoint import load_checkpoint, save_checkpoint
from medmtl.training.distributed import Ranks
from medmtl.training.loop import train_steps
from medmtl.training.objective import freeze_batch_norm
from medmtl.training.validate import Validation, task_scores, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch.utils.data import Dataset

    from medmtl.data.samples import Batch, Sample
    from medmtl.networks.joint import JointNet
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport
    from medmtl.training.objective import StudyObjective
    from medmtl.training.state import FitOptions, TrainState

__all__ = ["Batches", "RunOptions", "Trainer", "TrainingStoppedError"]

logger = logging.getLogger(__name__)


class TrainingStoppedError(MedmtlError):
    """The run was asked to stop; its checkpoint is written and `--resume` goes on from it."""


class Batches(Protocol):
    """Batches by number, and who draws them; see `data.loader.StudyLoader`."""

    sampler: Any

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches `start` to `stop` - 1 of the run."""
        ...


@dataclass(frozen=True)
class RunOptions:
    """Numbers of a run.

    Attributes:
        fit: Of the loop.
        steps_per_epoch: Optimiser steps.
        validate_every: Epochs between validations; the last epoch always is.
        checkpoint_every_s: Seconds between checkpoints within an epoch.
        freeze_batch_norm: Whether batch statistics stay as they are.
        log_every: Steps between numbers for the tracker, which also gets every step in which
            the balancer measured the gradients.
        deliver: "best" or "last".
    """

    fit: FitOptions
    steps_per_epoch: int
    validate_every: int = 1
    checkpoint_every_s: float = 180.0
    freeze_batch_norm: bool = False
    log_every: int = 10
    deliver: str = "best"


@dataclass(eq=False)
class _EpochMeans:
    """Means over the steps of an epoch so far."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, report: StepReport) -> None:
        parts = {
            "loss": report.losses,
            "weight": report.balance.weights,
            "norm": report.balance.gradient_norms,
            "cosine": report.balance.cosines,
        }
        named = {f"{kind}/{name}": x for kind, part in parts.items() for name, x in part.items()}
        named |= {"lr": report.lr, "wait_s": report.wait_s, "seconds_per_step": report.step_s}
        for name, value in named.items():
            self.values.setdefault(name.replace(":", "_and_"), []).append(value)

    def figures(self) -> dict[str, float]:
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        wait_s = means.pop("wait_s")
        return means | {"wait_share": wait_s / max(means["seconds_per_step"], 1e-9)}


@dataclass(eq=False)
class Trainer:
    """One run.

    Attributes:
        state: What the steps change.
        data: Training batches of this process.
        validation: Validation studies; may be empty.
        objective: The losses.
        options: Numbers.
        folder: Of the checkpoints `last.ckpt` and `best.ckpt`.
        tracker: Told by the main process alone.
        device: Where the network is.
        ranks: The processes that train together.
        watch: Called after every step, for a progress bar.
        should_stop: Asked after every step and before every validation study; once True, it stays.
            True on any process stops all.
        best_score: Of the validations so far.
        history: Metrics of every epoch.
    """

    state: TrainState
    data: Batches
    validation: Dataset[Sample]
    objective: StudyObjective
    options: RunOptions
    folder: Path
    tracker: Tracker
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    watch: Callable[[StepReport], None] = lambda _: None
    should_stop: Callable[[], bool] = lambda: False
    best_score: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    _epoch: _EpochMeans = field(default_factory=_EpochMeans, init=False)

    def train(self) -> None:
        """Train to the end, from the checkpoint where there is one; then load what is delivered.

        Raises:
            TrainingDivergedError: If a loss or gradient is not finite.
            TrainingStoppedError: If the run was asked to stop; the checkpoint is written.
        """
        self._resume()
        self._learn()
        if self._epoch.values and self._ends_epoch(self.state.step):
            self._end_epoch(self.state.step)  # the process before ended while it validated
        saved_s = time.monotonic()
        steps = train_steps(
            self.state, self._batches(), self.objective, self.options.fit, ranks=self.ranks
        )
        for report in steps:
            self._epoch.add(report)
            self.watch(report)
            self._log_step(report)
            if self._ends_epoch(report.step):
                self._end_epoch(report.step)
                saved_s = time.monotonic()
            elif self._save_if(time.monotonic() - saved_s > self.options.checkpoint_every_s):
                saved_s = time.monotonic()
            if self.ranks.any(flag=self.should_stop()):
                self._save_if(due=True)
                raise self._stopped()
        self._deliver()

    @property
    def has_checkpoint(self) -> bool:
        """Whether `train` goes on with what an earlier process began."""
        return (self.folder / "last.ckpt").exists()

    def restart_average(self) -> None:
        """Let the averaged weights start from those of the model."""
        if self.state.average:
            self.state.average.load_state_dict(self.state.model.state_dict())

    def compile(self) -> None:
        """Compile encoder and decoder apart: balancers need the gradient where they meet."""
        backbone: Any = self.net.backbone
        for name in ("encode", "decode_levels", "classify"):
            setattr(backbone, name, torch.compile(getattr(backbone, name)))

    def _stopped(self) -> TrainingStoppedError:
        return TrainingStoppedError(
            f"stopped after step {self.state.step} of {self.options.fit.steps}. The checkpoint "
            "is written; go on with --resume."
        )

    def _ends_epoch(self, step: int) -> bool:
        return step % self.options.steps_per_epoch == 0 or step == self.options.fit.steps

    def _batches(self) -> Iterator[Batch]:
        """From the current step on; asked for epoch by epoch, since validations move the shares."""
        per_step, per_epoch = self.options.fit.accumulate, self.options.steps_per_epoch
        start = self.state.step
        while start < self.options.fit.steps:
            stop = min((start // per_epoch + 1) * per_epoch, self.options.fit.steps)
            for batch in self.data.batches(start * per_step, stop * per_step):
                yield batch.to(self.device)
            start = stop

    def _learn(self) -> None:
        self.state.model.train()
        if self.options.freeze_batch_norm:
            freeze_batch_norm(self.state.model)

    def _end_epoch(self, step: int) -> None:
        number = -(-step // self.options.steps_per_epoch)
        metrics = {f"train/{name}": value for name, value in self._epoch.figures().items()}
        is_last = step == self.options.fit.steps
        if len(self.validation) and (number % self.options.validate_every == 0 or is_last):  # type: ignore[arg-type]
            self._save_if(due=True)
            validation = self._validate()
            metrics |= {f"val/{name}": value for name, value in validation.metrics.items()}
            self.data.sampler.scheduler.update(task_scores(validation))
            score = validation.score
            if score is not None and (self.best_score is None or score > self.best_score):
                self.best_score = score
                if self.ranks.is_main:
                    kept = {"net": self.state.delivered.state_dict(), "step": step}
                    save_checkpoint(self.folder / "best.ckpt", kept)
            self._learn()
        self._epoch = _EpochMeans()
        self.history.append({"epoch": float(number), "step": float(step), **metrics})
        if self.ranks.is_main:
            self.tracker.log_metrics({**metrics, "epoch": number}, step=step)
            logger.info("epoch %d, step %d: %s", number, step, _shown(metrics))
        self._save_if(due=True)

    def _validate(self) -> Validation:
        """Of all processes together, which also meet where one of them is asked to stop."""
        count: int = len(self.validation)  # type: ignore[arg-type]
        share = takewhile(lambda _: not self.should_stop(), self.ranks.share(range(count)))
        own = (self.validation[index] for index in share)
        net = cast("JointNet", self.state.delivered)
        found = validate(net, own, self.objective, device=self.device, ranks=self.ranks)
        if self.ranks.any(flag=self.should_stop()):
            raise self._stopped()
        return found

    def _log_step(self, report: StepReport) -> None:
        is_due = report.step % self.options.log_every == 0 or bool(report.balance.gradient_norms)
        if not self.ranks.is_main or not is_due:
            return
        metrics = {f"step/loss/{name}": value for name, value in report.losses.items()}
        metrics |= {f"step/weight/{name}": w for name, w in report.balance.weights.items()}
        metrics |= {f"step/norm/{name}": n for name, n in report.balance.gradient_norms.items()}
        for pair, cosine in report.balance.cosines.items():
            metrics[f"step/cosine/{pair.replace(':', '_and_')}"] = cosine
        metrics |= {
            "step/lr": report.lr,
            "step/gradient_norm": report.gradient_norm,
            "step/seconds": report.step_s,
            "step/wait_share": report.wait_s / max(report.step_s, 1e-9),
        }
        self.tracker.log_metrics(metrics, step=report.step)

    def _save_if(self, due: bool) -> bool:
        """Write the checkpoint of the main process; balancers are equal on all of them."""
        if due and self.ranks.is_main:
            state = {
                "state": self.state.state_dict(),
                "sampler": self.data.sampler.state_dict(),
                "best_score": self.best_score,
                "history": self.history,
                "epoch": self._epoch.values,
            }
            save_checkpoint(self.folder / "last.ckpt", state)
        return due

    def _resume(self) -> None:
        saved = load_checkpoint(self.folder / "last.ckpt")
        if saved is None:
            return
        self.state.load_state_dict(saved["state"])
        self.data.sampler.load_state_dict(saved["sampler"])
        self.best_score, self.history = saved["best_score"], saved["history"]
        self._epoch = _EpochMeans(saved["epoch"])
        logger.info("going on from step %d", self.state.step)

    def _deliver(self) -> None:
        """Load the delivered weights into the model."""
        weights: Mapping[str, Any] = self.state.delivered.state_dict()
        if self.options.deliver == "best":
            best = load_checkpoint(self.folder / "best.ckpt")
            weights = weights if best is None else best["net"]
        self.state.model.load_state_dict(weights)
        self.state.model.eval()

    @property
    def net(self) -> JointNet:
        """The network; after `train`, with the delivered weights."""
        return cast("JointNet", self.state.model)


def _shown(metrics: Mapping[str, float]) -> str:
    names = ("train/loss/segmentation", "train/loss/diagnosis", "val/dice", "val/auroc")
    chosen = [f"{name} {metrics[name]:.4f}" for name in names if name in metrics]
    return ", ".join([*chosen, f"{metrics['train/seconds_per_step']:.2f} s per step"])
