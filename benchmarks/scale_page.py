"""`docs/scale.md`: what ten million studies need, computed from the measured cost of one."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

STUDIES = 10_000_000
DAYS, CORES_PER_MACHINE = 30, 32
BUSY = 0.8
"""Share of its cores that a machine of a busy cluster keeps at work."""
TIB = 2**20  # in MiB
TEMPLATE = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Need:
    """What so many studies need.

    Attributes:
        core_hours: Processor time.
        machines: Of CORES_PER_MACHINE cores, to be done in DAYS days.
        per_machine_day: Studies that one machine does in a day.
        results_tib: Result folders.
        input_tib: Images as they come, uncompressed.
        read_mib_s: Rate at which the images must be read for that.
    """

    core_hours: float
    machines: float
    per_machine_day: float
    results_tib: float
    input_tib: float
    read_mib_s: float


def need(
    processor_s: float, results_mib: float, input_mib: float, *, studies: int = STUDIES
) -> Need:
    """From the cost of one study.

    Args:
        processor_s: Processor seconds per study.
        results_mib: Size of its results.
        input_mib: Size of its images.
        studies: How many.
    """
    core_hours = studies * processor_s / 3600
    per_machine_day = CORES_PER_MACHINE * BUSY * 86400 / processor_s
    return Need(
        core_hours,
        studies / per_machine_day / DAYS,
        per_machine_day,
        studies * results_mib / TIB,
        studies * input_mib / TIB,
        studies * input_mib / (DAYS * 86400),
    )


def _models(record: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Processor seconds and MiB of results, by model."""
    measured = {row["what"]: row["measured"] for row in record["rows"]}
    ending = ": processor time per study"
    names = [what.removesuffix(ending) for what in measured if what.endswith(ending)]
    return {
        name: (
            number_of(measured[name + ending]),
            number_of(measured[f"{name}: results per study"]),
        )
        for name in names
    }


def scale_page(record: Mapping[str, Any]) -> str:
    """The page as Markdown, of the record of `study_cost`."""
    (size_row,) = (row for row in record["rows"] if row["what"].startswith("input per study"))
    input_mib = number_of(size_row["measured"])
    rows = [
        _row(name, processor_s, results_mib, input_mib)
        for name, (processor_s, results_mib) in _models(record).items()
    ]
    return TEMPLATE.read_text(encoding="utf-8").format(
        size=size_row["what"].split(", ")[1],
        input_mib=input_mib,
        date=record["date"],
        processor=record["machine"]["processor"],
        own_cores=record["machine"]["cores"],
        cores=CORES_PER_MACHINE,
        busy=BUSY,
        days=DAYS,
        rows="\n".join(rows),
    )


def _row(name: str, processor_s: float, results_mib: float, input_mib: float) -> str:
    all_of = need(processor_s, results_mib, input_mib)
    cells = (
        name,
        f"{processor_s:g} s",
        f"{results_mib:g} MiB",
        f"{all_of.core_hours:,.0f}",
        f"{all_of.per_machine_day:,.0f}",
        f"{ceil(all_of.machines):,}",
        f"{all_of.results_tib:,.0f} TiB",
        f"{all_of.input_tib:,.0f} TiB, {all_of.read_mib_s:,.0f} MiB/s",
    )
    return f"| {' | '.join(cells)} |"
