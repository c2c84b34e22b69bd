"""A spreadsheet as text: the rows of a CSV file or of the one filled sheet of an .xlsx file."""

from __future__ import annotations

import csv
import datetime
import io
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["Sheet", "SheetRow", "read_sheet"]

_DELIMITERS = ",;\t"
"""A spreadsheet program writes a semicolon where the comma is the decimal sign."""


@dataclass(frozen=True)
class SheetRow:
    """One line: its number as the spreadsheet program shows it, and its text by column."""

    number: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Sheet:
    """A table with a header line; empty lines are left out."""

    columns: tuple[str, ...]
    rows: tuple[SheetRow, ...]


def read_sheet(path: Path) -> Sheet:
    """Read a table of any size that fits into memory.

    Raises:
        ConfigError: If the file is no CSV or .xlsx, holds several filled sheets, or its header has
            an empty or repeated name above filled cells.
    """
    readers = {".csv": _csv_lines, ".tsv": _csv_lines, ".txt": _csv_lines, ".xlsx": _xlsx_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        message = f"Table {path.name}: found {path.suffix or 'no suffix'!r}, expected .csv or .xlsx"
        raise ConfigError(f"{message}. Save it as one of them.")
    try:
        lines = reader(path)
    except OSError as error:
        raise ConfigError(f"Table {path.name}: cannot be read ({error.strerror}).") from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if any(line)]
    if len(filled) < 2:
        raise ConfigError(
            f"Table {path.name}: found {len(filled)} filled lines, expected a line of column names "
            "and a line for each patient, study or file."
        )
    columns = filled[0][1]
    _check_header(path, columns, [line for _, line in filled[1:]])
    rows = tuple(
        SheetRow(number, {name: text for name, text in zip(columns, line, strict=False) if name})
        for number, line in filled[1:]
    )
    return Sheet(tuple(name for name in columns if name), rows)


def _check_header(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise ConfigError(f"Table {path.name}: column {twice[0]!r} occurs twice. Rename one.")
    if nameless := _nameless(columns, lines):
        raise ConfigError(
            f"Table {path.name}: {nameless} filled cells stand below no column name. The first "
            "line must name every column."
        )


def _nameless(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> int:
    named = [bool(name) for name in columns]
    return sum(
        bool(text) and not (at < len(named) and named[at])
        for line in lines
        for at, text in enumerate(line)
    )


def _csv_lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        header = next((line for line in text.splitlines() if line.strip(_DELIMITERS + " ")), "")
        delimiter = max(_DELIMITERS, key=header.count)
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        return [[cell.strip() for cell in line] for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"Table {path.name}: cannot be read as CSV in UTF-8 ({error}). "
            "Save it as 'CSV UTF-8' or as .xlsx."
        ) from error


def _xlsx_lines(path: Path) -> list[list[str]]:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)  # values, never formulas
    except (InvalidFileException, BadZipFile, KeyError, ValueError) as error:
        message = f"Table {path.name}: cannot be read as .xlsx ({type(error).__name__})."
        raise ConfigError(f"{message} Open and save it again.") from error
    sheets = [
        [[_text(cell.value, cell.number_format) for cell in line] for line in sheet.iter_rows()]
        for sheet in book.worksheets
    ]
    book.close()
    filled = [lines for lines in sheets if any(any(line) for line in lines)]
    if len(filled) != 1:
        raise ConfigError(
            f"Table {path.name}: found {len(filled)} filled sheets, expected one. "
            "Save the sheet with the diagnoses as a file of its own."
        )
    return filled[0]


def _text(value: Any, number_format: str | None) -> str:
    """What a person sees in the cell: 7 for 7.0, 0815 by format 0000, no midnight in a date."""
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat()
    if type(value) in (int, float) and float(value).is_integer():
        digits = number_format or ""
        return str(int(value)).zfill(len(digits) if set(digits) == {"0"} else 0)
    return str(value).strip()
