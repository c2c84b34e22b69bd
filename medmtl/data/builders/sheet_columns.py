"""Which column of a spreadsheet says whose row it is, and which are findings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.data.builders.sheet import Sheet
    from medmtl.data.builders.words import Words

__all__ = ["IDENTITIES", "Columns", "choose_columns", "finding_name"]

_FILE = "file filename filepath image imagefile imagepath path nifti volume"
_STUDY = "study studyid studyuid studyinstanceuid exam examid examination case caseid"
_PATIENT = (
    "patient patientid patientno patientnumber subject subjectid participant participantid pid mrn "
    "pseudonym id"
)
IDENTITIES: Mapping[str, frozenset[str]] = {
    "file": frozenset(_FILE.split()),
    "study": frozenset(_STUDY.split()),
    "patient": frozenset(_PATIENT.split()),
}
"""Names of identifying columns, in small letters and digits; the most exact one first."""

_COVARIATES = {
    "age_years": {"age", "ageyears", "patientage"},
    "sex": {"sex", "gender", "patientsex"},
    "height_cm": {"height", "heightcm"},
    "weight_kg": {"weight", "weightkg"},
}
_MOST = 0.5
"""A column is taken for a finding where at least this share of its filled cells is understood,
and single letters or digits in it are a pair of yes and no."""
_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Columns:
    """The columns that are used; every other one is left alone, since it may name a person.

    Attributes:
        identities: Column by role ("file", "study", "patient"), the most exact one first.
        findings: Finding name by column.
        covariates: Column by name in `cases.csv`.
        unused: All others.
    """

    identities: Mapping[str, str]
    findings: Mapping[str, str]
    covariates: Mapping[str, str]
    unused: tuple[str, ...]


def choose_columns(
    sheet: Sheet, *, named: Mapping[str, str | None], findings: Sequence[str], words: Words
) -> Columns:
    """Find the columns, or take those that the user names.

    Args:
        sheet: The table.
        named: Column by role, as the user says; None lets the name decide.
        findings: Columns of findings as the user says; empty takes those that hold yes and no.
        words: What counts as yes and no.

    Raises:
        ConfigError: If a named column is missing, two fit one role, or nothing identifies a row or
            says a finding.
    """
    identities = {
        role: column
        for role in IDENTITIES
        if (column := _identity(sheet, role, named.get(role))) is not None
    }
    if not identities:
        raise ConfigError(
            f"No column says whose row it is: found {', '.join(sheet.columns)}. "
            "Name it: --column patient=NAME, study=NAME or file=NAME."
        )
    covariates = {
        name: column
        for name, keys in _COVARIATES.items()
        for column in sheet.columns
        if _plain(column) in keys
    }
    taken = {*identities.values(), *covariates.values()}
    for column in findings:
        _check_there(sheet, column, "--column finding")
    chosen = list(findings) or [
        column
        for column in sheet.columns
        if column not in taken and _is_finding(sheet, column, words)
    ]
    if not chosen:
        raise ConfigError(
            f"No column holds findings: none of {', '.join(sheet.columns)} says yes and no. "
            "Name them (--column finding=NAME), and their words (--word)."
        )
    names = {column: finding_name(column) for column in chosen}
    if len(set(names.values())) < len(names):
        raise ConfigError(f"Two findings have the same name: {', '.join(chosen)}. Rename one.")
    return Columns(
        identities, names, covariates,
        tuple(column for column in sheet.columns if column not in {*taken, *chosen}),
    )  # fmt: skip


def finding_name(column: str) -> str:
    """A column's name in snake case.

    Raises:
        ConfigError: If nothing of it is left.
    """
    name = _NAME.sub("_", column.casefold()).strip("_")
    if not name:
        raise ConfigError(f"Column {column!r} cannot name a finding. Use letters and digits.")
    return name if name[0].isalpha() else f"finding_{name}"


def _identity(sheet: Sheet, role: str, named: str | None) -> str | None:
    if named is not None:
        _check_there(sheet, named, f"--column {role}")
        return named
    fitting = [column for column in sheet.columns if _plain(column) in IDENTITIES[role]]
    if len(fitting) > 1:
        raise ConfigError(
            f"Columns {' and '.join(fitting)} could both name the {role}. "
            f"Say which: --column {role}=NAME."
        )
    return fitting[0] if fitting else None


def _check_there(sheet: Sheet, column: str, option: str) -> None:
    if column not in sheet.columns:
        known = ", ".join(sheet.columns)
        raise ConfigError(f"{option} {column!r}: the table has no such column, only {known}.")


def _is_finding(sheet: Sheet, column: str, words: Words) -> bool:
    filled = [text for row in sheet.rows if (text := row.cells.get(column, ""))]
    known = sum(words.knows(text) for text in filled)
    is_said = any(words.says(text) for text in filled) and words.are_answers(filled)
    return is_said and known >= _MOST * len(filled)


def _plain(column: str) -> str:
    return _NAME.sub("", column.casefold())
