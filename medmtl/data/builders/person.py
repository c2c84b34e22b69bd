"""Age, sex and size as data sets write them; None where nothing usable stands there."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from medmtl.dicom.describe import PLAUSIBLE_CM, PLAUSIBLE_KG, PLAUSIBLE_YEARS, within

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["age_years", "attributes", "height_cm", "positive", "sex", "weight_kg"]

_SEX = {
    **dict.fromkeys(["m", "male", "man", "männlich", "maennlich", "mann"], "M"),
    **dict.fromkeys(["f", "female", "woman", "w", "weiblich", "frau"], "F"),
    **dict.fromkeys(["o", "other", "d", "divers"], "O"),
}
_DICOM_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)?)\s*([^\W\d_]*)\.?")
_PER_YEAR_OF_UNIT = {
    "": 1.0,
    **dict.fromkeys(["y", "yr", "yrs", "year", "years", "j", "jahr", "jahre"], 1.0),
    **dict.fromkeys(["month", "months", "mon", "monat", "monate"], 12.0),
    **dict.fromkeys(["week", "weeks", "woche", "wochen"], 365.25 / 7),
    **dict.fromkeys(["day", "days"], 365.25),
}
"""How many are one year. "64 m" may be months or a man of 64."""
_DIGITS = 4
"""Behind the point: a day is 0.0027 years."""


def positive(value: object) -> float | None:
    """A positive finite number: unknown is not zero."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def age_years(value: object) -> float | None:
    """A plausible number of years or of another unit, or "064Y" as in DICOM (PS3.5 6.2, AS).

    "000Y" is what is left after anonymisation, and unknown.
    """
    match = _DICOM_AGE.fullmatch(str(value).strip())
    if match is None:
        return _quantity(value, _PER_YEAR_OF_UNIT, PLAUSIBLE_YEARS)
    return within(positive(round(int(match[1]) / _PER_YEAR[match[2]], _DIGITS)), PLAUSIBLE_YEARS)


def height_cm(value: object) -> float | None:
    """Plausible centimetres; metres where the unit says so."""
    return _quantity(value, {"": 1.0, "cm": 1.0, "m": 0.01}, PLAUSIBLE_CM)


def weight_kg(value: object) -> float | None:
    """Plausible kilograms."""
    return _quantity(value, {"": 1.0, "kg": 1.0}, PLAUSIBLE_KG)


def sex(value: object) -> str | None:
    """F, M or O, from English or German."""
    return _SEX.get(str(value).strip().lower())


def _quantity(
    value: object, per_unit: Mapping[str, float], plausible: tuple[float, float]
) -> float | None:
    """A plausible number with a decimal point or comma and, it may be, a unit."""
    match = _NUMBER.fullmatch(str(value).strip().lower())
    if match is None or match[2] not in per_unit:
        return None
    number = float(match[1].replace(",", ".")) / per_unit[match[2]]
    return within(round(number, _DIGITS), plausible)


def attributes(row: Mapping[str, object], columns: Mapping[str, str]) -> dict[str, str]:
    """Further columns for `cases.csv`, by their names there; empty cells are left out."""
    found = {name: str(row.get(column) or "").strip() for name, column in columns.items()}
    return {name: value for name, value in found.items() if value and value.lower() != "nan"}
