"""Against a real Orthanc: what is asked for arrives, what is sent is there once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.web import DICOMwebClient

from medmtl.core.errors import MedmtlError
from medmtl.core.pseudonym import Pseudonyms
from medmtl.inference.batch import BatchOptions
from medmtl.inference.predictor import load_predictor
from medmtl.pacs.address import PacsAddress, PacsQuery
from medmtl.pacs.archive import Archive, InstanceRef
from medmtl.pacs.credentials import Credentials
from medmtl.pacs.errors import PacsError, PacsUnreachableError
from medmtl.pacs.push import push_files, result_files
from medmtl.pacs.retrieve import retrieve_study
from medmtl.pacs.retry import Retry
from pipelines.deidentify import as_wanted
from pipelines.pacs_source import open_archive_input
from pipelines.watch_rounds import Watcher, watch_archive, watch_folder
from tests.dicom_factory import uid_of
from tests.orthanc import PASSWORD, QUICK, USER, Orthanc, send
from tests.planted_study import SLICES, write_study

SECRETS = (USER, PASSWORD, "Planted", "PLANTED", str(uid_of("one")), str(uid_of("two")))


def _watcher(
    out: Path, bundle: Path, target: Archive | None = None
) -> AbstractContextManager[Watcher]:
    analyser = load_predictor(bundle, device="cpu", cam="none")
    return Watcher.open(
        out, analyser=analyser, options=BatchOptions(formats=("json", "seg", "sr")), target=target
    )


def _run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medmtl", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def _assert_nothing_told(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


def test_query_by_patient_study_series_date_and_modality(orthanc: Orthanc, tmp_path: Path) -> None:
    send(orthanc, write_study(tmp_path / "a", "one"))
    send(orthanc, write_study(tmp_path / "b", "two", PatientID="OTHER", StudyDate="20210304"))
    archive = orthanc.archive()
    one, two = str(uid_of("one")), str(uid_of("two"))

    def found(**query: object) -> set[str]:
        return {study.uid for study in archive.studies(PacsQuery(**query))}  # type: ignore[arg-type]

    assert found() == {one, two}
    assert found(patient="PLANTED-ID") == {one}
    assert found(patient="PLANTED-ID", date="20210304") == set()
    assert found(date="20210101-") == {two}
    assert found(date="20200101-20201231") == {one}
    assert found(studies=(one, two)) == {one, two}
    assert found(series=(str(uid_of("two", "two")),)) == {two}
    assert found(modality="CT") == {one, two}
    assert found(modality="MR") == set()
    assert [study.instances for study in archive.studies(PacsQuery(studies=(one,)))] == [SLICES]
    assert archive.images(one, PacsQuery(series=("1.2.3",))) == ()
    assert archive.images(one, PacsQuery(modality="MR")) == ()
    assert len(archive.images(one, PacsQuery(modality="CT"))) == SLICES


def test_what_was_retrieved_is_not_fetched_again(orthanc: Orthanc, tmp_path: Path) -> None:
    source = write_study(tmp_path / "in", "one")
    send(orthanc, source)
    archive = orthanc.archive()
    images = archive.images(str(uid_of("one")), PacsQuery())
    first = retrieve_study(archive, images, root=tmp_path / "images")
    assert (first.fetched, first.kept) == (SLICES, 0)
    files = sorted(first.folder.rglob("*.dcm"))
    pixels = {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, source.iterdir())}
    assert {d.SOPInstanceUID: d.PixelData for d in map(pydicom.dcmread, files)} == pixels

    for path in files[:3]:
        path.unlink()
    files[0].with_suffix(".part").write_bytes(b"half")  # what a kill leaves
    untouched = files[5].stat().st_mtime_ns
    second = retrieve_study(archive, images, root=tmp_path / "images")
    assert (second.fetched, second.kept) == (3, SLICES - 3)
    assert files[5].stat().st_mtime_ns == untouched
    assert sorted(path for path in first.folder.rglob("*") if path.is_file()) == files

    files[5].write_bytes(b"as it was before a correction")
    third = retrieve_study(archive, images, root=tmp_path / "images", anew=True)
    assert (third.fetched, third.kept) == (SLICES, 0)
    assert pydicom.dcmread(files[5]).SOPInstanceUID in pixels

    # An image that the archive has no longer is not analysed either.
    retrieve_study(archive, images[1:], root=tmp_path / "images")
    assert len(list(first.folder.rglob("*.dcm"))) == SLICES - 1


def test_retrieval_goes_on_after_the_archive_was_away(orthanc: Orthanc, tmp_path: Path) -> None:
    send(orthanc, write_study(tmp_path / "in", "one"))
    archive = orthanc.archive()
    images = archive.images(str(uid_of("one")), PacsQuery())
    retrieve_study(archive, images[:5], root=tmp_path / "images")
    orthanc.stop()
    with pytest.raises(PacsUnreachableError, match="cannot be reached") as caught:
        retrieve_study(archive, images, root=tmp_path / "images")
    _assert_nothing_told(str(caught.value))
    orthanc.start()
    done = retrieve_study(archive, images, root=tmp_path / "images")
    assert (done.fetched, done.kept) == (SLICES - 5, 5)


def test_a_study_that_cannot_be_had_is_named_and_the_others_go_on(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    send(orthanc, write_study(tmp_path / "a", "one"))
    send(orthanc, write_study(tmp_path / "b", "two", seed=1))
    one, two = str(uid_of("one")), str(uid_of("two"))
    damaged = _Damaged(orthanc.archive().client, QUICK, lost=one)
    address = PacsAddress(orthanc.url, PacsQuery(patient="PLANTED-ID"))
    _, listing = open_archive_input(damaged, address, root=tmp_path / "images")
    assert [study.study_uid for study in listing.studies] == [two]
    (refusal,) = listing.refusals
    assert (refusal.code, refusal.study_uid) == ("not-retrieved", one)
    _assert_nothing_told(refusal.source + refusal.found)

    _, listing = open_archive_input(orthanc.archive(), address, root=tmp_path / "images")
    assert {study.study_uid for study in listing.studies} == {one, two}
    assert listing.refusals == ()


@pytest.mark.parametrize("names", [None, Pseudonyms("a secret of at least 32 characters, truly")])
def test_a_study_without_images_any_more_is_asked_for_and_not_listed(
    orthanc: Orthanc, tmp_path: Path, names: Pseudonyms | None
) -> None:
    send(orthanc, write_study(tmp_path / "a", "one"))
    send(orthanc, write_study(tmp_path / "b", "two", seed=1))
    one, two = str(uid_of("one")), str(uid_of("two"))
    address = PacsAddress(orthanc.url, PacsQuery(patient="PLANTED-ID"))
    open_archive_input(orthanc.archive(), address, root=tmp_path / "images")
    empty = _Emptied(orthanc.archive().client, QUICK, lost=one)
    listing = as_wanted(open_archive_input(empty, address, root=tmp_path / "images")[1], names)
    if names is not None:
        one, two = names.uid(one), names.uid(two)
    assert [study.study_uid for study in listing.studies] == [two]
    assert listing.asked == frozenset({one, two})


class _Emptied(Archive):
    """An archive in which one study holds only a report by now."""

    def __init__(self, client: DICOMwebClient, retry: Retry, *, lost: str) -> None:
        super().__init__(client, retry)
        object.__setattr__(self, "lost", lost)

    def images(self, study_uid: str, query: PacsQuery) -> tuple[InstanceRef, ...]:
        return () if study_uid == vars(self)["lost"] else super().images(study_uid, query)


class _Damaged(Archive):
    """An archive that lists a study with one image that it does not have."""

    def __init__(self, client: DICOMwebClient, retry: Retry, *, lost: str) -> None:
        super().__init__(client, retry)
        object.__setattr__(self, "lost", lost)

    def images(self, study_uid: str, query: PacsQuery) -> tuple[InstanceRef, ...]:
        images = super().images(study_uid, query)
        if study_uid != vars(self)["lost"]:
            return images
        return (*images, InstanceRef(study_uid, images[0].series_uid, "1.2.3.4"))


def test_studies_without_images_are_said(orthanc: Orthanc, tmp_path: Path) -> None:
    send(orthanc, write_study(tmp_path / "a", "one"))
    for query, said in (
        (PacsQuery(series=("1.2.3",)), "No study of the archive matches"),
        (PacsQuery(studies=(str(uid_of("one")),), modality="MR"), "No study of the archive"),
    ):
        with pytest.raises(MedmtlError, match=said):
            open_archive_input(
                orthanc.archive(), PacsAddress(orthanc.url, query), root=tmp_path / "images"
            )


def test_credentials_are_needed_and_never_told(
    orthanc: Orthanc, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    secret = Credentials(USER, "wrong-secret")
    for archive in (orthanc.archive(credentials=None), orthanc.archive(credentials=secret)):
        with pytest.raises(PacsUnreachableError, match="HTTP 401") as caught:
            archive.studies(PacsQuery(patient="PLANTED-ID"))
        text = f"{caught.value}{caplog.text}{archive!r}{secret!r}"
        assert "wrong-secret" not in text
        _assert_nothing_told(text)


def test_an_address_that_is_no_dicomweb_service_is_said(orthanc: Orthanc) -> None:
    wrong = Archive.connect(
        orthanc.url.removesuffix("/dicom-web") + "/app",
        credentials=Credentials(USER, PASSWORD), retry=QUICK,
    )  # fmt: skip
    with pytest.raises(PacsError, match="Check that the address is the root"):
        wrong.studies(PacsQuery())


@pytest.mark.slow
def test_predict_from_and_push_to_the_archive(
    orthanc: Orthanc, tmp_path: Path, bundle: Path
) -> None:
    send(orthanc, write_study(tmp_path / "in", "one"))
    send(orthanc, write_study(tmp_path / "in2", "two", seed=1, PatientID="OTHER"))
    secrets = tmp_path / "pacs.toml"
    secrets.write_text(f'user = "{USER}"\npassword = "{PASSWORD}"\n', encoding="utf-8")
    secrets.chmod(0o600)
    out = tmp_path / "out"
    address = f"dicomweb+{orthanc.url}?study={uid_of('one')}"
    arguments = ("predict", address, "-o", out, "--model", bundle, "--cam", "none",
                 "--formats", "json,seg,sr", "--credentials", secrets)  # fmt: skip
    first = _run(*arguments)
    assert first.returncode == 0, first.stderr
    (case,) = [path for path in out.iterdir() if path.is_dir() and path.name != ".medmtl"]
    assert len(result_files(case)) == 2
    _assert_nothing_told(first.stderr + (out / "run.json").read_text() + first.stdout)

    before = orthanc.instances()
    environment = {"MEDMTL_PACS_USER": USER, "MEDMTL_PACS_PASSWORD": PASSWORD}
    pushed = _run("push", out, "--to", orthanc.url, **environment)
    assert pushed.returncode == 0, pushed.stderr
    assert "2 result(s) sent, 0 there before, 0 failed" in pushed.stderr
    again = _run("push", out, "--to", orthanc.url, **environment)
    assert "0 result(s) sent, 2 there before, 0 failed" in again.stderr
    _assert_nothing_told(pushed.stderr + again.stderr)
    now = orthanc.instances()
    assert len(now) == len(set(now)) == len(before) + 2
    for path in result_files(case):
        sent = pydicom.dcmread(path)
        ref = InstanceRef(sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
        assert orthanc.archive().retrieve(ref) == sent

    # Results in the study are no images: the same images are analysed, which was done before.
    case_json = (case / "case.json").stat().st_mtime_ns
    second = _run(*arguments)
    assert second.returncode == 0, second.stderr
    assert "0 image(s) retrieved, 12 there before" in " ".join(second.stderr.split())
    assert (case / "case.json").stat().st_mtime_ns == case_json


def test_an_archive_that_is_away_ends_push_with_status_2(tmp_path: Path, bundle: Path) -> None:
    out = tmp_path / "out"
    write_study(tmp_path / "in" / "study", "one")
    with _watcher(out, bundle) as watcher:
        watch_folder(watcher, tmp_path / "in", settle_s=0)()
    done = _run("push", out, "--to", "http://localhost:9/dicom-web")
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_watch_analyses_each_study_once_and_sends_it_back(
    orthanc: Orthanc, tmp_path: Path, bundle: Path
) -> None:
    out, archive = tmp_path / "out", orthanc.archive()
    send(orthanc, write_study(tmp_path / "a", "one"))
    with _watcher(out, bundle, archive) as watcher:
        look = watch_archive(watcher, archive, PacsQuery(), settle_s=0, forget_images=True)
        assert look() == 0
        assert len(orthanc.instances()) == SLICES + 2
        assert list((out / ".medmtl" / "images" / "studies").iterdir()) == []
        (first,) = out.glob("*/case.json")
        written = first.stat().st_mtime_ns
        assert look() == 0  # its own results are no arrival
        assert first.stat().st_mtime_ns == written
        send(orthanc, write_study(tmp_path / "b", "two", seed=1))

    # Another run of the program, and the archive goes away in the middle.
    with _watcher(out, bundle, archive) as watcher:
        look = watch_archive(watcher, archive, PacsQuery(), settle_s=0, forget_images=False)
        orthanc.stop()
        with pytest.raises(PacsError):
            look()
        orthanc.start()
        assert look() == 0
        assert look() == 0
    held = orthanc.instances()
    assert len(held) == len(set(held)) == 2 * (SLICES + 2)
    assert len(list(out.glob("*/case.json"))) == 2
    assert first.stat().st_mtime_ns == written
    _assert_nothing_told(
        (out / ".medmtl" / "watch.jsonl").read_text() + (out / "run.json").read_text()
    )


def test_results_wait_for_an_archive_that_is_away(
    orthanc: Orthanc, tmp_path: Path, bundle: Path
) -> None:
    out = tmp_path / "out"
    write_study(tmp_path / "in" / "study", "one")
    orthanc.stop()
    with _watcher(out, bundle, orthanc.archive()) as watcher, pytest.raises(PacsError):
        watch_folder(watcher, tmp_path / "in", settle_s=0)()
    orthanc.start()
    with _watcher(out, bundle, orthanc.archive()) as watcher:
        assert watch_folder(watcher, tmp_path / "in", settle_s=0)() == 0
    assert len(orthanc.instances()) == 2


def test_a_study_that_still_grows_is_left_alone(
    orthanc: Orthanc, tmp_path: Path, bundle: Path
) -> None:
    files = sorted(write_study(tmp_path / "a", "one").iterdir())
    for path in files[6:]:
        path.rename(tmp_path / path.name)
    send(orthanc, tmp_path / "a")
    archive, out = orthanc.archive(), tmp_path / "out"
    with _watcher(out, bundle) as watcher:
        look = watch_archive(watcher, archive, PacsQuery(), settle_s=3600, forget_images=False)
        assert look() == 0
        assert list(out.glob("*/case.json")) == []
        for path in files[6:]:
            (tmp_path / path.name).rename(path)
        send(orthanc, tmp_path / "a")
        look()
        look = watch_archive(watcher, archive, PacsQuery(), settle_s=0, forget_images=False)
        assert look() == 0
    assert len(list(out.glob("*/case.json"))) == 1
    assert len(list((out / ".medmtl" / "images").rglob("*.dcm"))) == SLICES


def test_pushing_what_the_archive_holds_sends_nothing(orthanc: Orthanc, tmp_path: Path) -> None:
    files = sorted(write_study(tmp_path / "a", "one").iterdir())
    archive = orthanc.archive()
    assert [o.status for o in push_files(archive, files, root=tmp_path)] == ["sent"] * SLICES
    assert [o.status for o in push_files(archive, files, root=tmp_path)] == ["present"] * SLICES
    assert len(orthanc.instances()) == SLICES


def test_a_killed_watcher_goes_on_where_it_was(
    orthanc: Orthanc, tmp_path: Path, bundle: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(3):
        write_study(folder / f"s{number}", f"study{number}", seed=number)
    arguments = [
        sys.executable, "-m", "medmtl", "watch", str(folder), "-o", str(out), "--settle", "0",
        "--model", str(bundle), "--formats", "json,seg,sr", "--push", orthanc.url,
    ]  # fmt: skip
    environment = {
        **os.environ, "MEDMTL_PACS_USER": USER, "MEDMTL_PACS_PASSWORD": PASSWORD,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 200
        while not list(out.glob("*/case.json")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
    early = {path: path.stat().st_mtime_ns for path in out.glob("*/case.json")}
    assert early
    again = subprocess.run(
        [*arguments, "--once"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert len(list(out.glob("*/case.json"))) == 3
    assert {path: path.stat().st_mtime_ns for path in early} == early
    held = orthanc.instances()
    assert len(held) == len(set(held)) == 6
    _assert_nothing_told(again.stderr)
