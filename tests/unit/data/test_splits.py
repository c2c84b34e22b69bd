"""Folds: patients whole, kinds even, always the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError
from medmtl.core.labels import FindingSpec, LabelSchema
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.splits import require_truth, with_folds, with_test


def case(number: int, patient: int, *, ill: bool | None = None, split: str = "train") -> Case:
    row = VolumeRow("image", f"{number}.nii.gz")
    return Case(f"c{number}", f"p{patient}", split, None, (row,), {"ill": ill})


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([None, False, True])), min_size=1, max_size=60
    )
)
def test_patients_stay_whole_and_folds_even(rows: list[tuple[int, bool | None]]) -> None:
    cases = [case(place, patient, ill=ill) for place, (patient, ill) in enumerate(rows)]
    folded = with_folds(cases)
    assert [one.case_id for one in folded] == [one.case_id for one in cases]
    folds = {(one.patient_id, one.fold) for one in folded}
    patients = {one.patient_id for one in folded}
    assert len(folds) == len(patients)
    sizes = Counter(fold for _, fold in folds)
    assert max(sizes.values()) - min(sizes.get(fold, 0) for fold in range(5)) <= 1
    assert with_folds(folded) == folded


def test_every_fold_has_as_many_of_each_kind() -> None:
    folded = with_folds([case(n, n, ill=n % 4 == 0) for n in range(40)])
    ill = Counter(one.fold for one in folded if one.findings["ill"])
    well = Counter(one.fold for one in folded if not one.findings["ill"])
    assert ill == dict.fromkeys(range(5), 2)
    assert well == dict.fromkeys(range(5), 6)


def test_only_the_training_part_has_folds() -> None:
    folded = with_folds([case(0, 0), case(1, 1, split="test"), case(2, 2, split="val")])
    assert [one.fold for one in folded] == [0, None, None]


def test_two_numbers_of_one_person_share_a_fold() -> None:
    cases = [case(n, n) for n in range(10)]
    apart = with_folds(cases)
    folded = with_folds(cases, together=[("p3", "p7"), ("p0", "elsewhere")])
    assert apart[7].fold != apart[3].fold
    assert folded[7].fold == folded[3].fold
    changed = [one.case_id for one, other in zip(apart, folded, strict=True) if one != other]
    assert changed == ["c7"]


CHAIN = [("p1", "p2"), ("p3", "p4"), ("p2", "elsewhere"), ("elsewhere", "p3")]


@pytest.mark.parametrize("pairs", list(permutations(CHAIN)))
def test_a_chain_of_pairs_shares_a_fold_in_any_order(pairs: list[tuple[str, str]]) -> None:
    cases = [case(n, n) for n in range(10)]
    folds = {one.patient_id: one.fold for one in with_folds(cases, together=pairs)}
    assert {folds[f"p{n}"] for n in (1, 2, 3, 4)} == {1}
    parted = with_test(cases, share=0.2, together=pairs)
    assert len({one.split for one in parted if one.patient_id in {"p1", "p2", "p3", "p4"}}) == 1


def test_a_test_part_has_its_share_of_each_kind_and_whole_patients() -> None:
    cases = [case(n, n // 2, ill=n // 2 % 4 == 0) for n in range(80)]
    parted = with_test(cases, share=0.25, together=[("p0", "p1")])
    test = {one.patient_id for one in parted if one.split == "test"}
    assert len(test) == pytest.approx(10, abs=1)
    assert sum(one.findings["ill"] is True for one in parted if one.split == "test") >= 4
    assert test.isdisjoint(one.patient_id for one in parted if one.split == "train")
    assert len(test & {"p0", "p1"}) != 1
    folded = with_folds(parted)
    assert {one.fold for one in folded if one.split == "test"} == {None}
    with pytest.raises(ConfigError, match="found 2 patients, expected at least 4"):
        with_test(cases[:4], share=0.25)


def test_cases_without_truth_are_not_measured_and_those_with_it_are_named() -> None:
    schema = LabelSchema(findings=(FindingSpec("ill"),))
    cases = (case(0, 0, ill=False), case(1, 1, split="test"), case(2, 2, ill=True, split="val"))
    manifest = Manifest("set", "", "", "", "", schema, cases)
    require_truth(manifest, cases, "all")
    with pytest.raises(ConfigError, match=r"'test': found 1 cases .* --split: train, val\."):
        require_truth(manifest, manifest.in_split("test"), "test")
    with pytest.raises(ConfigError, match="No split has any"):
        require_truth(replace(manifest, cases=cases[1:2]), cases[1:2], "test")
