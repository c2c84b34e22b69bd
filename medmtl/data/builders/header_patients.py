"""Whose a row is where the table leaves it open: what the DICOM headers say, as far as they can."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.data.builders.image_folder import plain_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from medmtl.data.builders.sheet_rows import TableRow

__all__ = ["with_header_patients"]


def with_header_patients(
    rows: Sequence[TableRow], header_ids: Sequence[str], problems: list[str], *, is_asked: bool
) -> list[TableRow]:
    """Rows whose patient is blank get that of a row with the same Patient ID, else the ID.

    An ID that tells nobody apart, as after anonymisation, is not used: the only one there is, or
    one that several patients of the table have.

    Args:
        rows: Of the table.
        header_ids: Patient ID of each row's image, "" where there is none.
        problems: Gets blank cells and contradictions, by row number.
        is_asked: Whether the table has a column of patients, so that a blank cell is missing.
    """
    keys = [plain_key(name) for name in header_ids]
    known = [key for key in keys if key]
    if len(known) > 1 and len(set(known)) == 1:
        keys = [""] * len(rows)
    shared = _list_contradictions(rows, keys, problems)
    named = {key: row.patient for row, key in zip(rows, keys, strict=True) if row.patient and key}
    named |= dict.fromkeys(shared, "")
    filled = [
        replace(row, patient=row.patient or named.get(key, key))
        for row, key in zip(rows, keys, strict=True)
    ]
    if is_asked:
        problems += [_blank(after) for row, after in zip(rows, filled, strict=True)
                     if not row.patient]  # fmt: skip
    return filled


def _blank(row: TableRow) -> str:
    taken = "the Patient ID of the DICOM header is taken"
    alone = "counts as one of its own, so that two images of one person can fall apart"
    return f"row {row.number}: the patient is blank; {taken if row.patient else alone}"


def _list_contradictions(
    rows: Sequence[TableRow], keys: Sequence[str], problems: list[str]
) -> Set[str]:
    """Say where one patient here is several there, which may be right; IDs of several patients."""
    both = [
        (row.number, plain_key(row.patient), key)
        for row, key in zip(rows, keys, strict=True)
        if row.patient and key
    ]
    by_header = _differing((key, patient, number) for number, patient, key in both)
    by_table = _differing((patient, key, number) for number, patient, key in both)
    problems += [
        f"rows {numbers}: one patient in the DICOM headers, several in the table; kept as the "
        "table says"
        for numbers in by_header.values()
    ]
    problems += [
        f"rows {numbers}: one patient in the table, several in the DICOM headers; kept as the "
        "table says"
        for numbers in by_table.values()
    ]
    return by_header.keys()


def _differing(facts: Iterable[tuple[str, str, int]]) -> dict[str, str]:
    """Row numbers by name, of those that have several partners."""
    partners: dict[str, set[str]] = defaultdict(set)
    numbers: dict[str, list[str]] = defaultdict(list)
    for name, partner, number in facts:
        partners[name].add(partner)
        numbers[name].append(str(number))
    return {name: ", ".join(numbers[name]) for name, found in partners.items() if len(found) > 1}
