"""Every setting of a training run, its default, unit and range.

Weakest to strongest: the defaults here, the TOML file, `--set key=value`. A setting that does not
exist is an error: all problems of a config are named at once, each with the nearest key that does
exist. Nothing in a config can run code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from medmtl.balancing.configs import BalancerConfig, SumConfig
from medmtl.core.errors import ConfigError
from medmtl.data.sampling import SamplingConfig
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.masks import MaskRules
from medmtl.inference.bundle_settings import CamSettings, InputSettings
from medmtl.networks.joint import NetworkConfig
from medmtl.postprocess.components import ComponentRules
from medmtl.training.augmentation import AugmentationConfig, NoAugmentation, PatchConfig
from medmtl.training.calibrate_config import CalibrationConfig
from medmtl.training.config_file import read_settings
from medmtl.training.selection import DEFAULT_VAL_SPLIT
from medmtl.transforms.any_grid import AnyPreprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = [
    "ArmConfig",
    "BundleInfo",
    "CompareConfig",
    "DataConfig",
    "EncoderConfig",
    "HeadRefitConfig",
    "ManifestSource",
    "TrackingConfig",
    "TrainConfig",
    "TrainerConfig",
    "load_config",
]

Task = Literal["segmentation", "diagnosis"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestSource(_Section):
    """One manifest folder and which of its cases are used.

    Attributes:
        folder: Of manifest.toml and cases.csv, from where the command is started; a
            `data_manifests/NAME` that is not there is the one that medmtl ships.
        data_root: Folder that the manifest's paths start from, itself from `--data-root`.
        train_splits: Splits to learn from.
        val_splits: Splits to validate on.
        val_fold: Cases of `train_splits` with this fold validate instead of being learned from.
    """

    folder: str
    data_root: str = ""
    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = (DEFAULT_VAL_SPLIT,)
    val_fold: NonNegativeInt | None = None


class DataConfig(_Section):
    """Where the cases come from.

    Attributes:
        manifests: One or more; each annotates its own segments and findings.
        cache_dir: Of the prepared studies, keyed by the preprocessing; None puts it into the
            output folder.
        label_fraction: Share of the training cases that is used; the others are left out.
    """

    manifests: tuple[ManifestSource, ...] = Field(min_length=1)
    cache_dir: str | None = None
    label_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0


class TrainerConfig(_Section):
    """How long and how the network learns.

    Attributes:
        max_epochs: Epochs; the run ends with whichever of both limits comes first.
        max_steps: Optimiser steps.
        steps_per_epoch: Optimiser steps of an epoch; None for once through the training cases.
        batch_size: Studies per micro-batch and process.
        accumulate: Micro-batches per optimiser step.
        lr: Peak learning rate of AdamW; a cosine leads from there down.
        min_lr: Added to every learning rate; where the cosine ends.
        warmup_steps: Linear warm-up.
        weight_decay: Of AdamW.
        clip_norm: Largest gradient norm.
        ema_decay: Of the averaged weights, which are what a run delivers; 0 for no averaging.
        precision: Of the forward pass. "float16" scales the loss and needs CUDA.
        device: "auto" prefers CUDA.
        workers: Processes that prepare batches; 0 prepares them in the training process.
        compile: Whether encoder and decoder go through `torch.compile`; for grids of one shape.
        channels_last: Whether tensors lie channels last in memory; faster convolutions.
        deterministic: Whether only deterministic kernels may run.
        deep_supervision: How many coarser levels of the decoder have a loss of their own.
        sharing_weight: Of the distance of two tied encoders, with network.sharing "soft".
        sam_rho: Radius of sharpness-aware minimisation (arXiv:2010.01412); 0 switches it off.
        freeze_batch_norm: Whether batch statistics stay as they are: one study is no sample of a
            population.
        lesion_weight: Of the voxels of lesions in the cross entropy.
        diagnosis_weight: Of the diagnosis loss, before the balancer sees it.
        covariate_dropout: Share of the training views whose covariates are made unknown.
        checkpoint_every_s: Seconds between checkpoints, beside those at the ends of epochs.
        validate_every: Epochs between validations; the last epoch always is.
        log_every: Steps between lines of the log.
        deliver: "best" delivers the weights of the best validation, "last" those of the end.
    """

    max_epochs: PositiveInt | None = None
    max_steps: PositiveInt | None = None
    steps_per_epoch: PositiveInt | None = None
    batch_size: PositiveInt = 1
    accumulate: PositiveInt = 1
    lr: PositiveFloat = 1e-3
    min_lr: NonNegativeFloat = 1e-6
    warmup_steps: NonNegativeInt = 50
    weight_decay: NonNegativeFloat = 1e-3
    clip_norm: PositiveFloat = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: NonNegativeInt = 0
    compile: bool = False
    channels_last: bool = False
    deterministic: bool = True
    deep_supervision: Annotated[int, Field(ge=0, le=4)] = 0
    sharing_weight: NonNegativeFloat = 1e-3
    sam_rho: NonNegativeFloat = 0.0
    freeze_batch_norm: bool = False
    lesion_weight: PositiveFloat = 1.0
    diagnosis_weight: PositiveFloat = 1.0
    covariate_dropout: Annotated[float, Field(ge=0, le=1)] = 0.2
    checkpoint_every_s: PositiveFloat = 180.0
    validate_every: PositiveInt = 1
    log_every: PositiveInt = 10
    deliver: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _ends(self) -> TrainerConfig:
        if self.max_epochs is None and self.max_steps is None:
            raise ValueError("give max_epochs, max_steps, or both")
        return self


class HeadRefitConfig(_Section):
    """The refit of the diagnosis head on the frozen network; see `training.head`.

    Attributes:
        steps: Optimiser steps.
        batch: Views per step.
        lr: Cosine from here to zero.
        weight_decay: Of AdamW.
        blur: Relative noise on the measurements.
        covariate_dropout: Share of views whose covariates are made unknown.
        views: Augmented views of every training case.
    """

    steps: PositiveInt = 1000
    batch: PositiveInt = 64
    lr: PositiveFloat = 2e-3
    weight_decay: NonNegativeFloat = 0.05
    blur: NonNegativeFloat = 0.08
    covariate_dropout: Annotated[float, Field(ge=0, le=1)] = 0.2
    views: PositiveInt = 3


class EncoderConfig(_Section):
    """A network that was trained before, as the shared encoder; see docs/train.md.

    Attributes:
        source: `from` in the file: a bundle's folder or name. Backbone, segments and preprocessing
            are its own.
        training: "frozen" trains the head alone, on features kept on disk; "partial" also the
            coarsest levels of the encoder, the decoder and what fits; "full" everything.
        unfreeze: Encoder levels of "partial", counted from the coarsest.
        layer_decay: Factor of the learning rate from each encoder level to the next finer one; the
            decoder learns like the coarsest level, the head at the full rate.
        max_dice_loss: A run whose masks lose more than this Dice on the validation cases, in any
            segment, is refused.
        distil_weight: Of the loss that keeps the masks like those of the source, for volumes
            without labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    source: str = Field(alias="from")
    training: Literal["frozen", "partial", "full"] = "frozen"
    unfreeze: PositiveInt = 1
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.7
    max_dice_loss: Annotated[float, Field(ge=0, le=1)] = 0.01
    distil_weight: NonNegativeFloat = 1.0


