"""The objects of one run, from its configuration."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.balancing.table import build_balancer
from medmtl.core.errors import ConfigError
from medmtl.data.dataset import StudyDataset
from medmtl.data.loader import StudyLoader
from medmtl.data.manifest import find_manifest, listed_problems, read_manifest
from medmtl.data.sampling import TaskSampler
from medmtl.data.sources import DataSource
from medmtl.data.task_schedule import ConstantShares
from medmtl.inference.predictor import choose_device
from medmtl.networks.joint import JointNet
from medmtl.networks.memory_format import lay_channels_last
from medmtl.tracking.tracker import NoTracker
from medmtl.training.augmentation import build_augmentation
from medmtl.training.deliver import merged_schema
from medmtl.training.distributed import Ranks
from medmtl.training.encoder_layers import learning_scales
from medmtl.training.objective import JointObjective, StudyObjective
from medmtl.training.selection import choose_cases, label_share, shared_cases
from medmtl.training.state import FitOptions, TrainState
from medmtl.training.trainer import RunOptions, Trainer
from medmtl.training.window_objective import WindowObjective

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.config import TrainConfig
    from medmtl.data.label_table import LabelTable
    from medmtl.data.loader import Augment
    from medmtl.inference.routes import ImportedRoute
    from medmtl.networks.joint import NetworkConfig
    from medmtl.tracking.tracker import Tracker

__all__ = ["RunParts", "build", "check_rule", "check_taught", "read_sources"]

logger = logging.getLogger(__name__)


_WEIGHS_EACH_ALONE = ("sum", "mean", "fixed", "uw", "imtl_l")
"""Balancers that mean the same where each batch holds one task only."""


@dataclass(frozen=True, eq=False)
class RunParts:
    """The objects of one run.

    Attributes:
        config: What they were built from.
        train_sources: Cases to learn from.
        val_sources: Cases to validate on.
        train_set: Samples of the first.
        val_set: Samples of the second.
        augment: What changes a whole training sample at random.
        trainer: The run, not started.
    """

    config: TrainConfig
    train_sources: tuple[DataSource, ...]
    val_sources: tuple[DataSource, ...]
    train_set: StudyDataset
    val_set: StudyDataset
    augment: Augment | None
    trainer: Trainer


def read_sources(
    config: TrainConfig, data_root: Path
) -> tuple[tuple[DataSource, ...], tuple[DataSource, ...]]:
    """Training and validation cases of every manifest.

    Args:
        config: Its `data`.
        data_root: What each manifest's own `data_root` starts from.

    Raises:
        ConfigError: If a manifest is wrong, nothing is left to learn from, or a patient or an image
            is on both sides.
    """
    train, val = [], []
    for one in config.data.manifests:
        manifest = read_manifest(find_manifest(one.folder))
        learns, validates = choose_cases(
            manifest,
            train_splits=one.train_splits,
            val_splits=one.val_splits,
            val_fold=one.val_fold,
        )
        learns = label_share(learns, share=config.data.label_fraction, seed=config.seed)
        root = data_root / one.data_root
        if not root.is_dir():
            raise ConfigError(
                f"data root {root.name or root}: found no such folder, expected the one that the "
                f"paths of manifest {manifest.name} start from. Give --data-root."
            )
        train.append(DataSource(manifest, root, learns))
        val.append(DataSource(manifest, root, validates))
    if problems := list(shared_cases(train, val)):
        raise ConfigError(listed_problems("training and validation are not apart", problems))
    return tuple(train), tuple(val)


def build(
    config: TrainConfig,
    out: Path,
    *,
    data_root: Path = Path(),
    tracker: Tracker | None = None,
    ranks: Ranks | None = None,
    start: JointNet | None = None,
    route: ImportedRoute | None = None,
) -> RunParts:
    """Everything that a run needs; no image is opened yet.

    Args:
        config: The run; with an encoder, as `with_encoder` gives it.
        out: Of checkpoints and cache.
        data_root: What the manifests' own roots start from.
        tracker: Told what happens.
        ranks: The processes that train together.
        start: The network with the weights of an encoder; None starts from random ones.
        route: How it goes over a volume if it is an imported one.

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
    if not any(source.cases for source in val_sources):
        logger.warning("no validation cases: the last weights are delivered, uncalibrated")
    sets = [
        StudyDataset(sources, network=network, preprocessing=config.grid, cache_dir=cache)
        for sources in (train_sources, val_sources)
    ]
    check_taught(sets[0].table, network, has_masks=start is not None)
    check_rule(config, train_sources)
    _check_encoder_balancer(config)
    _check_meeting(sets[0].table, config, places=config.trainer.batch_size * ranks.world)
    torch.manual_seed(config.seed)
    net = start or JointNet(network)
    if config.trainer.deep_supervision and network.has_segmentation:
        net.add_deep_supervision(config.trainer.deep_supervision)
    if config.trainer.channels_last:
        lay_channels_last(net)
    net.to(device)
    scales, teacher = _started(config, net) if start is not None else ({}, None)
    options = _options(config, cases=len(sets[0]), world=ranks.world)
    tasks = tuple(config.tasks)
    state = TrainState.start(
        net,
        options.fit,
        balancer=build_balancer(config.balancer_of_tasks(), tasks),
        scales=scales,
    )
    sampler = TaskSampler(
        sets[0].table,
        config.sampling,
        batch_size=config.trainer.batch_size,
        seed=config.seed,
        rank=ranks.rank,
        world=ranks.world,
        tasks=tasks,
    )
    _say_idle_schedule(sets[0].table, config, sampler)
    if config.patch and len(tasks) > 1 and config.trainer.batch_size > 1:
        logger.warning("a patch beside a whole volume is padded to its size; use batch_size=1")
    whole = build_augmentation(config.augmentation)
    cut = build_augmentation(config.augmentation, patch=config.patch) if config.patch else whole
    loader = StudyLoader(
        sets[0],
        sampler,
        divisor=net.divisor,
        seed=config.seed,
        augment={"segmentation": cut, "diagnosis": whole},  # a patch knows no findings
        workers=config.trainer.workers,
        pin_memory=device.type == "cuda",
    )
    trainer = Trainer(
        state=state,
        data=loader,
        validation=sets[1],
        objective=_objective(config, train_sources, teacher, route),
        options=options,
        folder=out / "checkpoints",
        tracker=tracker or NoTracker(),
        device=device,
        ranks=ranks,
    )
    return RunParts(config, train_sources, val_sources, sets[0], sets[1], whole, trainer)


