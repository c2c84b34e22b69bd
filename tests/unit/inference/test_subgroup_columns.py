"""What cases can be grouped by, and how it is asked for."""

from __future__ import annotations

import pytest

from medmtl.core.errors import ConfigError
from medmtl.core.prediction import Covariates
from medmtl.data.cases import Case, VolumeRow
from medmtl.inference.subgroup_columns import choose_columns, known_columns
from medmtl.metrics.scores import CaseScore
from medmtl.metrics.subgroups import Column


def cases() -> list[Case]:
    return [
        Case(
            f"c{n}", f"p{n}", "test", None,
            (VolumeRow("ct", "a.nii", attributes={"vendor": "AB"[n % 2], "site": "one"}),),
            covariates=Covariates(age_years=38.0 + n, sex="F" if n else None, weight_kg=60.0 + n),
        )
        for n in range(4)
    ]  # fmt: skip


def scores() -> list[CaseScore]:
    return [CaseScore(f"c{n}", f"p{n}", slice_mm=1.0 + n) for n in range(4)]


def test_covariates_further_columns_and_slice_spacing_are_known() -> None:
    known = known_columns(cases(), scores())
    assert {"vendor", "site", "age_years", "sex", "weight_kg", "slice_mm", "split"} == set(known)
    assert known["sex"].values == {"c1": "F", "c2": "F", "c3": "F"}
    assert known["slice_mm"].values["c3"] == "4"


def test_without_a_wish_every_column_that_splits_the_cases_is_taken() -> None:
    chosen = choose_columns(known_columns(cases(), scores()), None)
    assert [column.name for column in chosen] == ["vendor", "age_years", "slice_mm"]


def test_edges_are_taken_from_the_wish() -> None:
    (column,) = choose_columns(known_columns(cases(), ()), ["weight_kg=61,62.5"])
    assert column.edges == (61.0, 62.5)


@pytest.mark.parametrize("wish", ["age_years=x", "age_years=60,40", "age_years=40,,50"])
def test_edges_that_are_no_ascending_numbers_are_refused(wish: str) -> None:
    with pytest.raises(ConfigError, match="ascending numbers"):
        choose_columns(known_columns(cases(), ()), [wish])


def test_an_unknown_column_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="age_years, sex, site"):
        choose_columns(known_columns(cases(), ()), ["scanner"])


def test_a_number_whose_cases_lie_in_one_band_does_not_split_them() -> None:
    thick = [CaseScore(f"c{n}", f"p{n}", slice_mm=6.0 + n) for n in range(4)]
    chosen = choose_columns(known_columns(cases(), thick), None)
    assert [column.name for column in chosen] == ["vendor", "age_years"]


def test_the_row_of_a_table_of_diagnoses_groups_nothing_unasked() -> None:
    known = known_columns(cases(), ()) | {
        "table_row": Column("table_row", {f"c{n}": str(n + 2) for n in range(4)})
    }
    assert "table_row" not in {column.name for column in choose_columns(known, None)}
    assert [column.name for column in choose_columns(known, ["table_row"])] == ["table_row"]
