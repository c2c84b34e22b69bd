"""`python -m pipelines.summary demo`: what the demonstration found, as a table on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def finding_texts(case: dict[str, Any]) -> str:
    """Findings called present, with their probability; "none" where no finding is."""
    present = [
        f"{finding['name']} {finding['probability']:.2f}"
        for finding in case["findings"]
        if finding["decision"]
    ]
    return _plain("\n".join(present)) or "none"


def segment_texts(case: dict[str, Any]) -> str:
    """Volume of every segment that is not empty, in mL."""
    return _plain(
        ", ".join(
            f"{segment['volume']} {segment['name']} {segment['volume_ml']:.1f} mL"
            for segment in case["segments"]
            if segment["voxels"]
        )
    )


def _plain(name: str) -> str:
    """Words instead of underscores, so that a narrow terminal breaks between them."""
    return name.replace("_", " ")


def truth_text(folder: Path, case_id: str) -> str:
    """What the study was generated with; empty for a study that was not generated."""
    for path in folder.rglob(f"truth/{case_id}/truth.json"):
        truth = json.loads(path.read_text(encoding="utf-8"))
        if "findings" in truth:
            present = (name for name, there in truth["findings"].items() if there)
            return _plain("\n".join(present)) or "none"
        return str(truth.get("group", ""))
    return ""


def summary_table(folder: Path) -> Table:
    """One row per `case.json` under `folder`; fits into 80 columns."""
    table = Table(title="Results", show_lines=True)
    for heading in ("case", "found", "generated with", "seconds"):
        table.add_column(heading)
    for path in sorted(folder.rglob("case.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        table.add_row(
            f"{case['model']['name']}\n{path.parent.name}",
            finding_texts(case),
            truth_text(folder, path.parent.name),
            f"{case['timings_s']['total']:.1f}",
        )
    return table


def main() -> None:
    """Print the table and where the files are."""
    folder = Path(sys.argv[1])
    console = Console()
    console.print(summary_table(folder))
    for path in sorted(folder.rglob("case.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        console.print(f"{path.parent.name}: {segment_texts(case)}")
    console.print(f"Masks, activation maps, case.json: {folder / 'results'}", soft_wrap=True)
    for preview in sorted(folder.rglob("preview.png")):
        console.print(f"  preview: {preview}", soft_wrap=True)
    console.print("Research software, not a medical device.")


if __name__ == "__main__":
    main()
