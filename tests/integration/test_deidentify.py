"""Identities planted wherever one fits, and a search for them in everything that is written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medmtl.core.pseudonym import Pseudonyms
from medmtl.core.review import FindingVerdict, Review
from medmtl.data.deidentify import deidentified
from medmtl.data.intake import open_input
from medmtl.dicom.patient import PATIENT_KEYWORDS
from medmtl.inference.batch import BatchOptions
from medmtl.inference.predictor import load_predictor
from medmtl.inference.write_review import write_reviewed_reports
from medmtl.pacs.push import push_files, result_files
from pipelines.push import push_cases
from pipelines.watch_rounds import Watcher, watch_folder
from tests.dicom_factory import uid_of
from tests.planted_identity import BIRTH, STUDY_DATE, WORD, plant, search, uids_of
from tests.planted_study import SLICES, write_study

FORMATS = "nifti,json,png,seg,sr,pm,rtstruct"
SECRET = "a secret of at least 32 characters, truly"  # noqa: S105 - of the tests


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.toml"
    path.write_text(f"secret = '{SECRET}'\n", encoding="utf-8")
    path.chmod(0o600)
    return path


def _input(folder: Path) -> Path:
    """A study that can be analysed, a series that is refused, a report and junk; all named."""
    good = write_study(folder / f"{WORD}^Folder" / "ct", "one")
    broken = write_study(folder / f"{WORD}^Folder" / "gap", "one", seed=1)
    for path in (*good.iterdir(), *broken.iterdir()):
        instance = pydicom.dcmread(path)
        if path.parent == broken:
            instance.SeriesInstanceUID = uid_of("broken")
            instance.SOPInstanceUID = uid_of("broken", path.name)
        plant(instance)
        instance.save_as(path.with_name(f"{WORD}-{path.name}"))
        path.unlink()
    sorted(broken.iterdir())[SLICES // 2].unlink()  # a missing slice
    report = pydicom.dcmread(next(good.iterdir()))
    report.SOPClassUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "SR"
    report.SOPInstanceUID = uid_of("report")
    report.save_as(folder / f"{WORD}-report.dcm")
    (folder / f"{WORD}.txt").write_text(WORD, encoding="utf-8")
    return folder


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medmtl", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def _assert_nobody_in(text: str, words: set[str]) -> None:
    assert [word for word in words if word.lower() in text.lower()] == []


def test_the_search_finds_what_was_planted(tmp_path: Path) -> None:
    """A search that finds nothing proves nothing unless it can find."""
    source = _input(tmp_path / "in")
    told = {WORD, BIRTH, STUDY_DATE, *uids_of(source / f"{WORD}^Folder")}
    assert {find.word for find in search(source, told)} >= told
    names = "sub/other.nii.gz"
    (tmp_path / "out" / "sub").mkdir(parents=True)
    header = nib.Nifti1Header()
    header["descrip"] = WORD
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4), header),
             tmp_path / "out" / names)  # fmt: skip
    assert [(find.place, find.written) for find in search(tmp_path / "out", [WORD])] == [
        (f"{names} (gzip)", "utf-8")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("logs", [(), ("--json-logs",)], ids=["screen", "json"])
def test_no_result_log_or_note_of_predict_tells_who_it_is(
    tmp_path: Path, bundle: Path, key: Path, logs: tuple[str, ...]
) -> None:
    source, out = _input(tmp_path / f"{WORD}^Patient"), tmp_path / "out"
    words = {WORD, BIRTH, STUDY_DATE, SECRET, *uids_of(source / f"{WORD}^Folder")}
    done = _run("predict", source, "-o", out, "--model", bundle, "--formats", FORMATS,
                "--deidentify", key, *logs)  # fmt: skip
    assert done.returncode == 1, done.stderr  # the broken series is refused, and said
    assert search(out, words) == []
    _assert_nobody_in(done.stderr + done.stdout, words)
    assert "missing-slices" in (out / "failures.csv").read_text()
    results = [pydicom.dcmread(path) for path in out.glob("*/*/*.dcm")]
    assert {result.Modality for result in results} >= {"SEG", "SR", "RTSTRUCT"}
    for result in results:
        assert result.PatientIdentityRemoved == "YES"
        assert result.LongitudinalTemporalInformationModified == "MODIFIED"
        assert str(result.PatientName) == result.PatientID
        assert result.PatientID.startswith("P-")
    assert len({(r.StudyInstanceUID, r.PatientID) for r in results}) == 1
    (record,) = (json.loads(path.read_text()) for path in out.glob("*/case.json"))
    assert "deidentified" in {flag["code"] for flag in record["quality"]["flags"]}
    assert record["source"]["study_uid"] == results[0].StudyInstanceUID


@pytest.mark.slow
def test_validators_accept_deidentified_results(tmp_path: Path, bundle: Path, key: Path) -> None:
    dciodvfy = shutil.which("dciodvfy")
    if dciodvfy is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    source, out = write_study(tmp_path / "in", "one"), tmp_path / "out"
    _run("predict", source, "-o", out, "--model", bundle, "--formats", FORMATS, "--deidentify", key)
    files = [*out.glob("*/*/*.dcm")]
    assert files
    for path in files:
        said = subprocess.run(
            [dciodvfy, "-new", path], capture_output=True, text=True, errors="replace", check=False
        )
        lines = (said.stdout + said.stderr).splitlines()
        assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.slow
def test_logs_and_records_name_nobody_without_the_option_either(
    tmp_path: Path, bundle: Path
) -> None:
    """DICOM results carry the patient of their source on purpose; nothing else does."""
    source, out = write_study(tmp_path / "in", "one"), tmp_path / "out"
    for path in source.iterdir():
        instance = pydicom.dcmread(path)
        plant(instance)
        instance.save_as(path)
    uids = uids_of(source)
    done = _run("predict", source, "-o", out, "--model", bundle, "--formats", FORMATS)
    assert done.returncode == 0, done.stderr
    _assert_nobody_in(done.stderr + done.stdout, {WORD, BIRTH, STUDY_DATE, *uids})
    finds = search(out, {WORD, BIRTH, STUDY_DATE})
    assert {find.place.split(" ")[0].rsplit(".", 1)[1] for find in finds} == {"dcm"}
    for path in out.glob("*/*/*.dcm"):
        result = pydicom.dcmread(path)
        for keyword in PATIENT_KEYWORDS:
            if keyword in result:
                del result[keyword]
        for element in result.iterall():
            is_date = element.keyword in {"ContentDate", "StructureSetDate"}
            assert WORD.lower() not in str(element.value).lower() or element.VR == "SQ"
            assert is_date or element.VR == "SQ" or STUDY_DATE not in str(element.value)
    for name in ("run.json", "cases.csv"):
        _assert_nobody_in((out / name).read_text(), {WORD, *uids})


@pytest.mark.slow
def test_convert_and_nifti_inputs(tmp_path: Path, bundle: Path, key: Path) -> None:
    source, out = _input(tmp_path / "in"), tmp_path / "out"
    words = {WORD, BIRTH, STUDY_DATE, *uids_of(source / f"{WORD}^Folder")}
    image = nib.Nifti1Image(
        np.random.default_rng(0).normal(0, 50, (24, 24, 10)).astype(np.int16), np.diag([2, 2, 3, 1])
    )
    for field, length in (("descrip", 80), ("db_name", 18), ("aux_file", 24), ("intent_name", 16)):
        image.header[field] = f"{WORD} {field}"[:length]
    nib.save(image, source / f"{WORD}_ed.nii.gz")
    nib.save(image, source / f"{WORD}.nii")
    done = _run("convert", source, "-o", out, "--deidentify", key)
    assert done.returncode == 1, done.stderr
    assert search(out, words) == []
    _assert_nobody_in(done.stderr + done.stdout, words)
    record = json.loads((out / "convert.json").read_text())
    assert len(record["volumes"]) == 3
    assert all(entry["source"].startswith("source ") for entry in record["skipped"])
    assert {len(volume["source_files"]) for volume in record["volumes"]} == {1, SLICES}


@pytest.mark.slow
def test_watch_and_push(tmp_path: Path, bundle: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    _input(folder / f"{WORD}-study")
    words = {WORD, BIRTH, STUDY_DATE, *uids_of(folder / f"{WORD}-study" / f"{WORD}^Folder")}
    analyser = load_predictor(bundle, device="cpu", cam="all")
    target, names = _Target(), Pseudonyms(SECRET)
    options = BatchOptions(formats=("json", "seg", "sr", "pm", "rtstruct"))
    with Watcher.open(
        out, analyser=analyser, options=options, target=target, pseudonyms=names
    ) as watcher:
        watch_folder(watcher, folder, settle_s=0)()
    assert search(out, words) == []
    assert target.sent
    target.write(tmp_path / "sent")
    assert search(tmp_path / "sent", words) == []


@pytest.mark.slow
@pytest.mark.parametrize("dates", ["shift", "remove"])
def test_results_of_another_day_are_deidentified_on_their_way(
    tmp_path: Path, bundle: Path, dates: str
) -> None:
    source, out = _input(tmp_path / "in"), tmp_path / "out"
    words = {WORD, BIRTH, STUDY_DATE, *uids_of(source / f"{WORD}^Folder")}
    analyser = load_predictor(bundle, device="cpu", cam="all")
    formats = ("json", "seg", "sr", "pm", "rtstruct")
    with Watcher.open(
        out, analyser=analyser, options=BatchOptions(formats=formats), target=None
    ) as watcher:
        watcher.analyse(open_input(source), source)
    assert search(out, words) != []
    (case,) = (path.parent for path in out.glob("*/case.json"))
    finding = FindingVerdict("nodule", "agree", comment=f"{WORD} finding")
    review = Review(case.name, f"{WORD}^Reviewer", datetime(2020, 1, 1, tzinfo=UTC), (finding,),
                    comment=f"{WORD} case", is_signed=True)  # fmt: skip
    write_reviewed_reports(case, [review])
    target, names = _Target(), Pseudonyms(SECRET, dates)
    assert push_cases(target, [case], root=out, pseudonyms=names) == 0
    assert len(target.sent) == len(result_files(case))
    target.write(tmp_path / "sent")
    assert search(tmp_path / "sent", words) == []
    study = deidentified(open_input(source), names).studies[0]
    assert {instance.StudyInstanceUID for instance in target.sent} == {study.study_uid}
    seg = next(instance for instance in target.sent if instance.Modality == "SEG")
    reports = [instance for instance in target.sent if instance.Modality == "SR"]
    assert len(reports) == 2
    assert all(seg.SOPInstanceUID in str(report) for report in reports)  # they still cite it
    outcomes = push_files(target, result_files(case), root=out,
                          change=lambda result: _change(result, names))  # fmt: skip
    assert {outcome.status for outcome in outcomes} == {"present"}  # the same again


def _change(result: pydicom.Dataset, names: Pseudonyms) -> None:
    from medmtl.dicom.identity import pseudonymous_result

    pseudonymous_result(result, names)


class _Target:
    """Keeps what it is given, as an archive does."""

    def __init__(self) -> None:
        self.sent: list[pydicom.Dataset] = []

    def stored(self, study_uid: str, series_uid: str) -> frozenset[str]:
        wanted = (study_uid, series_uid)
        return frozenset(
            str(one.SOPInstanceUID)
            for one in self.sent
            if (one.StudyInstanceUID, one.SeriesInstanceUID) == wanted
        )

    def store(self, instance: pydicom.Dataset) -> None:
        self.sent.append(instance)

    def write(self, folder: Path) -> None:
        folder.mkdir()
        for number, instance in enumerate(self.sent):
            instance.save_as(folder / f"{number}.dcm", enforce_file_format=True)


def test_pseudonyms_are_consistent(tmp_path: Path) -> None:
    for number, (study, patient, day) in enumerate(
        [("a", "P1", "20200110"), ("b", "P1", "20200131"), ("c", "P2", "20200110")]
    ):
        write_study(tmp_path / str(number), study, seed=number, PatientID=patient, StudyDate=day)

    def facts(secret: str) -> list[tuple[str, str, str, date]]:
        found = []
        for study in deidentified(open_input(tmp_path), Pseudonyms(secret)).studies:
            volume = study.volumes[0].read()
            assert volume.source is not None
            patient = volume.source.read_patient()
            day = date.fromisoformat(patient["StudyDate"])
            found.append((patient["PatientID"], study.study_uid, study.case_id, day))
        return sorted(found)

    ours, theirs = facts(SECRET), facts("t" * 40)
    assert facts(SECRET) == ours
    assert {patient for patient, *_ in ours}.isdisjoint(patient for patient, *_ in theirs)
    assert len({uid for _, uid, *_ in (*ours, *theirs)}) == 6
    assert len({case for _, _, case, _ in (*ours, *theirs)}) == 6
    by_patient: dict[str, list[date]] = {}
    for patient, _, _, study_day in ours:
        by_patient.setdefault(patient, []).append(study_day)
    assert sorted(map(len, by_patient.values())) == [1, 2]
    ((first, second),) = (sorted(days) for days in by_patient.values() if len(days) == 2)
    assert (second - first).days == 21  # as between the two studies of the patient
    assert second < date(2020, 1, 31)


def test_pixels_and_geometry_are_those_of_the_source(tmp_path: Path) -> None:
    write_study(tmp_path, "one")
    listing = open_input(tmp_path)
    (plain,) = listing.studies[0].volumes
    (hidden,) = deidentified(listing, Pseudonyms(SECRET)).studies[0].volumes
    one, other = plain.read(), hidden.read()
    np.testing.assert_array_equal(one.array, other.array)
    assert one.geometry.as_json() == other.geometry.as_json()
    assert hidden.id == other.id != plain.id


@pytest.mark.slow
def test_real_series_tell_nobody(shared_data: Path, tmp_path: Path, key: Path) -> None:
    words: set[str] = set()
    source = shared_data / "dicom" / "mr_oblique"
    for path in source.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for element in header.iterall():
            is_uid = element.VR == "UI" and not str(element.value).startswith("1.2.840.10008.")
            if is_uid or element.keyword in {"PatientName", "PatientID", "AccessionNumber"}:
                words.add(str(element.value))
    words = {word for word in words if len(word) > 6}  # shorter ones are in any file by chance
    assert len(words) > 10
    out = tmp_path / "out"
    done = _run("convert", source, "-o", out, "--deidentify", key)
    assert done.returncode < 2, done.stderr
    assert list(out.glob("*.nii.gz"))
    assert search(out, words) == []
    _assert_nobody_in(done.stderr + done.stdout, words)


def test_text_burnt_into_a_series_is_flagged(tmp_path: Path) -> None:
    def codes(folder: Path) -> set[str]:
        (study,) = deidentified(open_input(folder), Pseudonyms(SECRET)).studies
        return {flag.code for flag in study.volumes[0].read().flags}

    def write(folder: Path, *, text: bool, **tags: Any) -> Path:
        write_study(folder, "one", **tags)
        for path in folder.iterdir():
            instance = pydicom.dcmread(path)
            pixels = instance.pixel_array.copy()
            pixels[1:4, 2:10] = 4095 if text else pixels[1:4, 2:10]
            instance.PixelData = pixels.tobytes()
            instance.save_as(path)
        return folder

    assert "text-in-pixels-possible" in codes(write(tmp_path / "a", text=True))
    plain = codes(write(tmp_path / "b", text=False, BurnedInAnnotation="NO"))
    assert not {code for code in plain if "burned" in code or "text" in code}
    assert "burned-in-annotation" in codes(write(tmp_path / "c", text=False,
                                                 BurnedInAnnotation="YES"))  # fmt: skip
    captured = {"ImageType": ["DERIVED", "SECONDARY"]}
    assert "burned-in-annotation-possible" in codes(write(tmp_path / "d", text=False, **captured))
    assert "recognizable-features" in codes(write(tmp_path / "e", text=False,
                                                  RecognizableVisualFeatures="YES"))  # fmt: skip


def test_results_with_and_without_names_stay_apart(tmp_path: Path, bundle: Path, key: Path) -> None:
    source = write_study(tmp_path / "in", "one")
    other = tmp_path / "other.toml"
    other.write_text(f"secret = '{SECRET[::-1]}'\n", encoding="utf-8")
    other.chmod(0o600)
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    assert _run("convert", source, "-o", plain).returncode == 0
    assert _run("convert", source, "-o", hidden, "--deidentify", key).returncode == 0
    assert _run("convert", source, "-o", hidden, "--deidentify", key).returncode == 0
    for out, options, said in (
        (plain, ("--deidentify", key), "not de-identified"),
        (hidden, (), "give the same --deidentify"),
        (hidden, ("--deidentify", other), "another key file"),
    ):
        done = _run("convert", source, "-o", out, *options)
        assert done.returncode == 2
        assert said in done.stderr


def test_images_of_an_archive_are_kept_elsewhere(tmp_path: Path, key: Path) -> None:
    out = tmp_path / "out"
    for command, images in (
        (("predict", "dicomweb+http://localhost:9/?patient=1"), ()),
        (("watch", "http://localhost:9/"), ()),
        (("watch", "dimse://:0"), ("--images", out / "images")),
    ):
        done = _run(*command, "-o", out, "--deidentify", key, *images)
        assert done.returncode == 2
        assert "--images" in done.stderr
