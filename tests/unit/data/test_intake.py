"""One door for every input: folders, zips, DICOMDIR, mixtures; regular files only."""

from __future__ import annotations

import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medmtl.core.errors import MedmtlError
from medmtl.data.intake import open_input
from medmtl.dicom import ReadLimits
from tests.dicom_factory import make_series

STORED = np.arange(60, dtype=np.int16).reshape(5, 4, 3)


def test_a_folder_may_hold_both_kinds(tmp_path: Path) -> None:
    make_series(tmp_path / "dicom", array=STORED)
    nib.save(nib.Nifti1Image(STORED, np.eye(4)), tmp_path / "other.nii.gz")
    (tmp_path / "notes.txt").write_text("hello")
    listing = open_input(tmp_path)
    assert [study.kind for study in listing.studies] == ["dicom", "nifti"]
    assert [(entry.source, entry.code) for entry in listing.skipped] == [("notes.txt", "not-dicom")]


def test_a_volume_is_read_as_its_reference_says(tmp_path: Path) -> None:
    make_series(tmp_path / "dicom", array=STORED)
    nib.save(nib.Nifti1Image(STORED, np.eye(4)), tmp_path / "other.nii.gz")
    for study in open_input(tmp_path).studies:
        volume = replace(study.volumes[0], id="renamed", time_ms=40.0).read()
        assert (volume.id, volume.time_ms) == ("renamed", 40.0)
        assert np.array_equal(volume.array, STORED)


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("mark", ["run.json", ".medmtl/started", "case/case.json"])
def test_results_are_left_out_and_counted(
    mark: str, is_packed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nib.Nifti1Image(STORED, np.eye(4))
    for name in ("image.nii.gz", "old/case/image/cam_nodule.nii.gz", "old2/case/cam.nii.gz"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image, tmp_path / "in" / name)
    place = tmp_path / "in"
    if is_packed:
        place = Path(shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "in"))
    assert len(open_input(place).studies) == 3
    for folder in ("old", "old2"):
        (tmp_path / "in" / folder / mark).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / folder / mark).touch()
    if is_packed:
        shutil.make_archive(str(tmp_path / "all"), "zip", tmp_path / "in")
    with caplog.at_level("INFO"):
        listing = open_input(place)
    assert [study.case_id for study in listing.studies] == ["image"]
    case = "/case" if "/case" in mark else ""
    assert [(entry.source, entry.code) for entry in listing.skipped] == [
        (f"old{case}", "medmtl-results"), (f"old2{case}", "medmtl-results"),
    ]  # fmt: skip
    assert caplog.messages.count("2 folder(s) with results of medmtl left out") == 1


def test_an_evaluation_and_a_table_beside_images_are_no_results(tmp_path: Path) -> None:
    for name, marks in (("evaluated", (".medmtl", "metrics.json")), ("own", ("cases.csv",))):
        (tmp_path / name).mkdir()
        nib.save(nib.Nifti1Image(STORED, np.eye(4)), tmp_path / name / f"{name}.nii.gz")
        for mark in marks:
            (tmp_path / name / mark).touch()
    assert [study.case_id for study in open_input(tmp_path).studies] == ["evaluated", "own"]


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_no_input_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedmtlError, match=name):
        open_input(tmp_path / name)


def test_zip_gives_what_its_folder_gives(tmp_path: Path) -> None:
    make_series(tmp_path / "in", array=STORED)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in (tmp_path / "in").iterdir():
            archive.write(path, path.name)
        archive.writestr("../escaped", b"x")
    folder, packed = open_input(tmp_path / "in"), open_input(tmp_path / "in.zip")
    assert [study.case_id for study in packed.studies] == [s.case_id for s in folder.studies]
    volume = packed.studies[0].volumes[0].read()
    assert np.array_equal(volume.array, STORED)
    assert [entry.code for entry in packed.skipped] == ["zip-outside-path"]
    assert not (tmp_path.parent / "escaped").exists()


def test_zip_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10_000_000))
    listing = open_input(tmp_path / "bomb.zip", limits=ReadLimits(max_zip_bytes=1_000_000))
    assert [refusal.code for refusal in listing.refusals] == ["zip-too-large"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs and links")
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_said_and_changes_nothing(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to(tmp_path)
    listing = open_input(tmp_path)
    assert listing.studies[0].volumes[0].geometry.shape == STORED.shape
    assert {entry.source: entry.code for entry in listing.skipped} == {
        "dangling": "dangling-link",
        "fifo": "not-a-regular-file",
        "loop": "link-loop",
    }


def test_a_volume_larger_than_the_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED)
    listing = open_input(tmp_path, limits=ReadLimits(max_pixel_bytes=100))
    assert [refusal.code for refusal in listing.refusals] == ["too-large"]


def test_covariates_are_plausible_or_unknown(tmp_path: Path) -> None:
    tags: dict[str, Any] = {
        "PatientAge": "061Y",
        "PatientSex": "F",
        "PatientSize": "1.7",
        "PatientWeight": "900",
    }
    make_series(tmp_path, array=STORED, **tags)
    known = open_input(tmp_path).studies[0].covariates
    assert (known.age_years, known.sex, known.height_cm, known.weight_kg) == (61, "F", 170, None)


@pytest.mark.parametrize(("age", "years"), [("000Y", None), ("000D", 0.0), ("006M", 0.5)])
def test_no_years_are_what_an_anonymiser_writes(
    tmp_path: Path, age: str, years: float | None
) -> None:
    make_series(tmp_path, array=STORED, PatientAge=age)
    assert open_input(tmp_path).studies[0].covariates.age_years == years


def test_two_patients_with_the_same_uids_are_two_studies(tmp_path: Path) -> None:
    make_series(tmp_path / "a", array=STORED)
    make_series(tmp_path / "b", array=STORED, PatientID="P2", PatientName="Roe^Ann")
    studies = open_input(tmp_path).studies
    assert len({study.case_id for study in studies}) == 2
    assert all(study.volumes[0].geometry.shape == STORED.shape for study in studies)