def _started(config: TrainConfig, net: JointNet) -> tuple[Mapping[str, float], JointNet]:
    """Learning rates by weight, and a copy of the network whose masks are to be kept."""
    wanted = config.encoder
    if wanted is None:
        raise ConfigError("encoder: found none, expected encoder.from.")
    teacher = copy.deepcopy(net).eval().requires_grad_(requires_grad=False)
    unfreeze = wanted.unfreeze if wanted.training == "partial" else None
    return learning_scales(net, unfreeze=unfreeze, decay=wanted.layer_decay), teacher


def check_taught(table: LabelTable, network: NetworkConfig, *, has_masks: bool) -> None:
    """Refuse outputs that no case teaches: a bundle would answer them at random.

    Args:
        table: What is known of every training case.
        network: Its outputs.
        has_masks: Whether the network knows its segments already.

    Raises:
        ConfigError: Naming them.
    """
    is_known = {
        "network.segments": {}
        if has_masks
        else dict(zip(network.segments, table.is_annotated.T, strict=True)),
        "network.findings": dict(zip(network.findings, ~np.isnan(table.findings).T, strict=True)),
    }
    problems = [
        f"{key}: no training case has a label for {', '.join(missing)}"
        for key, cases in is_known.items()
        if (missing := [name for name, known in cases.items() if not known.any()])
    ]
    if problems:
        advice = "Correct the names or leave them out; `medmtl manifest check` reads a manifest."
        raise ConfigError(f"{'; '.join(problems)}. {advice}")


