"""Groups of cases: every case in at most one, small ones never named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.metrics.scores import CaseScore, FindingScore, SegmentScore
from medmtl.metrics.subgroups import Column, group_labels, summarise_subgroups


def case(number: int, *, dice: float = 0.8, truth: bool | None = True) -> CaseScore:
    score = SegmentScore("ed", "organ", dice, 1.0, dice, False, truth_ml=1.0, predicted_ml=1.0)
    finding = FindingScore("ill", truth, number / 100, decision=False)
    return CaseScore(f"c{number}", f"p{number}", (score,), (finding,))


def column(name: str, *values: str, edges: tuple[float, ...] | None = None) -> Column:
    return Column(name, {f"c{n}": value for n, value in enumerate(values)}, edges)


def test_each_group_has_the_numbers_of_its_own_cases() -> None:
    cases = [case(n, dice=0.9 if n < 6 else 0.7, truth=n % 2 == 0) for n in range(12)]
    vendor = column("vendor", *["A"] * 6, *["B"] * 6)
    found = summarise_subgroups(cases, [vendor], findings=("ill",))["vendor"]
    assert list(found["groups"]) == ["A", "B"]
    first = found["groups"]["A"]
    assert first["segmentation"]["mean_dice"]["value"] == pytest.approx(0.9)
    assert first["segmentation"]["per_segment"]["organ"]["dice"]["n"] == 6
    assert first["diagnosis"]["per_finding"]["ill"]["n_present"] == 3
    assert found["groups"]["B"]["segmentation"]["mean_dice"]["value"] == pytest.approx(0.7)
    assert found["suppressed"] == {"groups": 0, "patients": 0}


def test_a_small_group_is_counted_but_neither_named_nor_measured() -> None:
    cases = [case(n) for n in range(12)]
    vendor = column("vendor", *["A"] * 6, "Rare", "Rare", *[""] * 4)
    found = summarise_subgroups(cases, [vendor], findings=())["vendor"]
    assert list(found["groups"]) == ["A"]
    assert found["suppressed"] == {"groups": 1, "patients": 2}
    assert found["unknown_patients"] == 4
    assert "Rare" not in str(found)


@pytest.mark.parametrize("few", ["Rare", ""], ids=["a small group", "without a value"])
def test_few_patients_cannot_be_computed_from_all_less_the_groups_shown(few: str) -> None:
    cases = [case(n) for n in range(21)]
    vendor = column("vendor", *["A"] * 8, *["B"] * 6, *["C"] * 6, few)
    found = summarise_subgroups(cases, [vendor], findings=())["vendor"]
    assert list(found["groups"]) == ["A", "C"]
    assert found["suppressed"]["patients"] + found["unknown_patients"] == 7


@given(st.lists(st.sampled_from(["A", "B", "C", ""])))
def test_what_is_not_shown_is_nobody_or_many(vendors: list[str]) -> None:
    cases = [case(n) for n in range(len(vendors))]
    found = summarise_subgroups(cases, [column("vendor", *vendors)], findings=())["vendor"]
    rest = found["suppressed"]["patients"] + found["unknown_patients"]
    assert rest == 0 or rest >= 5 or not found["groups"]


def test_many_cases_of_few_patients_are_a_small_group() -> None:
    cases = [CaseScore(f"c{n}", "one") for n in range(20)]
    found = summarise_subgroups(cases, [column("sex", *["F"] * 20)], findings=())["sex"]
    assert not found["groups"]
    assert found["suppressed"] == {"groups": 1, "patients": 1}


def test_ages_lie_in_the_usual_bands() -> None:
    labels = group_labels(column("age_years", "17.9", "18", "59", "60", "75", ""))
    assert list(labels.values()) == [
        "below 18", "18 to below 40", "40 to below 60", "60 to below 75", "75 or more",
    ]  # fmt: skip


def test_few_different_numbers_are_names_and_many_are_thirds() -> None:
    assert set(group_labels(column("tesla", "1.5", "3", "3", "1.5")).values()) == {"1.5", "3"}
    thirds = group_labels(column("dose", *[str(n) for n in range(30)]))
    assert sorted(list(thirds.values()).count(name) for name in set(thirds.values())) == [10] * 3
    own = group_labels(column("dose", "1", "5", "9", edges=(5,)))
    assert list(own.values()) == ["below 5", "5 or more", "5 or more"]


@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1))
def test_bands_keep_the_order_of_the_numbers(numbers: list[float]) -> None:
    labels = group_labels(column("x", *[str(n) for n in numbers], edges=(-5.0, 0.0, 5.0)))
    order = ["below -5", "-5 to below 0", "0 to below 5", "5 or more"]
    ranks = [order.index(labels[f"c{place}"]) for place in range(len(numbers))]
    by_number = [rank for _, rank in sorted(zip(numbers, ranks, strict=True))]
    assert by_number == sorted(by_number)
