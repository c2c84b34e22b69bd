"""cases.csv and failures.csv: the whole result folder at one glance, in a stable order."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medmtl.core.study import Refusal

__all__ = ["Failure", "case_row", "cases_csv", "csv_bytes", "failures_csv"]

_FIRST_COLUMNS = ("case_id", "status", "model", "model_version", "findings", "volumes", "flags")


@dataclass(frozen=True, order=True)
class Failure:
    """One case or file that failed, without any identity.

    Attributes:
        case_id: The case that failed; "" where a file or series was refused before it was one.
        what: Case id, file relative to the input, or `series <short hash>`.
        stage: "scan", "select", "read", "analyse", "write", ...
        code: Stable kebab-case reason code.
        reason: One sentence: what was found and what was expected.
        advice: What the user can do.
    """

    case_id: str
    what: str
    stage: str
    code: str
    reason: str
    advice: str

    @classmethod
    def from_refusal(cls, refusal: Refusal, *, case_id: str = "") -> Failure:
        """The row of a refusal."""
        reason = f"{refusal.code}: found {refusal.found}, expected {refusal.expected}"
        return cls(case_id, refusal.source, refusal.stage, refusal.code, reason, refusal.advice)


def _cell(value: object) -> str:
    """One cell; a text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str):
        text = " ".join(value.splitlines())
        return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t")) else text
    return str(value)


def csv_bytes(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A table as CSV; what a row does not have is empty, and no cell runs as a formula."""
    text = io.StringIO()
    names = list(columns)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_cell(name) for name in names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue().encode()


def case_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one case.json: present findings, volumes, flags, then one number per column.

    `volume_ml_<segment>` holds one value per volume, in the order of `volumes`, joined by ";".
    """
    volumes = [volume["id"] for volume in record["source"]["volumes"]]
    flags = sorted({flag["code"] for flag in record["quality"]["flags"]})
    row: dict[str, Any] = {
        "case_id": record["case_id"],
        "status": record["status"],
        "model": record["model"]["name"],
        "model_version": record["model"]["version"],
        "findings": ";".join(f["name"] for f in record["findings"] if f["decision"]),
        "volumes": ";".join(volumes),
        "flags": ";".join(flags),
    }
    row |= {f"probability_{f['name']}": f["probability"] for f in record["findings"]}
    row |= _sets_and_spread(record)
    row |= {m["name"]: m["value"] for m in record["measurements"] if m["name"] not in row}
    return row | _segment_columns(record["segments"], volumes)


def _sets_and_spread(record: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of models with prediction sets and of runs with uncertainty only."""
    columns: dict[str, Any] = {}
    findings = record["findings"]
    if any("abstains" in finding for finding in findings):
        columns["abstains"] = ";".join(f["name"] for f in findings if f.get("abstains"))
    if "diagnosis_set" in record:
        columns["diagnosis_set"] = ";".join(record["diagnosis_set"]["classes"])
    spread = {f["name"]: f["uncertainty"]["std"] for f in findings if "uncertainty" in f}
    return columns | {f"probability_std_{name}": std for name, std in spread.items()}


def _segment_columns(segments: list[Mapping[str, Any]], volumes: list[str]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for segment in segments:
        found.setdefault(segment["name"], {})[segment["volume"]] = segment["volume_ml"]
    if len(volumes) == 1:
        return {f"volume_ml_{name}": by.get(volumes[0]) for name, by in found.items()}
    return {
        f"volume_ml_{name}": ";".join(_cell(by.get(volume)) for volume in volumes)
        for name, by in found.items()
    }


def cases_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """cases.csv from the rows of `case_row` (and rows of failed cases), sorted by case id."""
    ordered = sorted(rows, key=lambda row: str(row["case_id"]))
    further = {name for row in ordered for name in row} - set(_FIRST_COLUMNS)
    return csv_bytes([*_FIRST_COLUMNS, *sorted(further)], ordered)


def failures_csv(failures: Iterable[Failure]) -> bytes:
    """failures.csv, sorted; the first four columns are those of the contract."""
    rows = [asdict(failure) for failure in sorted(set(failures))]
    return csv_bytes(["what", "stage", "reason", "advice", "code", "case_id"], rows)
