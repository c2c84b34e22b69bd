"""What a training run is asked for, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medmtl.config import TrainConfig
    from medmtl.tracking.tracker import Tracker
    from medmtl.training.loop import StepReport

__all__ = ["Job"]


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
