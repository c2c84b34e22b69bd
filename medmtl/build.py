"""From a configuration to objects, and from objects to a run: where a name becomes a class."""

from __future__ import annotations

import json
import logging
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medmtl.balancing.table import build_balancer
from medmtl.core.errors import ConfigError
from medmtl.data.dataset import StudyDataset
from medmtl.data.loader import StudyLoader
from medmtl.data.manifest import manifest_sha256, read_manifest
from medmtl.data.sampling import TaskSampler
from medmtl.data.sources import DataSource
from medmtl.data.volume_file import read_volume_file
from medmtl.evidence.input_ranges import input_ranges
from medmtl.inference.bundle import BundleSettings
from medmtl.inference.predictor import choose_device
from medmtl.networks.joint import JointNet
from medmtl.report.durable import replace_file
from medmtl.tracking.tracker import NoTracker
from medmtl.training.deliver import deliver, merged_schema
from medmtl.training.distributed import Ranks, join_ranks, leave_ranks
from medmtl.training.head import HeadOptions
from medmtl.training.label_settings import finding_settings, segment_settings
from medmtl.training.memory import memory_errors, peak_memory_mib
from medmtl.training.objective import JointObjective
from medmtl.training.selection import choose_cases, label_share
from medmtl.training.standardise import fit_standardiser, refit_head, volumes_ml
from medmtl.training.state import FitOptions, TrainState
from medmtl.training.trainer import RunOptions, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from medmtl.config import TrainConfig
    from medmtl.core.volume import Volume
    from medmtl.data.loader import Augment
    from medmtl.metrics.scores import CaseScore
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport

__all__ = ["RunParts", "TrainResult", "build", "read_sources", "train_run"]

logger = logging.getLogger(__name__)

_RANGE_VOLUMES = 100
"""Training volumes that are read for the input ranges of a bundle."""


