"""What one run has done so far, for `this_run` in run.json."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Tally"]


@dataclass(eq=False)
class Tally:
    """What this run has done so far."""

    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    start_s: float = field(default_factory=time.monotonic)
    cases: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    summarised_s: float = field(default_factory=time.monotonic)

    def is_due(self, every_s: float) -> bool:
        """Whether the tables are older than they may be; if so, counts them as made now."""
        now_s = time.monotonic()
        if now_s - self.summarised_s < every_s:
            return False
        self.summarised_s = now_s
        return True

    def count(self, status: str, seconds_per_stage: Mapping[str, float]) -> None:
        """Add one case."""
        self.cases[status] += 1
        for stage, seconds in seconds_per_stage.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def as_json(self) -> dict[str, Any]:
        """The part `this_run` of run.json."""
        return {
            "started": self.started,
            "wall_s": round(time.monotonic() - self.start_s, 3),
            "cases": {name: self.cases[name] for name in ("done", "resumed", "failed")},
            "seconds_per_stage": {name: round(value, 3) for name, value in self.seconds.items()},
        }
