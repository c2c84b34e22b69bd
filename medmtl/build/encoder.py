"""A configuration that starts from a trained network: what that network brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from medmtl.balancing.loss_table import SCALARIZERS
from medmtl.build.bundle import stated
from medmtl.config import TrainConfig
from medmtl.core.errors import BundleError, ConfigError
from medmtl.inference.bundle import Bundle, find_bundle, load_bundle
from medmtl.inference.bundle_settings import BundleSettings
from medmtl.networks.diagnosis_head import HeadConfig
from medmtl.networks.joint import JointNet
from medmtl.training.config_file import settings_of
from medmtl.training.encoder_layers import take_backbone
from medmtl.training.label_settings import finding_settings
from medmtl.transforms.imported_grid import MonaiGrid
from medmtl.transforms.monai_plan import MonaiPreprocessing
from medmtl.transforms.plans import PlansPreprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from medmtl.core.labels import LabelSchema
    from medmtl.evidence.input_ranges import InputRanges
    from medmtl.networks.joint import NetworkConfig
    from medmtl.transforms.any_grid import AnyPreprocessing

__all__ = ["joint_settings", "starting_net", "with_encoder"]

_OF_ENCODER = (
    "sha256", "preprocessing", "segments", "components", "sliding_window", "regions", "speeds",
)  # fmt: skip
_DEFAULT_HEAD = HeadConfig(pooling=("global", "mask"), measurements="volumes")


def with_encoder(config: TrainConfig) -> tuple[TrainConfig, Bundle]:
    """The configuration with backbone, segments, preprocessing and modality of its encoder.

    Raises:
        BundleError: If there is no such bundle, or it is damaged.
        ConfigError: If it cannot carry a diagnosis, or the configuration says otherwise.
    """
    wanted = config.encoder
    if wanted is None:
        raise ConfigError("encoder: found none, expected encoder.from.")
    encoder = load_bundle(find_bundle(wanted.source))
    network = _network(config, encoder.settings)
    if problems := [text for text, is_wrong in _problems(config, encoder, network) if is_wrong]:
        raise ConfigError(f"encoder.from {encoder.folder.name}: {'; '.join(problems)}")
    values = config.model_dump() | {
        "preprocessing": encoder.settings.preprocessing.model_dump(),
        "network": network.model_dump(),
    }
    values["bundle"]["input"]["modality"] = encoder.settings.input.modality
    return settings_of(TrainConfig, values, source=f"encoder {encoder.folder.name}"), encoder


def _network(config: TrainConfig, encoder: BundleSettings) -> NetworkConfig:
    """The encoder's network with the volumes, findings and head of the configuration."""
    own, stated = config.network, config.network.model_fields_set
    update: dict[str, Any] = {"findings": own.findings, "head": own.head or _DEFAULT_HEAD}
    if "volumes" in stated:
        update["volumes"] = own.volumes
    if isinstance(encoder.preprocessing, PlansPreprocessing):
        update["axes"] = encoder.preprocessing.transpose
    if isinstance(encoder.preprocessing, MonaiPreprocessing):
        update["axes"] = MonaiGrid.axes
    return encoder.network.model_copy(update=update)