@dataclass(frozen=True, eq=False)
class RunParts:
    """The objects of one run.

    Attributes:
        config: What they were built from.
        train_sources: Cases to learn from.
        val_sources: Cases to validate on.
        train_set: Samples of the first.
        val_set: Samples of the second.
        augment: What changes a training sample at random.
        trainer: The run, not started.
    """

    config: TrainConfig
    train_sources: tuple[DataSource, ...]
    val_sources: tuple[DataSource, ...]
    train_set: StudyDataset
    val_set: StudyDataset
    augment: Augment | None
    trainer: Trainer


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What a run ends with; on the other processes of `torchrun` only the places.

    Attributes:
        bundle: Folder of the delivered bundle.
        metrics: Content of its metrics.json, on the validation cases.
        scores: The validation cases one by one, calibrated.
        cases: Path of cases.csv, the same as a table.
        run: Content of run.json: parameters, steps, seconds per step, memory.
        history: Metrics of every epoch.
    """

    bundle: Path
    metrics: dict[str, Any]
    scores: tuple[CaseScore, ...]
    cases: Path
    run: dict[str, Any]
    history: list[dict[str, float]]


def read_sources(
    config: TrainConfig, data_root: Path
) -> tuple[tuple[DataSource, ...], tuple[DataSource, ...]]:
    """Training and validation cases of every manifest.

    Args:
        config: Its `data`.
        data_root: What each manifest's own `data_root` starts from.

    Raises:
        ConfigError: If a manifest is wrong, or nothing is left to learn from.
    """
    train, val = [], []
    for one in config.data.manifests:
        manifest = read_manifest(Path(one.folder))
        learns, validates = choose_cases(
            manifest,
            train_splits=one.train_splits,
            val_splits=one.val_splits,
            val_fold=one.val_fold,
        )
        learns = label_share(learns, share=config.data.label_fraction, seed=config.seed)
        root = data_root / one.data_root
        train.append(DataSource(manifest, root, learns))
        val.append(DataSource(manifest, root, validates))
    return tuple(train), tuple(val)


def build(
    config: TrainConfig,
    out: Path,
    *,
    data_root: Path = Path(),
    tracker: Tracker | None = None,
    ranks: Ranks | None = None,
) -> RunParts:
    """Everything that a run needs; no image is opened yet.

    Raises:
        ConfigError: If config, manifests and machine do not fit together.
    """
    ranks = ranks or Ranks()
    device = choose_device(config.trainer.device)
    if config.trainer.precision == "float16" and device.type != "cuda":
        raise ConfigError("trainer.precision float16 needs CUDA; found none. Use bfloat16.")
    network = config.network_of_tasks()
    train_sources, val_sources = read_sources(config, data_root)
    cache = Path(config.data.cache_dir) if config.data.cache_dir else out / "cache"
    sets = [
        StudyDataset(sources, network=network, preprocessing=config.preprocessing, cache_dir=cache)
        for sources in (train_sources, val_sources)
    ]
    torch.manual_seed(config.seed)
    net = JointNet(network)
    if config.trainer.deep_supervision and network.has_segmentation:
        net.add_deep_supervision(config.trainer.deep_supervision)
    if config.trainer.channels_last:
        net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    net.to(device)
    options = _options(config, cases=len(sets[0]), world=ranks.world)
    tasks = tuple(config.tasks)
    state = TrainState.start(net, options.fit, balancer=build_balancer(config.balancer, tasks))
    sampler = TaskSampler(
        sets[0].table,
        config.sampling,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        rank=ranks.rank,
        world=ranks.world,
        tasks=tasks,
    )
    augment: Augment | None = None
    loader = StudyLoader(
        sets[0],
        sampler,
        divisor=net.divisor,
        seed=config.seed,
        augment=augment,
        workers=config.trainer.workers,
        pin_memory=device.type == "cuda",
    )
    trainer = Trainer(
        state=state,
        data=loader,
        validation=sets[1],
        objective=_objective(config, train_sources),
        options=options,
        folder=out / "checkpoints",
        tracker=tracker or NoTracker(),
        device=device,
        ranks=ranks,
    )
    return RunParts(config, train_sources, val_sources, sets[0], sets[1], augment, trainer)


def _options(config: TrainConfig, *, cases: int, world: int) -> RunOptions:
    """Epochs in steps."""
    wanted = config.trainer
    studies = wanted.batch_size * wanted.accumulate * world
    per_epoch = wanted.steps_per_epoch or max(1, -(-cases // studies))
    limits = [wanted.max_epochs and wanted.max_epochs * per_epoch, wanted.max_steps]
    fit = FitOptions(
        steps=min(limit for limit in limits if limit),
        peak_lr=wanted.lr,
        warmup_steps=wanted.warmup_steps,
        weight_decay=wanted.weight_decay,
        clip_norm=wanted.clip_norm,
        ema_decay=wanted.ema_decay,
        floor_lr=wanted.min_lr,
        accumulate=wanted.accumulate,
        sam_rho=wanted.sam_rho,
        is_half=wanted.precision == "float16",
        seed=config.seed,
    )
    return RunOptions(
        fit=fit,
        steps_per_epoch=per_epoch,
        validate_every=wanted.validate_every,
        checkpoint_every_s=wanted.checkpoint_every_s,
        freeze_batch_norm=wanted.freeze_batch_norm,
        log_every=wanted.log_every,
        deliver=wanted.deliver,
    )


def _objective(config: TrainConfig, sources: Sequence[DataSource]) -> JointObjective:
    wanted, weights = config.trainer, ()
    if wanted.lesion_weight != 1:
        segments = merged_schema(sources, config.network_of_tasks()).segments
        weights = (1.0, *(wanted.lesion_weight if s.is_lesion else 1.0 for s in segments))
    return JointObjective(
        precision=wanted.precision,
        class_weights=weights,
        diagnosis_weight=wanted.diagnosis_weight,
        covariate_dropout=wanted.covariate_dropout,
        channels_last=wanted.channels_last,
    )


def train_run(
    config: TrainConfig,
    out: Path,
    *,
    data_root: Path = Path(),
    resume: bool = False,
    tracker: Tracker | None = None,
    watch: Callable[[StepReport, int], None] = lambda _report, _steps: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """One training run, from the manifests to a bundle in `out/bundle`.

    Args:
        config: The run.
        out: Gets config.json, checkpoints, the bundle, cases.csv and run.json.
        data_root: What the manifests' own roots start from.
        resume: Go on from the last checkpoint in `out`; without one, start.
        tracker: Told what happens; the caller closes it.
        watch: Called after every step with its report and the number of steps in all.
        should_stop: Asked after every step.

    Raises:
        ConfigError: If config, manifests and machine do not fit together, or `out` holds a run.
        TrainingDivergedError: If a loss or gradient is not finite.
        TrainingStoppedError: If asked to stop.
        OutOfMemoryError: If the memory does not suffice, with what to lower.
    """
    ranks = join_ranks(choose_device(config.trainer.device))
    try:
        tracker = (tracker if ranks.is_main else None) or NoTracker()
        _check_folder(config, out, resume=resume, ranks=ranks)
        parts = build(config, out, data_root=data_root, tracker=tracker, ranks=ranks)
        trainer = parts.trainer
        trainer.watch = lambda report: watch(report, trainer.options.fit.steps)
        trainer.should_stop = should_stop
        torch.use_deterministic_algorithms(config.trainer.deterministic, warn_only=True)
        _log_start(parts, tracker)
        began = time.monotonic()
        with memory_errors():
            _train(parts)
        seconds = time.monotonic() - began
        return _finish(parts, out, tracker, seconds)
    finally:
        leave_ranks()


def _train(parts: RunParts) -> None:
    trainer, config = parts.trainer, parts.config
    if trainer.net.measure is not None and not trainer.has_checkpoint:
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
            HeadOptions(
                steps=wanted.steps,
                batch=wanted.batch,
                peak_lr=wanted.lr,
                weight_decay=wanted.weight_decay,
                blur=wanted.blur,
                covariate_dropout=wanted.covariate_dropout,
            ),
            views=wanted.views,
            augment=parts.augment,
            device=trainer.device,
            seed=config.seed,
        )


def _check_folder(config: TrainConfig, out: Path, *, resume: bool, ranks: Ranks) -> None:
    """Refuse to mix two runs in one folder; write the resolved config beside the checkpoints."""
    path = out / "config.json"
    text = json.dumps(config.model_dump(mode="json"), indent=1) + "\n"
    started = (out / "checkpoints" / "last.ckpt").exists()
    if started and not resume:
        raise ConfigError(
            f"{out.name}: found a run there, expected an empty folder. Go on with --resume, or "
            "choose another folder with -o."
        )
    if started and path.exists() and _matters(path.read_text("utf-8")) != _matters(text):
        raise ConfigError(
            f"{out.name}: --resume with another configuration than the run was started with "
            "(config.json). Use the same, or choose another folder with -o."
        )
    if ranks.is_main:
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, text.encode())


def _matters(text: str) -> dict[str, Any]:
    """What the numbers of a run depend on."""
    config: dict[str, Any] = json.loads(text)
    config.pop("tracking", None)
    for name in ("checkpoint_every_s", "log_every", "workers"):
        config["trainer"].pop(name, None)
    return config


def _log_start(parts: RunParts, tracker: Tracker) -> None:
    tracker.log_config(parts.config.model_dump(mode="json"))
    uses = (("train", parts.train_sources), ("validation", parts.val_sources))
    for use, sources in uses:
        for source, one in zip(sources, parts.config.data.manifests, strict=True):
            if source.cases:
                tracker.log_dataset(source.manifest.name, manifest_sha256(Path(one.folder)), use)


def _finish(parts: RunParts, out: Path, tracker: Tracker, seconds: float) -> TrainResult:
    """Deliver on the main process; the others only know where."""
    trainer = parts.trainer
    if not trainer.ranks.is_main:
        return TrainResult(out / "bundle", {}, (), out / "cases.csv", {}, trainer.history)
    delivery = deliver(
        trainer.net.state_dict(),
        _bundle_settings(parts),
        validation=parts.val_sources,
        calibration=parts.config.calibration,
        training=_training_text(parts),
        out=out,
        device=trainer.device.type,
    )
    run = _run_record(parts, seconds)
    replace_file(out / "run.json", (json.dumps(run, indent=1) + "\n").encode())
    tracker.log_bundle(delivery.bundle)
    for path in (delivery.cases, out / "run.json", delivery.bundle / "metrics.json"):
        tracker.log_file(path)
    return TrainResult(
        delivery.bundle, delivery.metrics, delivery.scores, delivery.cases, run, trainer.history
    )


def _run_record(parts: RunParts, seconds: float) -> dict[str, Any]:
    trainer = parts.trainer
    used = [p for name, p in trainer.net.named_parameters() if not name.startswith("deep_heads.")]
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


def _bundle_settings(parts: RunParts) -> BundleSettings:
    """Everything of the bundle but weights and calibration."""
    info, network = parts.config.bundle, parts.config.network_of_tasks()
    schema = merged_schema(parts.train_sources, network)
    ranges = input_ranges(
        _range_volumes(parts),
        modality=info.input.modality,
        axes=info.axes,
        has_units=info.has_units,
    )
    names = set(network.segments)
    components = info.components.model_copy(
        update={"keep_largest": tuple(n for n in info.components.keep_largest if n in names)}
    )
    wanted = info.input
    if not network.has_segmentation:
        wanted = wanted.model_copy(update={"phase_segment": None})
    return BundleSettings(
        name=info.name,
        version=info.version,
        licence=info.licence,
        intended_use=info.intended_use,
        limits=info.limits,
        notice=info.notice,
        findings_exclusive=schema.findings_exclusive,
        input=wanted,
        preprocessing=parts.config.preprocessing,
        network=network,
        ranges=ranges,
        cam=info.cam,
        segments=segment_settings(schema, volumes_ml(parts.train_set)),
        findings=finding_settings(schema, {}),
        rules=tuple(rule for rule in info.rules if rule.finding in network.findings),
        components=components,
        mask_rules=info.mask_rules,
    )


def _range_volumes(parts: RunParts) -> Iterator[Volume]:
    rows = [
        (source.data_root, row.image)
        for source in parts.train_sources
        for case in source.cases
        for row in case.volumes
    ]
    step = max(1, len(rows) // _RANGE_VOLUMES)
    return (read_volume_file(root, image) for root, image in rows[::step][:_RANGE_VOLUMES])


def _training_text(parts: RunParts) -> str:
    names = [f"{s.manifest.name} ({len(s.cases)} cases)" for s in parts.train_sources]
    cited = "; ".join(s.manifest.citation for s in parts.train_sources if s.manifest.citation)
    tasks = " and ".join(parts.config.tasks)
    return (
        f"{', '.join(names)}: {tasks}, {parts.trainer.state.step} steps, balancer "
        f"{parts.config.balancer.name}; `medmtl train`, configuration {parts.config.name}. {cited}"
    )
