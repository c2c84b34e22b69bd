"""`medmtl convert`: files, fields, exit status and silence about persons (CONTRACT.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmtl.core.geometry import LPS_TO_RAS, Geometry
from medmtl.core.volume import Volume
from tests.traps.clinic import Clinic, good_clinic, mixed_clinic
from tests.traps.command_line import Outcome, leaks_in, medmtl
from tests.traps.expectation import Image
from tests.traps.series import make_series


def converted(folder: Path, entry: dict[str, Any]) -> Volume:
    """A written NIfTI file as a volume."""
    image = nib.load(folder / entry["file"])
    array = np.asarray(image.dataobj)
    geometry = Geometry(shape=array.shape, affine_lps=LPS_TO_RAS @ image.affine)
    return Volume(array, geometry)


def unmatched(folder: Path, report: dict[str, Any], images: tuple[Image, ...]) -> list[str]:
    """Written volumes that are none of the true images, and images not written."""
    waiting, problems = list(images), []
    for entry in report["volumes"]:
        volume = converted(folder, entry)
        right = [image for image in waiting if not image.mismatch(volume)]
        if right:
            waiting.remove(right[0])
        else:
            problems.append(f"{entry['file']} is no true image")
    return problems + ["an image was not written"] * len(waiting)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Clinic, Outcome]:
    """The mixed folder, converted once."""
    root = tmp_path_factory.mktemp("mixed")
    clinic = mixed_clinic(root / "in")
    return root, clinic, medmtl("convert", "in", "-o", "out", cwd=root)


def report_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "convert.json").read_text())
    return loaded


def test_some_refused_is_status_1_and_the_rest_is_right(
    mixed: tuple[Path, Clinic, Outcome],
) -> None:
    root, clinic, outcome = mixed
    assert outcome.status == 1, outcome.stderr
    assert unmatched(root / "out", report_of(root / "out"), clinic.images) == []


def test_fields_of_a_volume(mixed: tuple[Path, Clinic, Outcome]) -> None:
    root, _, _ = mixed
    for entry in report_of(root / "out")["volumes"]:
        volume = converted(root / "out", entry)
        assert set(entry) >= {
            "file", "study_uid", "series_uid", "modality", "shape_ijk", "spacing_mm",
            "axis_code", "source_files", "flags",
        }  # fmt: skip
        assert entry["modality"] in {"CT", "MR"}
        assert entry["study_uid"].startswith("1.2.826.")
        assert entry["series_uid"].startswith("1.2.826.")
        assert tuple(entry["shape_ijk"]) == volume.array.shape
        assert np.allclose(entry["spacing_mm"], volume.geometry.spacing_mm, atol=1e-4)
        assert entry["axis_code"] == volume.geometry.axis_code
        assert len(entry["source_files"]) == 6
        assert all((root / "in" / name).is_file() for name in entry["source_files"])
        assert all(set(flag) >= {"code", "severity", "message"} for flag in entry["flags"])


def test_refusals_say_what_where_and_what_to_do(mixed: tuple[Path, Clinic, Outcome]) -> None:
    root, _, _ = mixed
    refusals = report_of(root / "out")["refusals"]
    assert len(refusals) >= 2
    for refusal in refusals:
        assert set(refusal) >= {"source", "stage", "code", "found", "expected", "advice"}
        assert all(isinstance(value, str) for value in refusal.values())
        assert refusal["found"]
        assert refusal["expected"]
        assert refusal["advice"]
    assert any("IM0002.dcm" in json.dumps(refusal) for refusal in refusals)  # the cut slice


def test_strangers_are_listed(mixed: tuple[Path, Clinic, Outcome]) -> None:
    root, clinic, _ = mixed
    skipped = report_of(root / "out")["skipped"]
    assert {record["source"] for record in skipped} == set(clinic.skipped)
    assert all(record["code"] and record["reason"] for record in skipped)


def test_folder_holds_the_volumes_and_the_report_only(
    mixed: tuple[Path, Clinic, Outcome],
) -> None:
    root, _, _ = mixed
    files = {str(path.relative_to(root / "out")) for path in (root / "out").rglob("*")
             if path.is_file()}  # fmt: skip
    report = report_of(root / "out")
    assert files == {"convert.json", *(entry["file"] for entry in report["volumes"])}
    assert all(name.endswith(".nii.gz") for name in files - {"convert.json"})


def test_nobody_is_named(mixed: tuple[Path, Clinic, Outcome]) -> None:
    root, _, outcome = mixed
    assert leaks_in(outcome, root / "out") == []
    assert "Traceback" not in outcome.stderr


def test_all_read_is_status_0_and_quiet_is_quiet(tmp_path: Path) -> None:
    clinic = good_clinic(tmp_path / "in")
    outcome = medmtl("convert", "in", "-o", "out", "--quiet", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr == ""
    assert unmatched(tmp_path / "out", report_of(tmp_path / "out"), clinic.images) == []


def test_json_logs_are_json_and_name_nobody(tmp_path: Path) -> None:
    mixed_clinic(tmp_path / "in")
    outcome = medmtl("convert", "in", "-o", "out", "--json-logs", cwd=tmp_path)
    assert outcome.status == 1
    for line in outcome.stderr.splitlines():
        json.loads(line)
    assert leaks_in(outcome, tmp_path / "out") == []


def test_result_does_not_depend_on_file_names(tmp_path: Path) -> None:
    series = make_series()
    series.write(tmp_path / "a")
    series.write(tmp_path / "b", [f"{9 - k}" for k in range(6)])
    for name in ("a", "b"):
        assert medmtl("convert", name, "-o", f"{name}.out", cwd=tmp_path).status == 0
    first, second = (report_of(tmp_path / f"{name}.out") for name in ("a", "b"))
    assert [v["file"] for v in first["volumes"]] == [v["file"] for v in second["volumes"]]
    for entry in first["volumes"]:
        one, two = (tmp_path / f"{name}.out" / entry["file"] for name in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [("convert", "nowhere", "-o", "out"), ("convert", "in"), ("convert", "in", "-o", "file")],
    ids=["no input", "no output", "output is a file"],
)
def test_could_not_start_is_status_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    make_series().write(tmp_path / "in")
    (tmp_path / "file").write_text("in the way")
    outcome = medmtl(*arguments, cwd=tmp_path)
    assert outcome.status == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.strip()
    assert (tmp_path / "file").read_text() == "in the way"


def test_nothing_to_read_is_status_2(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing here")
    assert medmtl("convert", "in", "-o", "out", cwd=tmp_path).status == 2


def test_what_was_written_before_a_stop_is_on_record(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image = nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
        (tmp_path / "in").mkdir(exist_ok=True)
        nib.save(image, tmp_path / "in" / f"{name}.nii.gz")
    (tmp_path / "out" / "b_image.nii.gz" / "in the way").mkdir(parents=True)
    outcome = medmtl("convert", "in", "-o", "out", cwd=tmp_path)
    assert outcome.status == 1, outcome.stderr
    assert "b_image.nii.gz" in outcome.stderr
    assert [entry["file"] for entry in report_of(tmp_path / "out")["volumes"]] == ["a_image.nii.gz"]


@pytest.mark.parametrize("command", [("convert", "in", "-o", "out"), ("scan", "in")])
@pytest.mark.parametrize("how", ["--quiet", "--json-logs"])
def test_a_refusal_is_always_named(command: tuple[str, ...], how: str, tmp_path: Path) -> None:
    make_series().set(PixelSpacing=None).write(tmp_path / "in")
    outcome = medmtl(*command, how, cwd=tmp_path)
    assert outcome.status == 1, outcome.stderr
    assert "refused" in outcome.stderr


def test_a_record_may_be_read_by_others(mixed: tuple[Path, Clinic, Outcome]) -> None:
    assert (mixed[0] / "out" / "convert.json").stat().st_mode & 0o044 == 0o044


def test_all_refused_is_status_1(tmp_path: Path) -> None:
    make_series().set(PixelSpacing=None).write(tmp_path / "in")
    outcome = medmtl("convert", "in", "-o", "out", cwd=tmp_path)
    assert outcome.status == 1, outcome.stderr
    report = report_of(tmp_path / "out")
    assert report["volumes"] == []
    assert report["refusals"]
