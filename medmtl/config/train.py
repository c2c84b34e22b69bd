"""A whole run: its sections, and what of them must fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, NonNegativeInt, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from medmtl.balancing.configs import BalancerConfig, SumConfig
from medmtl.config.bundle import BundleInfo
from medmtl.config.compare import CompareConfig
from medmtl.config.data import DataConfig
from medmtl.config.encoder import EncoderConfig
from medmtl.config.head_refit import HeadRefitConfig
from medmtl.config.section import Section
from medmtl.config.tracking import TrackingConfig
from medmtl.config.trainer import TrainerConfig
from medmtl.core.errors import ConfigError
from medmtl.data.samples import TASKS, Task
from medmtl.data.sampling import SamplingConfig
from medmtl.networks.joint import NetworkConfig
from medmtl.training.augmentation import AugmentationConfig, NoAugmentation, PatchConfig
from medmtl.training.calibrate_config import CalibrationConfig
from medmtl.training.config_file import read_settings
from medmtl.transforms.any_grid import AnyPreprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["TrainConfig", "load_config"]


class TrainConfig(Section):
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
    tasks: tuple[Task, ...] = Field(default=TASKS, min_length=1)
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
            yield "bundle.input.modality is missing, such as CT or MR", not wants.modality
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
        unlearned = set(TASKS) - set(self.tasks)
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
