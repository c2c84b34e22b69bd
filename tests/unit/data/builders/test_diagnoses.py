"""A table of diagnoses and a folder of images: matched, or every mismatch named."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from medmtl.core.errors import ConfigError
from medmtl.core.prediction import Covariates
from medmtl.core.pseudonym import Pseudonyms
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.diagnoses import Choices, Diagnoses, build_diagnoses_manifest
from medmtl.data.builders.sheet import Sheet, SheetRow, read_sheet
from medmtl.data.builders.sheet_columns import choose_columns
from medmtl.data.builders.table import check_built
from medmtl.data.builders.words import Words, parse_words
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.data.volume_file import read_grid, read_volume_file
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
        "a_0000": {"tumour_grade": True, "effusion": False},
        "b": {"tumour_grade": True, "effusion": None},
        "c": {"tumour_grade": False, "effusion": None},
    }
    assert cases["a_0000"].patient_id == cases["b"].patient_id != cases["c"].patient_id
    assert cases["a_0000"].covariates.age_years == 61.0
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


@pytest.mark.parametrize("row", ["Müller,Müller_ct,", "Müller,,case07", "Müller,,"])
def test_an_umlaut_as_macos_writes_it_is_the_same_letter(tmp_path: Path, row: str) -> None:
    folder = images(tmp_path / "images", unicodedata.normalize("NFD", "case07/Müller_ct"))
    (case,) = built(folder, f"patient,file,study,finding\n{row},1\n").manifest.cases
    assert "ller" not in case.case_id


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


def test_a_dash_has_the_meaning_that_the_user_gives_it(tmp_path: Path) -> None:
    folder, table = images(tmp_path / "images", "a", "b"), "id,finding\na,yes\nb,-\n"
    result = built(folder, table)
    assert [case.findings["finding"] for case in result.manifest.cases] == [True, None]
    assert any(text.startswith("row 3: finding: '-' is neither yes") for text in result.problems)
    result = built(folder, table, words=parse_words(["-=no"]))
    assert [case.findings["finding"] for case in result.manifest.cases] == [True, False]


@pytest.mark.parametrize(
    ("cells", "is_finding"),
    [
        ("10", True),
        ("yn", True),
        ("jn", True),
        ("tf", True),
        ("1", True),
        ("012", True),
        ("y?", True),
        ("nt", False),
        ("fm", False),
        ("12", False),
        ("n1", False),
    ],
)
def test_single_characters_are_a_finding_where_they_are_a_pair_or_named(
    cells: str, is_finding: bool
) -> None:
    rows = tuple(SheetRow(n, {"id": str(n), "sure": "yes", "x": c}) for n, c in enumerate(cells))
    sheet = Sheet(("id", "sure", "x"), rows)
    chosen = choose_columns(sheet, named={}, findings=(), words=Words({}))
    assert ("x" in chosen.findings, "x" in chosen.unused) == (is_finding, not is_finding)
    assert "x" in choose_columns(sheet, named={}, findings=("x",), words=Words({})).findings


def test_a_mask_whose_name_several_images_have_is_nobodys(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "p1/ct", "p2/ct", "b")
    for name in ("ct", "b"):
        write_mask(tmp_path / "images" / "masks" / f"{name}.nii.gz", 1)
    text = "file,finding\np1/ct,1\np2/ct,0\nb,0\n"
    result = built(folder, text, masks=folder / "masks", segments={1: "liver"})
    masks = [case.volumes[0].segmentation for case in result.manifest.cases]
    assert masks == [None, None, "masks/b.nii.gz"]
    assert any("mask ct: 2 images are called so" in text for text in result.problems)


@pytest.mark.parametrize("column", ["file", "case", "patient"])
def test_a_number_of_four_digits_is_part_of_the_name(tmp_path: Path, column: str) -> None:
    names = ["case_0001", "case_0002", "case_0003"]
    folder = images(tmp_path / "images", *names)
    write_mask(folder / "masks" / "case_0002.nii.gz", 1)
    text = f"{column},finding\ncase_0001,1\ncase_0002,0\ncase_0003,1\n"
    result = built(folder, text, masks=folder / "masks", segments={1: "liver"})
    volumes = [case.volumes[0] for case in result.manifest.cases]
    assert [volume.image for volume in volumes] == [f"{name}.nii.gz" for name in names]
    assert [volume.segmentation for volume in volumes] == [None, "masks/case_0002.nii.gz", None]


def test_a_case_has_the_mask_of_its_only_channel(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "amos_0001_0000", "amos_0002_0000", "b_0000")
    for name in ("amos_0001", "amos_0002", "b_0000", "b"):
        write_mask(folder / "masks" / f"{name}.nii.gz", 1)
    text = "case,finding\namos_0001,1\namos_0002_0000,0\nb,0\n"
    result = built(folder, text, masks=folder / "masks", segments={1: "liver"})
    masks = [case.volumes[0].segmentation for case in result.manifest.cases]
    assert masks == [f"masks/{name}.nii.gz" for name in ("amos_0001", "amos_0002", "b_0000")]
    assert not any(text.startswith(("row", "mask")) for text in result.problems)


def test_a_mask_that_several_channels_could_have_is_nobodys(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "case_0001", "case_0002")
    write_mask(folder / "masks" / "case.nii.gz", 1)
    text = "file,finding\ncase_0001,1\ncase_0002,0\n"
    result = built(folder, text, masks=folder / "masks", segments={1: "liver"})
    assert [case.volumes[0].segmentation for case in result.manifest.cases] == [None, None]
    assert any("mask case: 2 images are called so; not used" in text for text in result.problems)


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


def test_covariates_are_read_as_people_write_them(tmp_path: Path) -> None:
    lines = [
        "a;64,5;w;1,75 m;70,5 kg", "b;64 years;weiblich;175;70", "c;18 Monate;männlich;80 cm;-",
        "d;064Y;M;;unknown", "e;1 day;f;50;3,5", "f;004D;m;50;3,5",
    ]  # fmt: skip
    folder = images(tmp_path / "images", *"abcdef")
    text = "id;age;sex;height;weight;finding\n" + "".join(f"{line};yes\n" for line in lines)
    result = built(folder, text)
    assert not any(text.startswith("row") for text in result.problems)
    assert [case.covariates for case in result.manifest.cases] == [
        Covariates(64.5, "F", 175.0, 70.5),
        Covariates(64.0, "F", 175.0, 70.0),
        Covariates(1.5, "M", 80.0, None),
        Covariates(64.0, "M", None, None),
        Covariates(0.0027, "F", 50.0, 3.5),
        Covariates(0.011, "M", 50.0, 3.5),
    ]


def test_a_child_of_no_years_is_read_back_and_the_table_goes_before_the_header(
    tmp_path: Path,
) -> None:
    root = studies(tmp_path / "images", "Meier", PatientAge="006M")
    result = built(root, "study,age,finding\n0,0,yes\n")
    assert not any(text.startswith("row") for text in result.problems)
    write_manifest(result.manifest, tmp_path / "out")
    assert read_manifest(tmp_path / "out").cases[0].covariates.age_years == 0.0


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("age", "000Y"),
        ("height", "0"),
        ("age", "640"),
        ("age", "640Y"),
        ("age", "64 m"),
        ("sex", "1"),
        ("height", "1.75"),
        ("weight", "70000"),
    ],
)
def test_a_covariate_that_is_not_plausible_is_listed(
    tmp_path: Path, column: str, cell: str
) -> None:
    result = built(images(tmp_path / "images", "a"), f"id,{column},finding\na,{cell},yes\n")
    assert result.manifest.cases[0].covariates == Covariates()
    assert any(f"row 2: {column}: '{cell}' is not understood" in text for text in result.problems)


@pytest.mark.parametrize("cell", ["12.03.1954", "1954-03-12", "120354", "12 March", "Muster"])
def test_a_birth_date_or_name_in_the_wrong_column_is_not_repeated(
    tmp_path: Path, cell: str
) -> None:
    result = built(images(tmp_path / "images", "a"), f"id,age,finding\na,{cell},yes\n")
    said = f"row 2: age: a text of {len(cell)} characters is not understood"
    assert any(said in text for text in result.problems)
    assert not any(cell in text for text in (*result.problems, *result.understood))


def studies(root: Path, *patient_ids: str, **tags: Any) -> Path:
    """DICOM studies in folders 0, 1, ..."""
    for place, patient_id in enumerate(patient_ids):
        make_series(
            root / str(place), array=image_values(place), name=f"series{place}",
            study=f"study{place}", PatientID=patient_id, **tags,
        )  # fmt: skip
    return root


def patients(result: Diagnoses) -> list[int]:
    """The first case of the patient of each case."""
    names = [case.patient_id for case in result.manifest.cases]
    return [names.index(name) for name in names]


def test_a_blank_patient_is_listed(tmp_path: Path) -> None:
    result = built(images(tmp_path / "i", "a", "b"), "patient,file,finding\nP1,a,1\n,b,0\n")
    assert result.problems == [
        "row 3: the patient is blank; counts as one of its own, so that two images of one "
        "person can fall apart"
    ]


def test_a_blank_patient_is_that_of_the_same_header(tmp_path: Path) -> None:
    root = studies(tmp_path / "images", "Meier 1", "Meier 1", "Huber", "Huber", "Weber")
    text = "patient,study,finding\nA,0,yes\n,1,yes\n,2,no\n,3,no\nB,4,no\n"
    result = built(root, text)
    assert patients(result) == [0, 0, 2, 2, 4]
    assert result.problems == [
        f"row {row}: the patient is blank; the Patient ID of the DICOM header is taken"
        for row in (3, 4, 5)
    ]


def test_without_a_column_the_headers_name_the_patients(tmp_path: Path) -> None:
    root = studies(tmp_path / "images", "Meier", "Meier", "Huber")
    result = built(root, "study,finding\n0,yes\n1,yes\n2,no\n")
    assert (patients(result), result.problems) == ([0, 0, 2], [])


@pytest.mark.parametrize("last", ["ANON", ""])
def test_one_id_that_all_images_with_an_id_have_tells_nobody_apart(
    tmp_path: Path, last: str
) -> None:
    root = studies(tmp_path / "images", "ANON", "ANON", last)
    result = built(root, "study,finding\n0,yes\n1,yes\n2,no\n")
    assert patients(result) == [0, 1, 2]
    assert "a row without one counts as a patient of its own" in result.problems[0]


def test_a_blank_patient_is_no_guess_among_several_of_one_id(tmp_path: Path) -> None:
    root = studies(tmp_path / "images", "ANON", "ANON", "ANON", "OTHER")
    result = built(root, "patient,study,finding\nA,0,yes\nB,1,yes\n,2,no\nC,3,no\n")
    assert patients(result) == [0, 1, 2, 3]
    assert result.problems == [
        "rows 2, 3: one patient in the DICOM headers, several in the table; kept as the table says",
        "row 4: the patient is blank; counts as one of its own, so that two images of one person "
        "can fall apart",
    ]


def test_table_and_headers_that_contradict_each_other_are_listed_by_row(tmp_path: Path) -> None:
    root = studies(tmp_path / "images", "Meier", "Meier", "Huber", "Weber")
    result = built(root, "patient,study,finding\nA,0,yes\nB,1,yes\nC,2,no\nC,3,no\n")
    assert patients(result) == [0, 1, 2, 2]
    assert result.problems == [
        "rows 2, 3: one patient in the DICOM headers, several in the table; kept as the table says",
        "rows 4, 5: one patient in the table, several in the DICOM headers; kept as the table says",
    ]


def test_of_a_study_the_modality_of_the_others_is_taken(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for seed, words in enumerate(["1 CT", "2 CT", "2 MR", "3 MR"]):
        patient, modality = words.split()
        shape = (6, 5, 4) if modality == "CT" else (9, 9, 9)
        make_series(
            root, array=image_values(seed, shape), modality=modality,
            name=f"series{seed}", study=f"study{patient}", PatientID=patient,
        )  # fmt: skip
    result = built(root, "patient,finding\n1,yes\n2,no\n3,no\n")
    volumes = [case.volumes[0] for case in result.manifest.cases]
    assert [volume.attributes["modality"] for volume in volumes] == ["CT", "CT", "MR"]
    assert [text for text in result.problems if text.startswith("row")] == [
        "row 4: modality MR among CT; kept"
    ]


def test_a_phase_of_a_cine_is_taken_only_where_nothing_else_is_there(tmp_path: Path) -> None:
    root = tmp_path / "images"
    make_series(root, array=image_values(9, (6, 5, 4)), modality="MR", name="still")
    for phase in range(4):
        make_series(
            root, array=image_values(phase, (9, 9, 9)), modality="MR", name=f"p{phase}",
            SeriesInstanceUID="1.2.3", TriggerTime=str(100 * phase),
        )  # fmt: skip
    result = built(root, "patient,finding\nP1,yes\n")
    assert read_grid(root, result.manifest.cases[0].volumes[0].image).shape == (6, 5, 4)


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


def test_a_number_is_padded_with_zeros_as_its_cell_shows_it(tmp_path: Path) -> None:
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    for line in (["id", "finding", "age"], [815, 1, 7.5], [12345, 0, 8.0]):
        sheet.append(line)
    for row in (2, 3):
        sheet.cell(row, 1).number_format = "0000"
    book.save(tmp_path / "table.xlsx")
    rows = read_sheet(tmp_path / "table.xlsx").rows
    assert [list(row.cells.values()) for row in rows] == [["0815", "1", "7.5"], ["12345", "0", "8"]]


@pytest.mark.parametrize("start", ["", "\n\n", ";;\n \n"])
def test_the_first_filled_line_says_what_stands_between_cells(tmp_path: Path, start: str) -> None:
    (tmp_path / "table.csv").write_text(f"{start}id;finding;a, b\n7;yes;no\n")
    sheet = read_sheet(tmp_path / "table.csv")
    assert sheet.columns == ("id", "finding", "a, b")
    assert sheet.rows[0].number == start.count("\n") + 2


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
