"""A run that starts from a trained network: its features, a head on them, then maybe all of it.

The head is fitted to the features of the encoder as it came. With a frozen encoder that is all.
Else everything learns on from there (a head that is fitted first spares the features,
arXiv:2202.10054), and the head is fitted once more to the features that came out.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.build.bundle import range_volumes
from medmtl.build.encoder import joint_settings, starting_net, with_encoder
from medmtl.build.folder import check_folder, check_manifests
from medmtl.build.job import log_start
from medmtl.build.parts import build, check_rule, check_taught, read_sources
from medmtl.build.result import TrainResult
from medmtl.config import HeadRefitConfig
from medmtl.core.durable import replace_file
from medmtl.core.errors import ConfigError
from medmtl.core.prediction import ModelIdentity
from medmtl.data.dataset import StudyDataset
from medmtl.evidence.input_ranges import input_ranges
from medmtl.inference.bundle import Bundle, load_folds
from medmtl.inference.predictor import Predictor, choose_device
from medmtl.inference.routes import ImportedRoute
from medmtl.training.deliver import bundle_weights, deliver, merged_schema
from medmtl.training.encoder_features import FeatureStore, head_table
from medmtl.training.figures import log_figures
from medmtl.training.head import fit_head, hold_standardised, standardise_pooled
from medmtl.training.mask_change import check_masks_kept, mask_change
from medmtl.training.memory import peak_memory_mib
from medmtl.training.stoppable import followed
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.build.job import Job
    from medmtl.config import TrainConfig
    from medmtl.data.cases import Case
    from medmtl.data.sources import DataSource
    from medmtl.networks.joint import JointNet
    from medmtl.training.encoder_features import CaseFeatures

__all__ = ["train_on_encoder"]

logger = logging.getLogger(__name__)


def train_on_encoder(job: Job) -> TrainResult:
    """The run of a configuration with an encoder.

    Raises:
        BundleError: If the encoder is missing or damaged.
        ConfigError: If encoder, manifests and configuration do not fit together.
        MasksLostError: If the masks lost more than `encoder.max_dice_loss`; no bundle is written.
    """
    config, encoder = with_encoder(job.config)
    check_folder(config, job.out, resume=job.resume, is_main=True)
    run = _Run.prepare(config, encoder, job)
    check_manifests(config, job.out, is_main=True)
    torch.use_deterministic_algorithms(config.trainer.deterministic, warn_only=True)
    log_start(job.tracker, config, train=run.train, validation=run.val)
    began = time.monotonic()
    before = run.features(run.val, has_folds=True)
    run.fit(run.features(run.train, has_folds=True))
    steps = 0
    if not run.is_frozen:
        steps = run.tune()
        run.fit(run.features(run.train, has_folds=False))
    after = run.features(run.val, has_folds=run.is_frozen)
    return run.finish(before, after, steps=steps, seconds=time.monotonic() - began)


Features = list[tuple["DataSource", "Case", "CaseFeatures"]]


@dataclass(frozen=True, eq=False)
class _Run:
    """What the steps of a run share; `net` changes in place, `config` is that with its encoder."""

    job: Job
    config: TrainConfig
    encoder: Bundle
    net: JointNet
    train: tuple[DataSource, ...]
    val: tuple[DataSource, ...]
    device: torch.device

    @classmethod
    def prepare(cls, config: TrainConfig, encoder: Bundle, job: Job) -> _Run:
        train, val = read_sources(config, job.data_root)
        known = StudyDataset(train, network=config.network, preprocessing=config.grid)
        StudyDataset(val, network=config.network, preprocessing=config.grid)  # names what lacks
        check_taught(known.table, config.network, has_masks=True)
        check_rule(config, train)
        net, device = starting_net(config, encoder), choose_device(config.trainer.device)
        run = cls(job, config, encoder, net, train, val, device)
        if not run.is_frozen and not any(source.cases for source in val):
            raise ConfigError(
                "encoder.training: found no validation cases, which measure what the masks lose. "
                'Give val_splits or val_fold, or use encoder.training = "frozen".'
            )
        return run

    @property
    def is_frozen(self) -> bool:
        return self.config.encoder is None or self.config.encoder.training == "frozen"

    def features(self, sources: Sequence[DataSource], *, has_folds: bool) -> Features:
        """Of every case, by the network as it is now."""
        needs = {name: weight.requires_grad for name, weight in self.net.named_parameters()}
        predictor = Predictor(self._bundle(has_folds=has_folds), device=self.device, cam=())
        self.net.eval()
        store = FeatureStore(predictor, self._cache / "features")
        found = list(
            followed(
                store.of_sources(sources),
                what="features computed or known",
                total=sum(len(source.cases) for source in sources),
                should_stop=self.job.should_stop,
            )
        )
        logger.info("features of %d cases, %d of them computed now", len(found), store.computed)
        for name, weight in self.net.named_parameters():
            weight.requires_grad_(needs[name])
        return found

    def _bundle(self, *, has_folds: bool) -> Bundle:
        """The network as it is now, as a bundle."""
        schema = merged_schema(self.train, self.config.network)
        settings = joint_settings(
            self.config, self.encoder.settings, schema, ranges=None, has_folds=has_folds
        )
        identity = ModelIdentity(settings.name, "training", "")
        return Bundle(settings, identity, self.net, self.encoder.folder)

    @property
    def _cache(self) -> Path:
        stated = self.config.data.cache_dir
        return Path(stated) if stated else self.job.out / "cache"

    def fit(self, features: Features) -> None:
        """The head alone."""
        wanted = self.config.head_refit or HeadRefitConfig()
        table = head_table(features, self.config.network.findings)
        self.net.cpu()
        standardise_pooled(self.net, table)
        torch.manual_seed(self.config.seed)
        fit_head(self.net, table, wanted.options, np.random.default_rng([self.config.seed, 6]))
        self.net.to(self.device)

    def tune(self) -> int:
        """Both tasks, from the encoder and the fitted head; the number of steps."""
        bundle = self._bundle(has_folds=False)
        route = Predictor(bundle, device=self.device, cam=()).route
        self.net.requires_grad_(requires_grad=True)
        hold_standardised(self.net)
        job = self.job
        parts = build(
            self.config,
            job.out,
            data_root=job.data_root,
            tracker=job.tracker,
            start=self.net,
            route=route if isinstance(route, ImportedRoute) else None,
        )
        trainer = parts.trainer
        trainer.watch = lambda report: job.watch(report, trainer.options.fit.steps)
        trainer.should_stop = job.should_stop
        if not trainer.has_checkpoint:
            trainer.restart_average()
        trainer.train()
        trainer.net.requires_grad_(requires_grad=True)
        return trainer.state.step

    def finish(
        self, before: Features, after: Features, *, steps: int, seconds: float
    ) -> TrainResult:
        """The gate, then the bundle."""
        wanted = self.config.encoder
        change = mask_change(
            ((*one, other) for one, (_, _, other) in zip(before, after, strict=True)),
            self.encoder.settings.segments,
            self.config.network.volumes,
        )
        limit = wanted.max_dice_loss if wanted else 0.0
        facts = {
            "from": {
                "name": self.encoder.identity.name,
                "version": self.encoder.identity.version,
                "sha256": self.encoder.identity.sha256,
            },
            "training": wanted.training if wanted else "frozen",
            "max_dice_loss": limit,
            **change,
        }
        check_masks_kept(change, max_loss=limit)
        delivery = self._deliver(facts, steps)
        record = self._record(facts, steps, seconds)
        replace_file(self.job.out / "run.json", (json.dumps(record, indent=1) + "\n").encode())
        records = self.job.out / ".medmtl" / "scores"
        log_figures(
            self.job.tracker,
            delivery.scores,
            metrics=delivery.metrics,
            records=records,
            sources=self.val,
            out=self.job.out,
            step=steps,
        )
        self.job.tracker.log_bundle(delivery.bundle)
        for path in (delivery.cases, self.job.out / "run.json", delivery.bundle / "metrics.json"):
            self.job.tracker.log_file(path)
        return TrainResult(
            delivery.bundle, delivery.metrics, delivery.scores, delivery.cases, record, []
        )

    def _deliver(self, facts: dict[str, Any], steps: int) -> Any:
        info = self.config.bundle
        ranges = self.encoder.settings.ranges or input_ranges(
            range_volumes(self.train),
            modality=info.input.modality,
            axes=info.axes,
            has_units=info.has_units,
        )
        settings = joint_settings(
            self.config,
            self.encoder.settings,
            merged_schema(self.train, self.config.network),
            ranges=ranges,
            has_folds=self.is_frozen,
        )
        _, *others = load_folds(self.encoder)
        names = [name.split("_", 1)[1].split(".")[0] for name in self.encoder.settings.folds or ()]
        folds = {n: net.state_dict() for n, net in zip(names, others, strict=True)}
        return deliver(
            bundle_weights(self.net.state_dict()),
            settings,
            validation=self.val,
            calibration=self.config.calibration,
            training=self._text(facts, steps),
            out=self.job.out,
            records=self.job.out / ".medmtl" / "scores",
            device=self.device.type,
            folds=folds if self.is_frozen and folds else None,
            is_half=isinstance(self.config.preprocessing, PreprocessingConfig),
            facts={"encoder": facts},
            should_stop=self.job.should_stop,
        )

    def _learned(self) -> list[torch.Tensor]:
        """Weights that the training may have changed."""
        named = self.net.named_parameters()
        if self.is_frozen:
            return [weight for name, weight in named if name.startswith("head.")]
        return [weight for _, weight in named]

    def _text(self, facts: dict[str, Any], steps: int) -> str:
        """The paragraph of the card."""
        cases = [f"{s.manifest.name} ({len(s.cases)} cases)" for s in self.train]
        cited = "; ".join(s.manifest.citation for s in self.train if s.manifest.citation)
        trained = "frozen" if self.is_frozen else f"{facts['training']}, {steps} steps"
        return (
            f"{', '.join(cases)}: a diagnosis head on the encoder of {self.encoder.identity.name} "
            f"{self.encoder.identity.version} (encoder {trained}); `medmtl train`, configuration "
            f"{self.config.name}. {cited}\n\n{masks_text(facts)}"
        )

    def _record(self, facts: dict[str, Any], steps: int, seconds: float) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "name": self.config.name,
            "tasks": list(self.config.tasks),
            "encoder": facts,
            "parameters": sum(weight.numel() for weight in self._learned()),
            "steps": steps,
            "train_cases": sum(len(source.cases) for source in self.train),
            "val_cases": sum(len(source.cases) for source in self.val),
            "seconds": round(seconds, 3),
            "peak_memory_mib": peak_memory_mib(self.device),
            "device": self.device.type,
            "torch": str(torch.__version__),
        }


def masks_text(facts: dict[str, Any]) -> str:
    """What became of the masks, as a whole and by segment."""
    before, after = facts["dice_before"]["mean"], facts["dice_after"]["mean"]
    if not facts["n_cases"]:
        return "Masks before and after were not compared: there were no validation cases."
    said = f"Masks on {facts['n_cases']} validation cases: "
    if before is not None:
        said += f"mean Dice {before:.4f} before, {after:.4f} after; "
    said += (
        f"{facts['equal_voxels']:.6f} of the voxels are the same, the worst segment lost "
        f"{facts['loss']:.4f} Dice (allowed: {facts['max_dice_loss']:g})."
    )
    first, then = (facts[when]["per_segment"] for when in ("dice_before", "dice_after"))
    if first:
        each = (f"{name} {first[name]:.4f}, {then.get(name, 0.0):.4f}" for name in first)
        said += f"\n\nDice to the truth before, after, by segment: {'; '.join(each)}."
    return said