class TrackingConfig(_Section):
    """Where the run is written down.

    Attributes:
        enabled: False tracks nothing.
        uri: MLflow tracking server; None is `MLFLOW_TRACKING_URI`, or else a local SQLite store.
        store: Folder of the local store; None is `mlflow` beside the run folder.
        experiment: Name that groups runs.
        run_name: None draws a new one, so two unnamed runs never merge.
    """

    enabled: bool = True
    uri: str | None = None
    store: str | None = None
    experiment: str = "medmtl"
    run_name: str | None = None


class BundleInfo(_Section):
    """What the delivered bundle says of itself, beside what the run knows.

    Attributes:
        name: Of the model.
        version: Of the model.
        licence: Of the weights; that of the data may bind it.
        intended_use: One sentence.
        limits: One or more sentences.
        notice: Shown beside every answer.
        input: What a study must hold.
        has_units: Whether voxel values mean the same on every scanner (HU).
        axes: Order of the per-axis input ranges; see `evidence.input_ranges`.
        cam: Activation maps.
        rules: Measurements that contradict a finding.
        components: Connected pieces that stay.
        mask_rules: When a mask is implausible.
    """

    name: str
    version: str = "0.1.0"
    licence: str
    intended_use: str
    limits: str
    notice: str = "Research software, not a medical device."
    input: InputSettings
    has_units: bool = False
    axes: Literal["array", "patient"] = "array"
    cam: CamSettings = Field(default_factory=CamSettings)
    rules: tuple[MeasurementRule, ...] = ()
    components: ComponentRules = Field(default_factory=ComponentRules)
    mask_rules: MaskRules = Field(default_factory=MaskRules)


