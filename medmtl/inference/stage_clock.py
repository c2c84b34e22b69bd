"""Seconds per stage of one case."""

from __future__ import annotations

import time

__all__ = ["StageClock"]


class StageClock:
    """Seconds per stage, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        """Add the time since the last stop to a stage."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def go_on(self) -> None:
        """Begin the next stage now: what has passed since the last stop was waiting."""
        self._last = time.perf_counter()
