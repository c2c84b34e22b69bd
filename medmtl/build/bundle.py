"""What the bundle of a run says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.data.volume_file import read_volume_file
from medmtl.evidence.input_ranges import input_ranges
from medmtl.inference.bundle_settings import BundleSettings
from medmtl.training.deliver import merged_schema
from medmtl.training.label_settings import finding_settings, segment_settings
from medmtl.training.standardise import volumes_ml

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.build.parts import RunParts
    from medmtl.config import BundleInfo
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume
    from medmtl.data.sources import DataSource
    from medmtl.networks.joint import NetworkConfig

__all__ = ["bundle_settings", "range_volumes", "stated", "training_text"]

_AS_STATED = (
    "name", "version", "licence", "intended_use", "limits", "notice", "cam", "mask_rules",
)  # fmt: skip

_RANGE_VOLUMES = 100
"""Training volumes that are read for the input ranges of a bundle."""


def bundle_settings(parts: RunParts) -> BundleSettings:
    """Everything of the bundle but weights and calibration."""
    info, network = parts.config.bundle, parts.config.network_of_tasks()
    schema = merged_schema(parts.train_sources, network)
    ranges = input_ranges(
        range_volumes(parts.train_sources),
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
        **stated(info, schema, network),
        input=wanted,
        preprocessing=parts.config.grid,
        ranges=ranges,
        segments=segment_settings(
            schema, volumes_ml(parts.train_set, segments=parts.config.network.segments)
        ),
        findings=finding_settings(schema, {}),
        components=components,
    )


def stated(info: BundleInfo, schema: LabelSchema, network: NetworkConfig) -> dict[str, Any]:
    """What a bundle takes from its configuration as it stands there, by its own names."""
    return {name: getattr(info, name) for name in _AS_STATED} | {
        "network": network,
        "findings_exclusive": schema.findings_exclusive,
        "rules": tuple(rule for rule in info.rules if rule.finding in network.findings),
    }


def range_volumes(sources: Sequence[DataSource]) -> Iterator[Volume]:
    """Training images, evenly drawn, for the input ranges."""
    rows = [
        (source.data_root, row.image)
        for source in sources
        for case in source.cases
        for row in case.volumes
    ]
    step = max(1, len(rows) // _RANGE_VOLUMES)
    return (read_volume_file(root, image) for root, image in rows[::step][:_RANGE_VOLUMES])


def training_text(parts: RunParts) -> str:
    """The paragraph of the card: cases, tasks, steps, citation."""
    names = [f"{s.manifest.name} ({len(s.cases)} cases)" for s in parts.train_sources]
    cited = "; ".join(s.manifest.citation for s in parts.train_sources if s.manifest.citation)
    tasks = " and ".join(parts.config.tasks)
    return (
        f"{', '.join(names)}: {tasks}, {parts.trainer.state.step} steps, balancer "
        f"{parts.config.balancer.name}; `medmtl train`, configuration {parts.config.name}. {cited}"
    )
