"""One training run, from a configuration to a bundle."""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medmtl.build.bundle import bundle_settings, training_text
from medmtl.build.encoder_run import train_on_encoder
from medmtl.build.folder import check_folder, check_manifests
from medmtl.build.job import Job, log_start
from medmtl.build.parts import RunParts, build
from medmtl.build.result import TrainResult
from medmtl.core.durable import replace_file
from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.data.manifest import listed_problems
from medmtl.tracking.tracker import NoTracker
from medmtl.training.deliver import deliver
from medmtl.training.distributed import Ranks
from medmtl.training.figures import log_figures
from medmtl.training.memory import memory_errors, peak_memory_mib
from medmtl.training.standardise import fit_standardiser, refit_head
from medmtl.training.stoppable import followed

if TYPE_CHECKING:
    from collections.abc import Callable

    from medmtl.config import TrainConfig
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport

__all__ = ["TrainResult", "train_run"]


@memory_errors()
def train_run(
    config: TrainConfig,
    out: Path,
    *,
    data_root: Path = Path(),
    resume: bool = False,
    tracker: Tracker | None = None,
    watch: Callable[[StepReport, int], None] = lambda _report, _steps: None,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> TrainResult:
    """One training run, from the manifests to a bundle in `out/bundle`.

    Args:
        config: The run.
        out: Gets config.json, checkpoints, the bundle, cases.csv and run.json.
        data_root: What the manifests' own roots start from.
        resume: Go on from the last checkpoint in `out`; without one, start.
        tracker: Told what happens; the caller closes it.
        watch: Called after every step with its report and the number of steps in all.
        should_stop: Asked after every step and every study; once True, it stays.
        ranks: The processes that train together, of `training.distributed.join_ranks`; None for
            this one alone.

    Raises:
        ConfigError: If config, manifests and machine do not fit together, or `out` holds a run.
        TrainingDivergedError: If a loss or gradient is not finite.
        TrainingStoppedError: If asked to stop.
        OutOfMemoryError: If the memory does not suffice, with what to lower.
    """
    ranks = ranks or Ranks()
    if config.encoder is not None:
        if ranks.world > 1:
            raise ConfigError("encoder: found several processes, expected one. Leave torchrun out.")
        told = tracker or NoTracker()
        return train_on_encoder(Job(config, out, data_root, resume, told, watch, should_stop))
    tracker = (tracker if ranks.is_main else None) or NoTracker()
    check_folder(config, out, resume=resume, is_main=ranks.is_main, processes=ranks.world)
    parts = build(config, out, data_root=data_root, tracker=tracker, ranks=ranks)
    check_manifests(config, out, is_main=ranks.is_main)
    trainer = parts.trainer
    trainer.watch = lambda report: watch(report, trainer.options.fit.steps)
    trainer.should_stop = should_stop
    torch.use_deterministic_algorithms(config.trainer.deterministic, warn_only=True)
    _prepare(parts)
    log_start(tracker, config, train=parts.train_sources, validation=parts.val_sources)
    began = time.monotonic()
    _train(parts)
    return _finish(parts, out, tracker, time.monotonic() - began)


def _prepare(parts: RunParts) -> None:
    """Bring every case to the network grid, so that a bad one ends the run before it begins.

    Raises:
        ConfigError: Naming every case that cannot be used.
        TrainingStoppedError: If asked to stop.
    """
    problems = []
    ranks = parts.trainer.ranks
    own = [
        (samples, index)
        for samples in (parts.train_set, parts.val_set)
        for index in ranks.share(range(len(samples)))
    ]
    stop = parts.trainer.should_stop
    for samples, index in followed(own, what="studies prepared", total=len(own), should_stop=stop):
        try:
            samples[index]
        except InputRefusedError as error:
            problems.append(str(error))
    found = [problem for share in ranks.gather(problems) for problem in share]
    if found:
        raise ConfigError(listed_problems("cases that cannot be used", found))


def _train(parts: RunParts) -> None:
    trainer, config = parts.trainer, parts.config
    if not trainer.has_checkpoint:
        fit_standardiser(trainer.net, parts.train_set)
        trainer.restart_average()
    if config.trainer.compile:
        trainer.compile()
    trainer.train()
    wanted = config.head_refit
    if wanted is not None and trainer.net.head is not None and trainer.ranks.is_main:
        refit_head(
            trainer.net,
            parts.train_set,
            trainer.objective,
            wanted.options,
            views=wanted.views,
            augment=parts.augment,
            device=trainer.device,
            seed=config.seed,
            should_stop=trainer.should_stop,
        )


def _finish(parts: RunParts, out: Path, tracker: Tracker, seconds: float) -> TrainResult:
    """Deliver on the main process; the others only know where."""
    trainer = parts.trainer
    if not trainer.ranks.is_main:
        return TrainResult(out / "bundle", {}, (), out / "cases.csv", {}, trainer.history)
    delivery = deliver(
        trainer.net.state_dict(),
        bundle_settings(parts),
        validation=parts.val_sources,
        calibration=parts.config.calibration,
        training=training_text(parts),
        out=out,
        records=out / ".medmtl" / "scores",
        device=trainer.device.type,
        should_stop=trainer.should_stop,
    )
    run = _run_record(parts, seconds)
    replace_file(out / "run.json", (json.dumps(run, indent=1) + "\n").encode())
    log_figures(
        tracker,
        delivery.scores,
        metrics=delivery.metrics,
        records=out / ".medmtl" / "scores",
        sources=parts.val_sources,
        out=out,
        step=trainer.state.step,
    )
    tracker.log_bundle(delivery.bundle)
    for path in (delivery.cases, out / "run.json", delivery.bundle / "metrics.json"):
        tracker.log_file(path)
    return TrainResult(
        delivery.bundle, delivery.metrics, delivery.scores, delivery.cases, run, trainer.history
    )


def _run_record(parts: RunParts, seconds: float) -> dict[str, Any]:
    trainer = parts.trainer
    learned = trainer.state.optimiser.state  # a diagnosis alone never reaches the decoder
    used = [
        weight
        for name, weight in trainer.net.named_parameters()
        if weight in learned and not name.startswith("deep_heads.")
    ]
    steps = [row["train/seconds_per_step"] for row in trainer.history]
    return {
        "schema_version": 1,
        "name": parts.config.name,
        "tasks": list(parts.config.tasks),
        "balancer": parts.config.balancer.name,
        "parameters": sum(p.numel() for p in used),
        "steps": trainer.state.step,
        "train_cases": len(parts.train_set),
        "val_cases": len(parts.val_set),
        "seconds": round(seconds, 3),
        "seconds_per_step": round(sum(steps) / len(steps), 6) if steps else None,
        "peak_memory_mib": peak_memory_mib(trainer.device),
        "device": trainer.device.type,
        "processes": trainer.ranks.world,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
