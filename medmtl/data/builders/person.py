"""Age, sex and size as data sets write them; None where nothing usable stands there."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["age_years", "attributes", "positive", "sex"]

_SEX = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O"}
_DICOM_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}


def positive(value: object) -> float | None:
    """A positive finite number: unknown is not zero."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def age_years(value: object) -> float | None:
    """A number of years, or a DICOM age string such as "064Y" (PS3.5 6.2, AS)."""
    match = _DICOM_AGE.fullmatch(str(value).strip())
    if match is None:
        return positive(value)
    return positive(round(int(match[1]) / _PER_YEAR[match[2]], 2))


def sex(value: object) -> str | None:
    """F, M or O."""
    return _SEX.get(str(value).strip().lower())


def attributes(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, str]:
    """Further columns for `cases.csv`, by their names there; empty cells are left out."""
    found = {name: str(row.get(column) or "").strip() for name, column in columns.items()}
    return {name: value for name, value in found.items() if value and value.lower() != "nan"}
