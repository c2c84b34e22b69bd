"""`medmtl manifest` from the command line: exit status, files, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openpyxl import Workbook

from medmtl.data.builders.table import BUILDERS
from medmtl.data.manifest import read_manifest
from pipelines.__main__ import main
from pipelines.manifest import Dataset
from tests.miniatures import image_values, write_image, write_mask


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["medmtl", "manifest", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def copy(root: Path, count: int = 6) -> Path:
    for number in range(count):
        stem = f"spleen_{number}.nii.gz"
        write_image(root / "imagesTr" / stem, image_values(number))
        write_mask(root / "labelsTr" / stem, 1)
    entries = [{"image": f"imagesTr/spleen_{n}.nii.gz"} for n in range(count)]
    header = {"labels": {"0": "background", "1": "spleen"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(header))
    return root


def test_every_data_set_has_its_command() -> None:
    assert {dataset.value for dataset in Dataset} == set(BUILDERS)


def test_write_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = copy(tmp_path / "copy"), tmp_path / "manifest"
    assert run(monkeypatch, "msd", "--root", root, "-o", out) == 0
    assert len(read_manifest(out).cases) == 6
    assert run(monkeypatch, "check", out, "--data-root", root) == 0
    write_mask(root / "labelsTr" / "spleen_3.nii.gz", 5)
    report = tmp_path / "report.json"
    assert run(monkeypatch, "check", out, "--data-root", root, "--quick") == 0
    assert run(monkeypatch, "check", out, "--data-root", root, "--json", report) == 1
    found = json.loads(report.read_text())
    assert found["n_cases"] == 6
    assert [(row["case_id"], row["code"]) for row in found["problems"]] == [
        ("spleen_3", "unknown-label")
    ]


def test_a_table_that_is_wrong_leaves_no_case_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, out = copy(tmp_path / "copy"), tmp_path / "manifest"
    assert run(monkeypatch, "msd", "--root", root, "-o", out) == 0
    table = out / "cases.csv"
    table.write_text(table.read_text().replace("train", "../train", 1))
    assert run(monkeypatch, "check", out, "--data-root", root, "--quick") == 1
    assert "none can be used until its tables are mended" in " ".join(
        capfd.readouterr().err.split()
    )


def test_a_bad_case_is_named_left_out_and_status_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, out = copy(tmp_path / "copy"), tmp_path / "manifest"
    write_image(root / "imagesTr" / "spleen_2.nii.gz", image_values(2).astype("float32") * 1e4)
    assert run(monkeypatch, "msd", "--root", root, "-o", out, "--json-logs") == 1
    assert [case.case_id for case in read_manifest(out).cases] == [
        f"spleen_{number}" for number in (0, 1, 3, 4, 5)
    ]
    said = [json.loads(line)["message"] for line in capfd.readouterr().err.splitlines()]
    named = "case spleen_2, volume image: extreme-intensity"
    assert any(named in message for message in said)
    assert run(monkeypatch, "msd", "--root", root, "-o", out, "--json-logs", "--quiet") == 1
    assert named in capfd.readouterr().err, "status 1 without its reason"


def test_nothing_to_start_with_is_status_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, "kits", "--root", tmp_path, "-o", tmp_path / "m") == 2
    assert run(monkeypatch, "kits", "--root", tmp_path / "no", "-o", tmp_path / "m") == 2
    table = ("table", tmp_path / "t.csv", "--images", tmp_path / "no")
    assert run(monkeypatch, *table, "-o", tmp_path / "m") == 2
    assert run(monkeypatch, "check", tmp_path, "--data-root", tmp_path) == 2
    assert not (tmp_path / "m").exists()


def write_table(path: Path, rows: list[str]) -> None:
    """Lines of cells between commas, as the kind of file that the name says."""
    if path.suffix == ".csv":
        path.write_text("\n".join(rows))
        return
    book = Workbook()
    for row in rows:
        book.active.append(row.split(","))
    book.save(path)


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_table_of_diagnoses_shows_its_words_and_where_the_data_root_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    suffix: str,
) -> None:
    root, out, table = tmp_path / "images", tmp_path / "manifest", tmp_path / f"diagnoses{suffix}"
    for number in range(6):
        write_image(root / f"case{number}.nii.gz", image_values(number))
    lines = [f"P{number},case{number},{'ja' if number % 2 else 'nein'}" for number in range(6)]
    write_table(table, ["patient,file,effusion", *lines])
    assert run(monkeypatch, "table", table, "--images", root, "-o", out) == 0
    said = " ".join(capfd.readouterr().err.split())
    assert "yes: ja (3)" in said
    assert "no: nein (3)" in said
    assert f"--data-root of this manifest: {root}" in said.replace(" /", " /")
    manifest = read_manifest(out)
    assert [case.findings["effusion"] for case in manifest.cases] == [False, True] * 3
    assert run(monkeypatch, "check", out, "--data-root", root) == 0

    write_table(table, ["patient,file,effusion", *lines, "P9,case9,ja"])
    arguments = ("--column", "finding=effusion", "--word", "ja=no", "-o", out)
    assert run(monkeypatch, "table", table, "--images", root, *arguments) == 1
    again = read_manifest(out)
    assert {case.findings["effusion"] for case in again.cases} == {False}
    assert [c.patient_id for c in again.cases] == [c.patient_id for c in manifest.cases]
    assert "row 8: no image of this file" in capfd.readouterr().err
    bad = ("--column", "name=effusion", "-o", tmp_path / "none")
    assert run(monkeypatch, "table", table, "--images", root, *bad) == 2
    assert not (tmp_path / "none").exists()
