"""Rivals timed in turns, so that whatever disturbs the machine disturbs them alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Seconds:
    """The times of one rival over all rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        digits = 2 if self.median < 10 else 1
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} s ({low:.{digits}f} to {high:.{digits}f})"


def take_turns(rivals: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, Seconds]:
    """Call each rival once per round; median, smallest and largest time of each."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name, work in rivals.items():
            start = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - start)
    return {name: Seconds(tuple(values)) for name, values in times.items()}
