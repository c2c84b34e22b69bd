"""What a training run ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.metrics.scores import CaseScore

__all__ = ["TrainResult"]


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
