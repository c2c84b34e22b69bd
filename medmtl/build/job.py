"""What a training run is asked for, and whom it tells."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from medmtl.data.manifest import find_manifest, manifest_sha256
from medmtl.training.trainer import TrainingStoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from medmtl.config import TrainConfig
    from medmtl.data.sources import DataSource
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport

__all__ = ["Job", "followed", "log_start"]

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0

Item = TypeVar("Item")


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


def followed(
    items: Iterable[Item], *, what: str, total: int, should_stop: Callable[[], bool]
) -> Iterator[Item]:
    """What is done case by case around the steps: a line now and then, and it can be stopped.

    Args:
        items: What is done for a case is done when the next one is asked for.
        what: Such as "studies prepared".
        total: How many there are.
        should_stop: Asked after every one.

    Raises:
        TrainingStoppedError: If asked to stop; what was done is kept by whoever does it.
    """
    said = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        if should_stop():
            raise TrainingStoppedError(
                f"stopped, {what}: {number} of {total}. They are kept; start the same command "
                "again to go on, with --resume where steps were done."
            )
        if time.monotonic() - said >= LINE_EVERY_S:
            said = time.monotonic()
            logger.info("%s: %d of %d", what, number, total)
