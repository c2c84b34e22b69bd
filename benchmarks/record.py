"""What every benchmark leaves behind: rows with their targets, and the machine they hold for."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.figures import plot
from benchmarks.scale_page import scale_page

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "benchmarks"
PICTURES = ROOT / "docs" / "images" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
_PACKAGES = ("numpy", "torch", "monai", "pydicom", "highdicom", "SimpleITK")

_HEAD = """# Benchmarks

`make bench` measures all of this anew and writes this page from the files in `docs/benchmarks/`;
`python -m benchmarks report` writes page and plots again without measuring.
`make bench-quick` is the same on small inputs, to see that it runs: its figures are kept nowhere.
"""


@dataclass(frozen=True)
class Row:
    """One measured number with its unit, its target and whether that was reached."""

    what: str
    measured: str
    target: str = ""
    reached: bool | None = None


WORK = Path.home() / ".cache" / "medmtl-benchmarks"
"""Where long benchmarks keep what they have measured so far."""


def parser_of(description: str, *, minutes: float = 60) -> argparse.ArgumentParser:
    """The arguments that every benchmark takes; one that keeps nothing is always fresh."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="Small inputs; only that it runs.")
    parser.add_argument("--out", type=Path, default=RESULTS, help="Folder of the JSON files.")
    parser.add_argument("--fresh", action="store_true", help="Forget what was measured before.")
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="Where it can stop: after these."
    )
    return parser


def options(description: str) -> argparse.Namespace:
    """The arguments, where there are no others."""
    return parser_of(description).parse_args()


def processor() -> str:
    """Model name of the processor, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """The machine and the versions, without its name."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        # Others may share the machine: a time taken under load is an upper bound.
        "load_1_min": round(os.getloadavg()[0], 2),
    }


def write_result(name: str, rows: list[Row], *, out: Path) -> None:
    """Write `<out>/<name>.json` and say the rows on stdout."""
    out.mkdir(parents=True, exist_ok=True)
    record = {
        "name": name,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "rows": [asdict(row) for row in rows],
    }
    text = json.dumps(record, indent=2) + "\n"
    (out / f"{name}.json").write_text(text, encoding="utf-8")
    for row in rows:
        print(f"{row.what}: {row.measured}" + (f" (target {row.target})" if row.target else ""))


def in_place(former: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """The former rows with these in the places of those that are called alike, new ones behind."""
    kept = {row.what: row for row in former} | {row.what: row for row in rows}
    return list(kept.values())


def former_rows(name: str, *, out: Path, without: tuple[str, ...] = ()) -> list[Row]:
    """Rows of the last record that begin with none of these words; nothing without a record."""
    path = out / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [Row(**row) for row in rows if not row["what"].startswith(without)]


def finish(name: str, rows: list[Row], arguments: argparse.Namespace) -> None:
    """Write the rows, and exit with 1 if one missed its target (small inputs are not judged).

    Raises:
        SystemExit: If a target was missed.
    """
    write_result(name, rows, out=arguments.out)
    missed = [row.what for row in rows if row.reached is False]
    if missed and not arguments.quick:
        raise SystemExit(f"missed: {'; '.join(missed)}")


def _section(record: dict[str, Any], pictures: list[tuple[str, Path]], page: Path) -> str:
    on = record["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in on["packages"].items())
    marks = {True: "yes", False: "no", None: ""}
    lines = [
        f"\n## {record['name']}\n",
        "| what | measured | target | reached |",
        "|---|---|---|---|",
        *(
            f"| {row['what']} | {row['measured']} | {row['target']} | {marks[row['reached']]} |"
            for row in record["rows"]
        ),
        f"\n{record['date']}, {on['processor']}, {on['cores']} cores, {on['memory_gib']} GiB, "
        f"{on['system']}, Python {on['python']}, {packages}; "
        f"load average at the end {on['load_1_min']}.\n",
        *(f"![{text}]({path.relative_to(page.parent).as_posix()})\n" for text, path in pictures),
    ]
    return "\n".join(lines)


def write_page(results: Path = RESULTS, page: Path = PAGE, pictures: Path = PICTURES) -> None:
    """Gather every JSON record into the page, with its pictures; compute the scale page."""
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))
    ]
    sections = [_section(record, plot(record, pictures), page) for record in records]
    page.write_text(_HEAD + "".join(sections), encoding="utf-8")
    for record in records:
        if record["name"] == "study_cost":
            (page.parent / "scale.md").write_text(scale_page(record), encoding="utf-8")