def check_rule(config: TrainConfig, sources: Sequence[DataSource]) -> None:
    """Refuse before the training what the calibration would refuse after it.

    Raises:
        ConfigError: If a rule for exclusive findings is asked of others.
    """
    rule, network = config.calibration.threshold.name, config.network_of_tasks()
    if not rule.startswith("exclusive") or not network.findings:
        return
    if not merged_schema(sources, network).findings_exclusive:
        raise ConfigError(
            f"calibration.threshold {rule}: found findings that may occur together, expected "
            "manifests whose findings_exclusive is true and whose findings are the network's. "
            "Choose another rule."
        )


def _check_encoder_balancer(config: TrainConfig) -> None:
    """A balancer that reads gradients where the tasks part needs all levels to have one."""
    is_partial = config.encoder is not None and config.encoder.training == "partial"
    if is_partial and config.balancer.name not in _WEIGHS_EACH_ALONE:
        raise ConfigError(
            f"balancer {config.balancer.name}: found encoder.training partial, whose frozen levels "
            f"have no gradients to balance. Use one of {', '.join(_WEIGHS_EACH_ALONE)}."
        )


def _check_meeting(table: LabelTable, config: TrainConfig, *, places: int) -> None:
    """Refuse a balancer that would see one task at a time, and so change nothing.

    Raises:
        ConfigError: Saying what to set.
    """
    both = _teaches_all(table, config)
    is_needed = len(config.tasks) > 1 and config.balancer.name not in _WEIGHS_EACH_ALONE
    if is_needed and places < len(config.tasks) and not both.any():
        raise ConfigError(
            f"balancer {config.balancer.name}: no training case teaches both tasks and a batch is "
            "one case, so there is never anything to balance. Set trainer.batch_size=2."
        )


def _say_idle_schedule(table: LabelTable, config: TrainConfig, sampler: TaskSampler) -> None:
    """Warn where the shares of the tasks change nothing that is learned."""
    if len(config.tasks) < 2 or config.sampling.schedule == ConstantShares():
        return
    if not sampler.draws_by_shares:
        logger.warning(
            "sampling.schedule decides nothing: every batch holds each task once. "
            "Set trainer.batch_size above %d",
            len(sampler.tasks),
        )
    elif config.patch is None and _teaches_all(table, config).all():
        logger.warning(
            "sampling.schedule decides next to nothing: every case teaches both tasks, whichever "
            "it is drawn for. Set sampling.one_task_per_case=true"
        )


def _teaches_all(table: LabelTable, config: TrainConfig) -> NDArray[np.bool_]:
    """(N,), whether the case teaches all tasks at once."""
    if config.sampling.one_task_per_case and len(config.tasks) > 1:
        return np.zeros(len(table), dtype=bool)
    return np.asarray(np.logical_and.reduce([table.is_known(task) for task in config.tasks]))


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
        freeze_batch_norm=wanted.freeze_batch_norm or config.encoder is not None,
        log_every=wanted.log_every,
        deliver=wanted.deliver,
    )


def _objective(
    config: TrainConfig,
    sources: Sequence[DataSource],
    teacher: JointNet | None,
    route: ImportedRoute | None,
) -> StudyObjective:
    wanted = config.trainer
    weights: tuple[float, ...] = ()
    if wanted.lesion_weight != 1:
        segments = merged_schema(sources, config.network_of_tasks()).segments
        weights = (1.0, *(wanted.lesion_weight if s.is_lesion else 1.0 for s in segments))
    objective = JointObjective(
        precision=wanted.precision,
        class_weights=weights,
        diagnosis_weight=wanted.diagnosis_weight,
        covariate_dropout=wanted.covariate_dropout,
        channels_last=wanted.channels_last,
        sharing_weight=wanted.sharing_weight,
        meets_at_encoder=getattr(config.balancer, "on", None) == "encoder",
        teacher=teacher,
        distil_weight=config.encoder.distil_weight if config.encoder else 1.0,
    )
    if route is None or config.encoder is None:
        return objective
    return WindowObjective(objective, route, config.encoder.patches_of(route.patch_kji))
