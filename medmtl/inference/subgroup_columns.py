"""The columns that cases can be grouped by: covariates, slice spacing, and every further column."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.metrics.subgroups import Column, group_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medmtl.data.cases import Case
    from medmtl.metrics.scores import CaseScore

__all__ = ["choose_columns", "known_columns"]

_ONLY_ON_REQUEST = ("height_cm", "weight_kg", "fold", "split", "table_row")
_SLICE = "slice_mm"  # read from the images, so no manifest needs to state it


def known_columns(cases: Iterable[Case], scores: Iterable[CaseScore]) -> dict[str, Column]:
    """Every column with at least one value, by name.

    Args:
        cases: Rows of the manifest; a further column counts where all rows of a case agree.
        scores: What was measured, for the slice spacing of the images.
    """
    values: dict[str, dict[str, str]] = {}
    for case in cases:
        for name, value in _cells(case).items():
            values.setdefault(name, {})[case.case_id] = value
    if _SLICE not in values:
        spacings = {s.case_id: f"{s.slice_mm:g}" for s in scores if s.slice_mm is not None}
        values |= {_SLICE: spacings} if spacings else {}
    return {name: Column(name, cells) for name, cells in values.items()}


def _cells(case: Case) -> dict[str, str]:
    covariates = case.covariates
    numbers = {name: getattr(covariates, name) for name in ("age_years", "height_cm", "weight_kg")}
    known: Mapping[str, object | None] = {
        "sex": covariates.sex, **numbers, "fold": case.fold, "split": case.split or None,
    }  # fmt: skip
    own = {name: f"{v:g}" if isinstance(v, float) else str(v)
           for name, v in known.items() if v is not None}  # fmt: skip
    return {**case.attributes, **own}


def choose_columns(known: Mapping[str, Column], wanted: Sequence[str] | None) -> list[Column]:
    """The columns to group by.

    Args:
        known: All there are.
        wanted: Names, each with edges where it is a number (`age_years=40,65`); None for all that
            split the cases, but height, weight, fold, split and row of the table.

    Raises:
        ConfigError: If a name is not known or its edges are no ascending numbers.
    """
    if wanted is None:
        return [
            column
            for name, column in known.items()
            if name not in _ONLY_ON_REQUEST and len(set(group_labels(column).values())) > 1
        ]
    return [_parse(known, text) for text in dict.fromkeys(wanted)]


def _parse(known: Mapping[str, Column], text: str) -> Column:
    name, _, numbers = text.partition("=")
    if name not in known:
        names = ", ".join(sorted({*known, _SLICE}))
        message = f"--by: found {name!r}, but the columns with values are: {names}."
        raise ConfigError(message)
    if not numbers:
        return known[name]
    try:
        edges = tuple(float(part) for part in numbers.split(","))
    except ValueError:
        edges = ()
    if not edges or list(edges) != sorted(set(edges)):
        message = f"--by {name}: found {numbers!r}, expected ascending numbers such as 40,65."
        raise ConfigError(message)
    return replace(known[name], edges=edges)
