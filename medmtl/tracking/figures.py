"""Single figures out of a metrics.json, whoever wrote it: what is not there is None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Figure", "figure", "mean_figure", "table"]

JudgeBy = Literal["value", "bound"]


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval.

    Attributes:
        value: The estimate.
        low: Lower end; None where there is no interval.
        high: Upper end.
    """

    value: float
    low: float | None = None
    high: float | None = None

    def judged(self, by: JudgeBy, *, is_higher_better: bool) -> float | None:
        """The number that counts: the estimate, or the unfavourable end of its interval."""
        if by == "value":
            return self.value
        return self.low if is_higher_better else self.high

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def table(metrics: object, *path: str) -> Mapping[str, Any]:
    """The table at a path; empty where there is none."""
    for key in path:
        metrics = metrics.get(key) if isinstance(metrics, Mapping) else None
    return metrics if isinstance(metrics, Mapping) else {}


def figure(metrics: object, *path: str) -> Figure | None:
    """The figure `{"value", "ci95"}` at a path; None where it was not measured."""
    entry = table(metrics, *path)
    value = _number(entry.get("value"))
    if value is None:
        return None
    ends = entry.get("ci95")
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return Figure(value)
    return Figure(value, _number(ends[0]), _number(ends[1]))


def mean_figure(figures: Iterable[Figure | None]) -> Figure | None:
    """Mean of estimates and of interval ends over the figures that exist.

    The mean of the ends is a wide interval: it holds where the figures move together.
    """
    known = [one for one in figures if one is not None]
    if not known:
        return None
    count = len(known)
    lows = [one.low for one in known if one.low is not None]
    highs = [one.high for one in known if one.high is not None]
    return Figure(
        sum(one.value for one in known) / count,
        sum(lows) / count if len(lows) == count else None,
        sum(highs) / count if len(highs) == count else None,
    )


def _number(value: object) -> float | None:
    """A finite number; a truth value is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
