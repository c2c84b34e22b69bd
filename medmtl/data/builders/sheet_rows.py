"""What each row of a spreadsheet says, once the columns and the words are known."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.prediction import Covariates
from medmtl.data.builders.image_folder import plain_key
from medmtl.data.builders.person import age_years, height_cm, sex, weight_kg
from medmtl.data.builders.sheet_columns import IDENTITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.data.builders.sheet import Sheet, SheetRow
    from medmtl.data.builders.sheet_columns import Columns
    from medmtl.data.builders.words import Words

__all__ = ["TableRow", "readable_rows"]

_COVARIATES = {
    "age_years": "an age in years (0 to 120)",
    "sex": "a sex (m, f or o)",
    "height_cm": "a height in cm, or in m with its unit (20 to 260 cm)",
    "weight_kg": "a weight in kg (0.5 to 400)",
}
"""What stands in their cells."""
_NUMBER = re.compile(r"\d{1,5}([.,]\d{1,2})?( ?[A-Za-z])?")


@dataclass(frozen=True)
class TableRow:
    """What one line says of one patient, study or file.

    Attributes:
        number: As the spreadsheet program shows it.
        role: Of the most exact identifying cell: "file", "study" or "patient".
        name: That cell.
        patient: The patient's cell, "" where there is none. It identifies a person.
        findings: By name; None is unknown.
        covariates: What the table says.
    """

    number: int
    role: str
    name: str
    patient: str
    findings: dict[str, bool | None]
    covariates: Covariates

    @property
    def person(self) -> tuple[str, str]:
        """Role and key of the patient's cell, or of the row's own where no patient is named."""
        role, name = ("patient", self.patient) if self.patient else (self.role, self.name)
        return role, plain_key(name)


def readable_rows(
    sheet: Sheet, columns: Columns, words: Words, problems: list[str]
) -> list[TableRow]:
    """Rows with a name; a finding or covariate that is not understood is unknown and named."""
    rows = []
    for line in sheet.rows:
        role = next((role for role in IDENTITIES if _cell(line, columns, role)), None)
        if role is None:
            problems.append(f"row {line.number}: names no patient, study or file; left out")
            continue
        problems += [
            f"row {line.number}: {column}: {line.cells[column][:40]!r} is neither yes, no nor "
            "unknown; taken as unknown. Say what it means with --word"
            for column in columns.findings
            if not words.knows(line.cells.get(column, ""))
        ]
        name = _cell(line, columns, role)
        rows.append(
            TableRow(
                number=line.number,
                role=role,
                name=name,
                patient=_cell(line, columns, "patient"),
                findings={
                    finding: words.value(line.cells.get(column, ""))
                    for column, finding in columns.findings.items()
                },
                covariates=_covariates(line, columns, words, problems),
            )
        )
    return _without_repetition(rows, problems)


def _without_repetition(rows: Sequence[TableRow], problems: list[str]) -> list[TableRow]:
    """One row per name: the same twice is used once, a contradiction not at all."""
    groups: dict[tuple[str, str], list[TableRow]] = defaultdict(list)
    for row in rows:
        groups[row.role, plain_key(row.name)].append(row)
    kept = []
    for group in groups.values():
        first, *others = group
        numbers = ", ".join(str(row.number) for row in group)
        differing = [
            name for name in first.findings if len({row.findings[name] for row in group}) > 1
        ]
        if differing:
            problems.append(
                f"rows {numbers}: the same {first.role} with contradicting {', '.join(differing)}; "
                "all left out"
            )
            continue
        if others:
            problems.append(f"rows {numbers}: the same {first.role} again; used once")
        kept.append(first)
    return kept


def _covariates(line: SheetRow, columns: Columns, words: Words, problems: list[str]) -> Covariates:
    cells = {name: line.cells.get(column, "") for name, column in columns.covariates.items()}
    covariates = Covariates(
        age_years=age_years(cells.get("age_years", "")),
        sex=sex(cells.get("sex", "")),
        height_cm=height_cm(cells.get("height_cm", "")),
        weight_kg=weight_kg(cells.get("weight_kg", "")),
    )
    problems += [
        f"row {line.number}: {columns.covariates[name]}: {_quoted(text)} is not understood as "
        f"{_COVARIATES[name]}; taken as unknown"
        for name, text in cells.items()
        if getattr(covariates, name) is None and not words.is_unknown(text)
    ]
    return covariates


def _quoted(text: str) -> str:
    """A number as it stands; anything else may be a birth date or a name, and is not repeated."""
    return repr(text) if _NUMBER.fullmatch(text) else f"a text of {len(text)} characters"


def _cell(line: SheetRow, columns: Columns, role: str) -> str:
    column = columns.identities.get(role)
    return line.cells.get(column, "") if column else ""
