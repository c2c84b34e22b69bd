"""Who learns, who validates, and shares of labels that nest."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.core.labels import LabelSchema
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.sources import DataSource
from medmtl.training.selection import choose_cases, label_share, shared_cases


def case(number: int, *, split: str = "train", fold: int | None = None) -> Case:
    rows = (VolumeRow("image", f"{number}.nii.gz"),)
    finding = {0: True, 1: False}.get(number % 4)
    return Case(f"c{number}", f"p{number // 2}", split, fold, rows, {"big": finding})


def manifest(cases: list[Case]) -> Manifest:
    return Manifest("made", "CC0", "", "", "MR", LabelSchema(), tuple(cases))


def names(cases: tuple[Case, ...]) -> list[str]:
    return [one.case_id for one in cases]


def test_splits_and_a_fold_part_the_cases_and_never_share_one() -> None:
    cases = [case(n, fold=n // 2 % 3) for n in range(12)]
    cases += [case(20, split="val"), case(30, split="test")]
    learns, validates = choose_cases(
        manifest(cases), train_splits=["train"], val_splits=["val"], val_fold=1
    )
    assert names(validates) == ["c2", "c3", "c8", "c9", "c20"]
    assert len(learns) == 8
    assert not {one.patient_id for one in learns} & {one.patient_id for one in validates}
    assert "c30" not in names(learns) + names(validates)


@pytest.mark.parametrize(
    ("splits", "fold", "said"),
    [(["training"], None, "no split 'training'"), (["train"], 7, "no fold 7")],
)
def test_what_does_not_occur_is_refused(splits: list[str], fold: int | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choose_cases(
            manifest([case(n, fold=0) for n in range(4)]),
            train_splits=splits,
            val_splits=[],
            val_fold=fold,
        )


def test_a_validation_split_that_does_not_occur_is_refused_but_the_default_may_lack() -> None:
    made = manifest([case(n) for n in range(4)])
    _, validates = choose_cases(made, train_splits=["train"], val_splits=["val"], val_fold=None)
    assert not validates
    with pytest.raises(ConfigError, match="no split 'vall' to validate on"):
        choose_cases(made, train_splits=["train"], val_splits=["vall"], val_fold=None)


def test_a_fold_that_takes_every_case_is_refused() -> None:
    cases = manifest([case(n, fold=0) for n in range(4)])
    with pytest.raises(ConfigError, match="no case is left"):
        choose_cases(cases, train_splits=["train"], val_splits=[], val_fold=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_larger_share_holds_every_smaller_one_and_whole_patients(seed: int) -> None:
    cases = [case(n) for n in range(40)]
    shares = [label_share(cases, share=share, seed=seed) for share in (0.25, 0.5, 1.0)]
    assert [len(one) for one in shares] == [10, 20, 40]
    for small, large in pairwise(shares):
        assert set(names(small)) <= set(names(large))
    assert all(len({one.patient_id for one in part}) * 2 == len(part) for part in shares)


def test_findings_keep_their_proportion() -> None:
    cases = [Case(f"c{n}", f"p{n}", "train", None, (), {"rare": n < 8}) for n in range(40)]
    chosen = label_share(cases, share=0.5, seed=1)
    assert sum(bool(one.findings["rare"]) for one in chosen) == 4


def test_another_seed_chooses_others() -> None:
    cases = [case(n) for n in range(40)]
    chosen = {tuple(names(label_share(cases, share=0.25, seed=seed))) for seed in range(6)}
    assert len(chosen) > 1


def source(name: str, numbers: list[int]) -> DataSource:
    made = replace(manifest([case(n) for n in numbers]), name=name)
    return DataSource(made, Path(), made.cases)


def test_a_patient_on_both_sides_of_one_manifest_listed_twice_is_found() -> None:
    (text,) = shared_cases([source("a", [0, 4])], [source("a", [1, 6])])  # c0 and c1 are of p0
    assert "validation case c1 is of a patient to learn from" in text


def test_equal_names_in_two_manifests_are_two_patients() -> None:
    assert not list(shared_cases([source("a", [0])], [source("b", [0])]))


def test_one_image_in_two_manifests_is_found_by_its_checksum() -> None:
    def with_checksum(made: DataSource) -> DataSource:
        rows = (replace(made.cases[0].volumes[0], sha256="f" * 64),)
        return replace(made, cases=(replace(made.cases[0], volumes=rows),))

    (text,) = shared_cases([with_checksum(source("a", [0]))], [with_checksum(source("b", [9]))])
    assert "manifest b: validation case c9 has an image to learn from" in text
