"""A table of diagnoses and a folder of images: matched, or every mismatch named."""

from __future__ import annotations

from pathlib import Path

import pytest
from openpyxl import Workbook

from medmtl.core.errors import ConfigError
from medmtl.core.pseudonym import Pseudonyms
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.diagnoses import Choices, Diagnoses, build_diagnoses_manifest
from medmtl.data.builders.sheet import read_sheet
from medmtl.data.builders.table import check_built
from medmtl.data.builders.words import Words, parse_words
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.data.volume_file import read_volume_file
from tests.dicom_factory import make_series
from tests.miniatures import image_values, write_image, write_mask


def images(root: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        write_image(root / f"{name}.nii.gz", image_values(seed))
    return root


def built(folder: Path, text: str, *, secret: str = "s" * 32, **choices: object) -> Diagnoses:
    table = folder.parent / "table.csv"
    table.write_text(text)
    data = DataCopy.at(folder)
    return build_diagnoses_manifest(
        read_sheet(table),
        folder,
        data,
        name="own",
        choices=Choices(**choices),  # type: ignore[arg-type]
        pseudonyms=Pseudonyms(secret),
    )


def test_rows_meet_their_images_and_unknown_stays_empty(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a_0000", "sub/b", "c")
    result = built(
        folder,
        "Patient ID;File;Tumour grade?;Effusion;Age;Surgeon\n"
        "Meier;a;YES;nein;61;X\nMeier;b.nii.gz;ja;;61;X\nHuber;c;no;unknown;n/a;Y\n",
    )
    assert result.problems == []
    cases = {case.case_id: case for case in result.manifest.cases}
    assert {name: case.findings for name, case in cases.items()} == {
        "a": {"tumour_grade": True, "effusion": False},
        "b": {"tumour_grade": True, "effusion": None},
        "c": {"tumour_grade": False, "effusion": None},
    }
    assert cases["a"].patient_id == cases["b"].patient_id != cases["c"].patient_id
    assert cases["a"].covariates.age_years == 61.0
    assert cases["c"].covariates.age_years is None
    said = "\n".join(result.understood)
    assert "yes: ja (1), yes (2)" not in said
    assert "yes: ja (1), yes (1)" in said
    assert "not used: Surgeon" in said


def test_images_of_one_name_get_numbers_that_no_other_image_is_called_by(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "x/a", "y/a", "a-2")
    result = built(folder, "file,finding\nx/a,1\ny/a,0\na-2,1\n")
    names = {case.volumes[0].image: case.case_id for case in result.manifest.cases}
    assert sorted(names) == ["a-2.nii.gz", "x/a.nii.gz", "y/a.nii.gz"]
    assert len(set(names.values())) == 3
    write_manifest(result.manifest, tmp_path / "out")
    assert len(read_manifest(tmp_path / "out").cases) == 3


def test_nothing_of_a_person_reaches_the_manifest(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a", "b")
    result = built(folder, "patient,file,finding\nErika Muster,a,1\nMax Muster,b,0\n")
    checked = check_built(result.manifest, result.problems, DataCopy.at(folder))
    write_manifest(checked.manifest, tmp_path / "out")
    text = (tmp_path / "out" / "cases.csv").read_text()
    assert "Muster" not in text
    assert [case.fold for case in read_manifest(tmp_path / "out").cases] == [1, 0]
    assert all(case.volumes[0].attributes["table_row"] in "23" for case in checked.manifest.cases)


def test_a_file_called_by_its_patient_gives_a_case_that_is_not(tmp_path: Path) -> None:
    names = ("Müster_Erika_19610304_ct", "Müster_Erika_19610304_mr", "4711_ct", "MRN 0815/ct")
    folder = images(tmp_path / "images", *names)
    text = (
        "patient,file,finding\n"
        f'"Müster, Erika",{names[0]},1\n"Müster, Erika",{names[1]},0\n4711,,1\nMRN 0815,,0\n'
    )
    result = built(folder, text)
    assert len(result.manifest.cases) == 4
    ids = [case.case_id for case in result.manifest.cases]
    assert len(set(ids)) == 4
    assert ids[3] == "ct", "a folder's name does not enter the case id"
    for part in ("ster", "erika", "1961", "4711"):
        assert part not in "".join(ids).casefold()
    assert [case.case_id for case in built(folder, text).manifest.cases] == ids


def test_a_patient_is_found_again_only_with_the_secret(tmp_path: Path) -> None:
    folder, text = images(tmp_path / "images", "a"), "patient,file,finding\n12345678,a,1\n"
    first, again, other = (
        built(folder, text, secret=secret * 32).manifest.cases[0].patient_id for secret in "sst"
    )
    assert first == again != other


def test_every_mismatch_is_named_by_its_row(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a", "b", "c", "d", "e", "p1/x", "p1/y")
    result = built(
        folder,
        "file,patient,finding\na,1,yes\na,1,no\nb,2,maybe\nb,2,maybe\nc,3,yes\ngone,4,no\n,,yes\n"
        "d,3,no\n,p1,no\n",
    )
    assert [case.case_id for case in result.manifest.cases] == ["b", "c", "d"]
    said = "\n".join(result.problems)
    assert "rows 2, 3: the same file with contradicting finding; all left out" in said
    assert "rows 4, 5: the same file again; used once" in said
    assert "row 4: finding: 'maybe' is neither yes, no nor unknown; taken as unknown" in said
    assert "row 7: no image of this file; left out" in said
    assert "row 8: names no patient, study or file; left out" in said
    assert "rows 6, 9: one patient with and without finding; kept" in said
    assert "row 10: 2 images of this patient; left out" in said
    assert "e.nii.gz: no row of the table; left out" in said
    assert "not understood: maybe (2)" in result.understood
    assert result.manifest.cases[0].findings == {"finding": None}


def test_own_words_have_one_meaning(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a", "b", "c")
    words = parse_words(["suspected=yes", "Grade 0=no"])
    table = "id,finding\na,suspected\nb,grade  0\nc,yes\n"
    findings = [
        case.findings["finding"] for case in built(folder, table, words=words).manifest.cases
    ]
    assert findings == [True, False, True]
    with pytest.raises(ConfigError, match="two meanings"):
        parse_words(["x=yes", "X=no"])
    with pytest.raises(ConfigError, match="expected WORD=yes"):
        parse_words(["x=perhaps"])
    assert not Words({}).knows("possible")


def test_a_mask_whose_name_several_images_have_is_nobodys(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "p1/ct", "p2/ct", "b")
    for name in ("ct", "b"):
        write_mask(tmp_path / "images" / "masks" / f"{name}.nii.gz", 1)
    text = "file,finding\np1/ct,1\np2/ct,0\nb,0\n"
    result = built(folder, text, masks=folder / "masks", segments={1: "liver"})
    masks = [case.volumes[0].segmentation for case in result.manifest.cases]
    assert masks == [None, None, "masks/b.nii.gz"]
    assert any("images in 2 folders are called ct" in text for text in result.problems)


def test_masks_are_optional_for_each_case(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a", "b")
    write_mask(folder / "masks" / "a.nii.gz", 1)
    result = built(folder, "id,finding\na,1\nb,0\n", masks=folder / "masks", segments={1: "liver"})
    first, second = (case.volumes[0] for case in result.manifest.cases)
    assert (first.segmentation, first.annotated_segments) == ("masks/a.nii.gz", ("liver",))
    assert (second.segmentation, second.annotated_segments) == (None, ())
    assert any("row 3: b.nii.gz has no mask; kept without" in text for text in result.problems)
    with pytest.raises(ConfigError, match="belong together"):
        built(folder, "id,finding\na,1\n", segments={1: "liver"})


def test_a_dicom_folder_is_found_by_patient_id_and_stays_dicom(tmp_path: Path) -> None:
    ids = ["MRN 4711", "0815"]
    for seed, patient_id in enumerate(ids):
        folder = tmp_path / "images" / f"export{seed}"
        make_series(folder, array=image_values(seed), study=f"study{seed}", PatientID=patient_id)
    result = built(tmp_path / "images", f"MRN,lesion\n{ids[0]},yes\n{ids[1]},no\n")
    assert [text for text in result.problems if text.startswith("row")] == []
    assert [case.findings["lesion"] for case in result.manifest.cases] == [True, False]
    assert result.manifest.modality == "CT"
    for case in result.manifest.cases:
        image = case.volumes[0].image
        assert image.endswith(".series.json")
        assert read_volume_file(tmp_path / "images", image).modality == "CT"
        assert case.patient_id.startswith("p")
        assert case.patient_id not in ids


def test_an_xlsx_says_the_same_as_its_csv(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for line in (["id", "finding", "age"], [7, True, 61.5], [8, 0, None]):
        sheet.append(line)
    book.save(tmp_path / "table.xlsx")
    (tmp_path / "table.csv").write_text("id,finding,age\n7,True,61.5\n8,0,\n")
    assert read_sheet(tmp_path / "table.xlsx") == read_sheet(tmp_path / "table.csv")
    book.create_sheet().append(["more"])
    book.save(tmp_path / "table.xlsx")
    with pytest.raises(ConfigError, match="found 2 filled sheets, expected one"):
        read_sheet(tmp_path / "table.xlsx")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.ods", b"x", "expected .csv or .xlsx"),
        ("t.csv", b"id,finding\n", "found 1 filled lines"),
        ("t.csv", b"id,id\n1,2\n", "'id' occurs twice"),
        ("t.csv", b"id,finding\n1,0,2\n", "1 filled cells stand below no column name"),
        ("t.csv", "id,größe\n1,0\n".encode("latin-1"), "CSV in UTF-8"),
        ("t.xlsx", b"id,finding\n1,0\n", "cannot be read as .xlsx"),
    ],
)
def test_a_table_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_sheet(tmp_path / name)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,finding\na,1\n", "No column says whose row"),
        ("file,image,finding\na,a,1\n", "could both name the file"),
        ("id,age\na,61\n", "No column holds findings"),
        ("id,finding\nz,1\n", "No row of the table has its image"),
    ],
)
def test_columns_are_clear_or_asked_for(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        built(images(tmp_path / "images", "a"), table)
