"""What a training run is asked for, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.data.manifest import find_manifest, manifest_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medmtl.config import TrainConfig
    from medmtl.data.sources import DataSource
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport

__all__ = ["Job", "log_start"]


@dataclass(frozen=True, eq=False)
class Job:
    """The arguments of `train_run`, which explains them."""

    config: TrainConfig
    out: Path
    data_root: Path
    resume: bool
    tracker: Tracker
    watch: Callable[[StepReport, int], None]
    should_stop: Callable[[], bool]


def log_start(
    tracker: Tracker,
    config: TrainConfig,
    *,
    train: Sequence[DataSource],
    validation: Sequence[DataSource],
) -> None:
    """Tell the configuration, and every manifest with all of its uses.

    Once each: MLflow keeps one input for each data set of a run, and of a second its use is lost.
    """
    tracker.log_config(config.model_dump(mode="json"))
    uses: dict[tuple[str, str], dict[str, None]] = {}
    for use, sources in (("train", train), ("validation", validation)):
        for source, one in zip(sources, config.data.manifests, strict=True):
            if source.cases:
                digest = manifest_sha256(find_manifest(one.folder))
                uses.setdefault((source.manifest.name, digest), {})[use] = None
    for (name, digest), found in uses.items():
        tracker.log_dataset(name, digest, ", ".join(found))