def _problems(
    config: TrainConfig, encoder: Bundle, network: NetworkConfig
) -> Iterator[tuple[str, bool]]:
    settings, own = encoder.settings, config.network
    head = network.head
    training = config.encoder.training if config.encoder else "frozen"
    for name in ("backbone", "segments", "slice_context", "sharing"):
        is_other = getattr(own, name) != getattr(settings.network, name)
        yield (
            f"network.{name} is that of the encoder: leave it out",
            (name in own.model_fields_set and is_other),
        )
    yield (
        "preprocessing is that of the encoder: leave it out",
        (config.preprocessing is not None and config.preprocessing != settings.preprocessing),
    )
    yield (
        "bundle.components: the masks stay those of the encoder, leave it out",
        (
            "components" in config.bundle.model_fields_set
            and config.bundle.components != settings.components
        ),
    )
    wanted, known = config.bundle.input.modality, settings.input.modality
    yield (
        f"found bundle.input.modality {wanted}, expected {known}, which it was trained on: leave "
        "it out",
        wanted not in ("", known),
    )
    is_whole = len(encoder.net.backbone.channels) < 2  # type: ignore[arg-type]
    yield (
        "found a network that is not taken apart into encoder and decoder (of MONAI's, SegResNet "
        "is): set network.head.embedding = 0 to learn from measurements alone, frozen",
        is_whole and (training != "frozen" or (head is not None and head.embedding > 0)),
    )
    yield (
        "found a network without masks, expected one with segments",
        not settings.network.has_segmentation,
    )
    yield (
        "found several input channels or several parts; a diagnosis is learned on one network of "
        "one channel only",
        settings.network.in_channels > 1 or bool(settings.parts),
    )
    yield "network.findings is empty: name the findings to learn", not network.findings
    yield "tasks without diagnosis has nothing to learn", "diagnosis" not in config.tasks
    yield (
        "pooling attention has weights of its own, which a frozen encoder does not train: use "
        "network.head.pooling global and mask",
        training == "frozen" and head is not None and head.embedding > 0
        and "attention" in head.pooling,
    )  # fmt: skip
    yield from _tuning_problems(config, settings.preprocessing) if training != "frozen" else ()
    yield (
        "a network that answers for regions can only be frozen: its masks have no loss here",
        training != "frozen" and not settings.network.has_background,
    )


def _tuning_problems(
    config: TrainConfig, preprocessing: AnyPreprocessing
) -> Iterator[tuple[str, bool]]:
    """An imported network learns on from patches of its own size, in its own intensities."""
    is_imported = not isinstance(preprocessing, PreprocessingConfig)
    name = config.augmentation.name
    yield "patch is that of the imported network: leave it out", is_imported and bool(config.patch)
    yield (
        "augmentation planar_mr cuts patches of its own, an imported network learns from those of "
        "its plans: use volume_mr",
        is_imported and name == "planar_mr",
    )
    yield (
        "augmentation volume_ct clips to -1..1, and this network takes standard deviations: use "
        "volume_mr with bias = 0",
        isinstance(preprocessing, PlansPreprocessing) and name == "volume_ct",
    )
    yield (
        f"balancer {config.balancer.name}: masks and findings of an imported network learn from "
        "patches of their own and share no feature map to balance on; use one of "
        f"{', '.join(SCALARIZERS)}",
        is_imported and config.balancer.name not in SCALARIZERS,
    )


def starting_net(config: TrainConfig, encoder: Bundle) -> JointNet:
    """The network with the encoder's weights and a new head.

    Raises:
        BundleError: If the weights do not fit.
    """
    torch.manual_seed(config.seed)
    net = JointNet(config.network)
    try:
        take_backbone(net, encoder.net)
    except RuntimeError as error:
        raise BundleError(f"encoder {encoder.folder.name}: {error}. Import it again.") from error
    return net.eval()


def joint_settings(
    config: TrainConfig,
    encoder: BundleSettings,
    schema: LabelSchema,
    *,
    ranges: InputRanges | None,
    has_folds: bool,
) -> BundleSettings:
    """The bundle, uncalibrated: masks as the encoder has them, findings as the manifests do.

    Raises:
        ConfigError: If the parts do not fit together.
    """
    info = config.bundle
    names = {segment.name for segment in encoder.segments}
    findings = tuple(
        finding.model_copy(
            update={"segments": tuple(name for name in finding.segments if name in names)}
            | ({} if finding.requires_segment in names else {"requires_segment": None})
        )
        for finding in finding_settings(schema, {})
    )
    values = {
        **stated(info, schema, config.network),
        **{name: getattr(encoder, name) for name in _OF_ENCODER},
        "input": info.input,
        "ranges": ranges,
        "findings": findings,
        "folds": encoder.folds if has_folds else None,
    }
    try:
        return BundleSettings.model_validate(values)
    except ValidationError as error:
        text = "; ".join(str(one["msg"]).removeprefix("Value error, ") for one in error.errors())
        raise ConfigError(f"bundle: {text}.") from error
