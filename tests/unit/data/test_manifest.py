"""Manifests: every problem named at once, nothing lost on the way to the disk and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.case_table import read_cases
from medmtl.data.check import check_folder
from medmtl.data.manifest import (
    Case,
    Manifest,
    VolumeRow,
    check_files,
    file_sha256,
    find_manifest,
    manifest_sha256,
    read_manifest,
    write_manifest,
)

SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "liver", Code("10200004", "Liver")),
        SegmentSpec(2, "liver_lesion", is_lesion=True),
    ),
    findings=(
        FindingSpec("lesion", None, ("liver_lesion",), "liver_lesion"),
        FindingSpec("fatty_liver", Code("197321007", "Steatosis of liver"), ("liver",)),
    ),
)
COLUMNS = "case_id,patient_id,volume_id,image,segmentation,split,fold,sha256,lesion,fatty_liver"


def manifest(*cases: Case) -> Manifest:
    return Manifest("tiny", "CC0", 'Nobody "et al."\n2026', "generated", "CT", SCHEMA, cases)


def case(number: int = 1, **changes: object) -> Case:
    both = SCHEMA.segment_names
    plain = Case(
        case_id=f"c{number}",
        patient_id=f"p{number}",
        split="train",
        fold=number % 5,
        volumes=(
            VolumeRow("venous", f"{number}/v.nii.gz", f"{number}/v_seg.nii.gz", "0" * 64, both),
            VolumeRow("late", f"{number}/l.nii.gz", None, None, ()),
        ),
        findings={"lesion": True, "fatty_liver": None},
        covariates=Covariates(age_years=61.5, sex="F", height_cm=170.0),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def folder_with(tmp_path: Path, *rows: str, columns: str = COLUMNS) -> Path:
    write_manifest(manifest(case()), tmp_path)
    (tmp_path / "cases.csv").write_text("\n".join((columns, *rows)) + "\n", encoding="utf-8")
    return tmp_path


def problems_of(folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        read_manifest(folder)
    return str(error.value)


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    partly = replace(case(2).volumes[0], annotated_segments=("liver",))
    written = manifest(
        case(1), case(2, volumes=(partly,), findings=dict.fromkeys(SCHEMA.finding_names))
    )
    write_manifest(written, tmp_path)
    assert read_manifest(tmp_path) == written


def test_an_empty_finding_is_unknown_and_zero_is_absent(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c,p,v,i.nii.gz,,train,,,,0")
    assert read_manifest(folder).cases[0].findings == {"lesion": None, "fatty_liver": False}


def test_rows_of_one_case_are_one_study(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path, "c,p,ed,e.nii.gz,,train,0,,1,0", "d,q,ed,f.nii.gz,,test,,,1,0",
        "c,p,es,s.nii.gz,,train,0,,1,0",
    )  # fmt: skip
    read = read_manifest(folder)
    assert [len(case.volumes) for case in read.cases] == [2, 1]
    assert read.splits == ("test", "train")
    assert [case.case_id for case in read.in_split("test")] == ["d"]


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        "c1,p1,v,/etc/passwd,,train,,,2,0",
        "c2,p2,v,../up.nii.gz,,train,x,,1,maybe",
        "c3,p1,v,i.nii.gz,,test,,short,1,0",
    )
    text = problems_of(folder)
    for part in ("line 2: image", "line 2: lesion: found '2'", "line 3: image", "line 3: fold",
                 "line 3: fatty_liver", "line 4: sha256", "patient p1 is in 2 splits"):  # fmt: skip
        assert part in text
    assert "7 problem(s)" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["c,p,v,i.nii.gz,,train,,,1,0", "c,p,w,j.nii.gz,,test,,,1,0"], "split differs"),
        (["c,p,v,i.nii.gz,,train,,,1,0", "c,p,w,j.nii.gz,,train,,,0,0"], "findings differs"),
        (["c,p,v,i.nii.gz,,train,,,1,0", "c,p,v,j.nii.gz,,train,,,1,0"], "volume_id"),
        (["a,p,v,i.nii.gz,,train,0,,1,0", "b,p,v,j.nii.gz,,train,1,,1,0"], "p is in 2 folds"),
        (["c,p,v,,,train,,,1,0"], "image: found '', expected"),
        (["c,p,v,i.nii.gz,,train,,,1"], "another number of cells"),
        (["c,p,v,i.nii.gz,,train,,,1,0,9"], "another number of cells"),
        (["c,p,../v,i.nii.gz,,train,,,1,0"], "volume_id"),
        ([], "holds no case"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused(
    tmp_path: Path, rows: list[str], expected: str
) -> None:
    assert expected in problems_of(folder_with(tmp_path, *rows))


def test_a_name_in_the_place_of_a_pseudonym_is_not_repeated(tmp_path: Path) -> None:
    text = problems_of(folder_with(tmp_path, "c,Doe^Jane,v,i.nii.gz,,train,,,1,0"))
    assert "patient_id: found 8 characters" in text
    assert "Doe" not in text


def test_nor_is_it_where_lines_of_one_name_contradict_each_other(tmp_path: Path) -> None:
    rows = (
        "Doe Jane,Doe Jane,v,i.nii.gz,,train,,,1,0", "Doe Jane,Doe Jane,v,j.nii.gz,,test,,,1,0",
        "b,Doe Jane,v,k.nii.gz,,test,,,1,0", "c,Roe Jim,v,l.nii.gz,,train,,,1,0",
    )  # fmt: skip
    folder = folder_with(tmp_path, *rows)
    text = problems_of(folder)
    assert "line 3: split differs from the first row of case line-2" in text
    assert "patient line-2 is in 2 splits: ['test', 'train']" in text
    checked = "\n".join(map(str, check_folder(folder, tmp_path)[1]))
    assert "case line-2, volume v: missing-file" in checked
    assert not any(name in text + checked for name in ("Doe", "Roe"))


def test_covariates_are_positive_numbers_or_nothing(tmp_path: Path) -> None:
    columns = f"{COLUMNS},sex,weight_kg,height_cm"
    good = folder_with(tmp_path / "good", "c,p,v,i.nii.gz,,train,,,1,0,m,,180", columns=columns)
    assert read_manifest(good).cases[0].covariates == Covariates(sex="M", height_cm=180.0)
    bad = folder_with(tmp_path / "bad", "c,p,v,i.nii.gz,,train,,,1,0,x,nan,-1", columns=columns)
    text = problems_of(bad)
    assert all(f"{name}: found" in text for name in ("sex", "weight_kg", "height_cm"))


def test_segments_that_were_not_looked_for_are_named(tmp_path: Path) -> None:
    columns = f"{COLUMNS},annotated_segments"
    rows = ["c,p,v,i.nii.gz,s.nii.gz,train,,,1,0,liver", "d,q,v,j.nii.gz,t.nii.gz,train,,,1,0,"]
    read = read_manifest(folder_with(tmp_path, *rows, columns=columns))
    annotated = [case.volumes[0].annotated_segments for case in read.cases]
    assert annotated == [("liver",), ("liver", "liver_lesion")]
    bad = folder_with(tmp_path, "c,p,v,i.nii.gz,s.nii.gz,train,,,1,0,spleen", columns=columns)
    assert "annotated_segments: found 'spleen'" in problems_of(bad)


def test_a_mask_in_which_nothing_counts_is_not_written(tmp_path: Path) -> None:
    """The reader would take its empty cell for a mask in which everything was looked for."""
    nothing = replace(case().volumes[0], annotated_segments=())
    with pytest.raises(ValueError, match="'venous' has no annotated segment"):
        write_manifest(manifest(case(volumes=(nothing,))), tmp_path)


def test_exclusive_findings_are_not_both_present(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c,p,v,i.nii.gz,,train,,,1,1")
    read_manifest(folder)
    toml = folder / "manifest.toml"
    toml.write_text(toml.read_text().replace("exclusive = false", "exclusive = true"))
    assert "lesion and fatty_liver are present" in problems_of(folder)


def test_a_missing_column_and_a_broken_header_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c,p", columns="case_id,patient_id")
    text = (folder / "manifest.toml").read_text()
    (folder / "manifest.toml").write_text(
        "colour = 'red'\n" + text.replace("label = 2", "label = 1")
    )
    found = problems_of(folder)
    assert "colour" in found
    assert "column 'image' is missing" in found


@pytest.mark.parametrize("name", ["fatty_liver", "split", "vendor"])
def test_a_column_that_occurs_twice_is_named(tmp_path: Path, name: str) -> None:
    columns = f"{COLUMNS},vendor,{name}"
    folder = folder_with(tmp_path, "c,p,v,i.nii.gz,,train,,,1,0,acme,1", columns=columns)
    assert f"column '{name}' occurs 2 times" in problems_of(folder)


def test_contradictions_in_the_schema_are_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "c,p,v,i.nii.gz,,train,,,1,0")
    text = (folder / "manifest.toml").read_text().replace("label = 2", "label = 1")
    (folder / "manifest.toml").write_text(text.replace('["liver"]', '["spleen"]'))
    found = problems_of(folder)
    assert "segment label 1 occurs twice" in found
    assert "'fatty_liver' refers to the unknown segment 'spleen'" in found


def test_a_folder_without_a_manifest_says_what_is_missing(tmp_path: Path) -> None:
    found = problems_of(tmp_path)
    assert "manifest.toml: file not found" in found
    assert "cases.csv: file not found" in found


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@settings(max_examples=80, deadline=None)
def test_no_bytes_in_the_table_crash_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("table") / "cases.csv"
    path.write_bytes(COLUMNS.encode() + b"\n" + content)
    cases, problems = read_cases(path, SCHEMA)
    assert problems or all(case.volumes for case in cases)


def test_files_are_checked_by_presence_and_checksum(tmp_path: Path) -> None:
    image = tmp_path / "i.nii.gz"
    image.write_bytes(b"voxels")
    right = VolumeRow("v", "i.nii.gz", None, file_sha256(image))
    wrong = VolumeRow("w", "i.nii.gz", "absent.nii.gz", "0" * 64)
    assert check_files([case(volumes=(right,))], tmp_path, with_checksums=True) == []
    problems = check_files([case(volumes=(wrong,))], tmp_path, with_checksums=True)
    assert len(problems) == 2
    assert "no file absent.nii.gz" in problems[0]
    assert "sha256" in problems[1]
    assert len(check_files([case(volumes=(wrong,))], tmp_path)) == 1


def test_the_checksum_of_a_manifest_follows_its_content(tmp_path: Path) -> None:
    write_manifest(manifest(case()), tmp_path)
    before = manifest_sha256(tmp_path)
    write_manifest(manifest(case(findings={"lesion": False, "fatty_liver": None})), tmp_path)
    assert manifest_sha256(tmp_path) != before


def test_further_columns_are_kept_with_their_rows(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(
        f"{COLUMNS},vendor,slice_mm\n"
        "a,a,v1,1.nii,,train,,,1,,Acme,1.5\n"
        "a,a,v2,2.nii,,train,,,1,,Acme,2.0\n"
        "b,b,v1,3.nii,,train,,,1,,,5\n"
    )
    cases, problems = read_cases(tmp_path / "cases.csv", SCHEMA)
    assert not problems
    assert [volume.attributes["slice_mm"] for volume in cases[0].volumes] == ["1.5", "2.0"]
    assert cases[0].attributes == {"vendor": "Acme"}  # the rows differ in the other one
    assert cases[1].attributes == {"slice_mm": "5"}
    write_manifest(manifest(*cases), tmp_path / "copy")
    assert read_manifest(tmp_path / "copy").cases == cases


def test_a_shipped_manifest_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(read_manifest(find_manifest("data_manifests/acdc")).cases) == 100
    assert find_manifest("data_manifests/nothing") == Path("data_manifests/nothing")
    own = tmp_path / "data_manifests" / "acdc"
    own.mkdir(parents=True)
    assert find_manifest("data_manifests/acdc").resolve() == own  # one's own comes first
