"""One question of the gate with its answer, and the comparison of a figure with a limit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from medmtl.tracking.figures import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.tracking.bundle_files import BundleRecord
    from medmtl.tracking.figures import Figure
    from medmtl.tracking.gate_settings import GateSettings

__all__ = ["Criterion", "Evidence", "at_least", "at_most", "count", "measured_model", "said"]


@dataclass(frozen=True)
class Criterion:
    """One question of the gate and its answer."""

    name: str
    is_met: bool
    found: str
    expected: str

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """A bundle whose checksums were recomputed, and the figures that speak for it.

    Attributes:
        bundle: The bundle.
        metrics: Content of a metrics.json: the bundle's own, or of an evaluation.
        is_evaluation: Whether they come from a folder of `medmtl evaluate` and so must name the
            model they were measured with. The bundle's own cannot: its identity covers them.
    """

    bundle: BundleRecord
    metrics: Mapping[str, Any]
    is_evaluation: bool = False


def at_least(name: str, found: Figure | None, limit: float, settings: GateSettings) -> Criterion:
    """Whether a figure reaches a limit; one that was not measured does not."""
    number = found.judged(settings.judge_by, is_higher_better=True) if found else None
    is_met = number is not None and number >= limit
    return Criterion(name, is_met, said(found), f"at least {limit:g}, by {settings.judge_by}")


def at_most(name: str, found: Figure | None, limit: float, settings: GateSettings) -> Criterion:
    """Whether a figure stays within a limit; one that was not measured does not."""
    number = found.judged(settings.judge_by, is_higher_better=False) if found else None
    is_met = number is not None and number <= limit
    return Criterion(name, is_met, said(found), f"at most {limit:g}, by {settings.judge_by}")


def said(found: Figure | None) -> str:
    """The figure as text."""
    return "no figure" if found is None else str(found)


def count(metrics: Mapping[str, Any], key: str) -> int:
    """A whole number of metrics.json; 0 where there is none."""
    value = metrics.get(key, 0)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def measured_model(name: str, one: Evidence) -> Criterion:
    """Whether an evaluation was made with the very bundle that it shall speak for."""
    measured = str(table(one.metrics, "model").get("sha256", "none"))
    wanted = one.bundle.sha256
    return Criterion(
        name, measured == wanted, f"figures of {measured[:12]}", f"figures of {wanted[:12]}"
    )