class ArmConfig(_Section):
    """One way to train in a comparison.

    Attributes:
        name: Also of its folder.
        set: What differs from the rest of the file, as `key=value` each; see `--set`.
        label_fractions: Those of the comparison in which it takes part; empty for all.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    set: tuple[str, ...] = ()
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()


class CompareConfig(_Section):
    """What `medmtl compare` trains; `medmtl train` takes no notice of it.

    Attributes:
        arms: Trained on the same cases for the same number of steps.
        subject: The arm that the others are compared with.
        folds: Held out in turn, for every manifest; empty keeps the validation cases of `data`.
        label_fractions: Shares of the training cases, for the data-efficiency curve.
    """

    arms: tuple[ArmConfig, ...] = Field(
        default=(
            ArmConfig(name="joint"),
            ArmConfig(name="segmentation", set=('tasks=["segmentation"]',)),
            ArmConfig(name="diagnosis", set=('tasks=["diagnosis"]',)),
        ),
        min_length=2,
    )
    subject: str = "joint"
    folds: tuple[NonNegativeInt, ...] = ()
    label_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(1.0,), min_length=1
    )

    @model_validator(mode="after")
    def _names(self) -> CompareConfig:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms need different names; found {names}")
        if self.subject not in names:
            raise ValueError(f"subject {self.subject!r} is none of the arms {names}")
        for arm in self.arms:
            if unknown := set(arm.label_fractions) - set(self.label_fractions):
                raise ValueError(
                    f"arm {arm.name}: label_fractions of the comparison lack {sorted(unknown)}"
                )
            if arm.name == self.subject and arm.label_fractions:
                raise ValueError(f"arm {arm.name}: the subject takes part in all label_fractions")
        return self


class TrainConfig(_Section):
    """A whole run.

    Attributes:
        name: Of the run's configuration.
        seed: Of weights, order, augmentation and dropout.
        tasks: What is learned; of `network` the parts of other tasks are left out.
        data: Where the cases come from.
        encoder: A network to start from; None starts from random weights.
        preprocessing: From a volume to the network grid, in training and inference alike; that of
            the encoder where there is one.
        network: The joint network.
        augmentation: Random changes of the training samples, by the modality.
        patch: Train on patches; None trains on whole volumes.
        sampling: How cases are drawn.
        trainer: How long and how it learns.
        balancer: From the losses of the tasks to one update.
        head_refit: Refit of the diagnosis head after training, None for none.
        calibration: Of the findings, on validation answers.
        tracking: Where the run is written down.
        bundle: What the delivered bundle says of itself.
        compare: What `medmtl compare` trains with this file.
    """

    name: str
    seed: NonNegativeInt = 0
    tasks: tuple[Task, ...] = Field(default=("segmentation", "diagnosis"), min_length=1)
    data: DataConfig
    encoder: EncoderConfig | None = None
    preprocessing: AnyPreprocessing | None = Field(default=None, validate_default=True)
    network: NetworkConfig
    augmentation: AugmentationConfig = Field(default_factory=NoAugmentation)
    patch: PatchConfig | None = None
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    trainer: TrainerConfig
    balancer: BalancerConfig = Field(default_factory=SumConfig)
    head_refit: HeadRefitConfig | None = None
    calibration: CalibrationConfig = Field(default_factory=CalibrationConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    bundle: BundleInfo
    compare: CompareConfig = Field(default_factory=CompareConfig)

    @field_validator("preprocessing")
    @classmethod
    def _is_given(
        cls, value: AnyPreprocessing | None, info: ValidationInfo
    ) -> AnyPreprocessing | None:
        if value is None and info.data.get("encoder", 0) is None:
            raise PydanticCustomError("missing", "a value is required")
        return value

    @property
    def grid(self) -> AnyPreprocessing:
        """The preprocessing, which an encoder has filled in by now."""
        if self.preprocessing is None:
            raise ConfigError("preprocessing: found none, expected that of encoder.from.")
        return self.preprocessing

    @model_validator(mode="after")
    def _fits_together(self) -> TrainConfig:
        if problems := [text for text, is_wrong in self._contradictions() if is_wrong]:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[tuple[str, bool]]:
        network, wants = self.network, self.bundle.input
        if self.encoder is None:
            is_own = isinstance(self.preprocessing, PreprocessingConfig)
            yield "preprocessing of an imported network needs encoder.from", not is_own
        elif self.preprocessing is None:  # the encoder fills the rest in, see build.encoder
            return
        yield (
            "tasks has segmentation, but network.segments is empty",
            ("segmentation" in self.tasks and not network.segments),
        )
        yield (
            "tasks has diagnosis, but network.findings or network.head is missing",
            ("diagnosis" in self.tasks and (not network.findings or network.head is None)),
        )
        volumes = 1 if wants.kind == "single" else 2
        yield (
            f"bundle.input.kind {wants.kind!r} needs {volumes} network.volumes",
            (len(network.volumes) != volumes),
        )
        yield (
            f"bundle.input.phase_segment {wants.phase_segment!r} is not in network.segments",
            (wants.phase_segment is not None and wants.phase_segment not in network.segments),
        )
        named = {*self.bundle.components.keep_largest, *self.bundle.mask_rules.may_be_cut}
        unknown = sorted(named - set(network.segments))
        cuts_itself = self.augmentation.name == "planar_mr" and self.patch is not None
        yield "patch and augmentation planar_mr, which cuts its own: leave patch out", cuts_itself
        yield f"bundle names segments {unknown} that network.segments lacks", bool(unknown)

    def network_of_tasks(self) -> NetworkConfig:
        """The network without the parts of tasks that are not learned.

        A network that learns no segmentation has no masks to measure or to pool inside of.
        """
        changes: dict[str, object] = {}
        if "diagnosis" not in self.tasks:
            changes |= {"findings": (), "head": None}
        if "segmentation" not in self.tasks:
            changes |= {"segments": (), "has_segmentation": False}
            if self.network.head is not None:
                kinds = tuple(kind for kind in self.network.head.pooling if kind != "mask")
                without_masks = {"measurements": None, "pooling": kinds}
                changes["head"] = self.network.head.model_copy(update=without_masks)
        return self.network.model_copy(update=changes)

    def balancer_of_tasks(self) -> BalancerConfig:
        """The balancer without what it says of tasks that are not learned."""
        settings = self.balancer.model_dump()
        unlearned = set(get_args(Task)) - set(self.tasks)
        changes: dict[str, object] = {
            key: {task: number for task, number in value.items() if task not in unlearned}
            for key, value in settings.items()
            if isinstance(value, dict)
        }
        if settings.get("primary") in unlearned:
            changes |= {"primary": None}
        return self.balancer.model_copy(update=changes)


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration of a file with `--set` on top.

    Raises:
        ConfigError: `bad.toml: 3 problem(s)` and a line for each, such as `trainer.max_epoch:
            unknown key; did you mean 'max_epochs'?`.
    """
    return read_settings(TrainConfig, path, overrides)
