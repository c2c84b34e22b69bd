"""Studies of one patient stand together, those of two never do, and nothing of it is written."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import pydicom
import pytest
from pydicom.uid import generate_uid
from streamlit.testing.v1 import AppTest

from app.resources import case_index, patients
from app.scene_of_case import do_meet
from app.services.case_index import CaseIndex
from app.services.patients import OtherStudy, PatientIndex
from app.settings import Settings
from medmtl.core.geometry import Geometry
from medmtl.inference.case_store import CaseStore
from medmtl.inference.write_case import write_case
from tests.app.test_case_page import _page, _scene
from tests.dicom_results import answer, read_source, write_source

if TYPE_CHECKING:
    from pathlib import Path

    from app.services.case_index import Snapshot

PATIENT = {"PatientName": "Roe^Jane", "PatientID": "ID-4711", "PatientBirthDate": "19700131"}


def write_study(folder: Path, name: str, **header: Any) -> str:
    """A study below `folder/in`, its answer below `folder/out`; its case id."""
    write_source(folder / "in" / name, "axial")
    study_uid, series_uid = generate_uid(), generate_uid()
    for path in (folder / "in" / name).iterdir():
        image = pydicom.dcmread(path)
        image.StudyInstanceUID, image.SeriesInstanceUID = study_uid, series_uid
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        for keyword, value in (PATIENT | header).items():
            setattr(image, keyword, value)
        image.save_as(path)
    study, volume = read_source(folder / "in" / name)
    CaseStore.open(folder / "out", input_path=folder / "in" / name)
    write_case(folder / "out" / study.case_id, study, answer(volume), formats=("nifti",),
               resume={}, read_s=0.0)  # fmt: skip
    return study.case_id


def _index(folder: Path) -> tuple[PatientIndex, Snapshot]:
    index, snapshot = PatientIndex(()), CaseIndex(folder / "out").snapshot()
    assert index.look(snapshot, wait_s=60)
    return index, snapshot


def _others(folder: Path, case_id: str) -> list[OtherStudy]:
    index, snapshot = _index(folder)
    return list(index.others(snapshot.rows[case_id], snapshot))


def test_the_nearest_earlier_study_of_the_patient_comes_first(tmp_path: Path) -> None:
    dates = {"now": "20240301", "last": "20240131", "first": "20230301", "later": "20240302"}
    ids = {name: write_study(tmp_path, name, StudyDate=day) for name, day in dates.items()}
    write_study(tmp_path, "somebody", PatientID="ID-4712")
    found = _others(tmp_path, ids["now"])
    assert [(one.key, one.days) for one in found] == [
        (ids["last"], -30), (ids["first"], -366), (ids["later"], 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [{"PatientID": "ID-4712"}, {"PatientName": "Roe^John"}, {"PatientBirthDate": "19700201"},
     {"IssuerOfPatientID": "another hospital"}],
)  # fmt: skip
def test_one_fact_that_differs_is_another_patient(tmp_path: Path, other: dict[str, str]) -> None:
    mine = write_study(tmp_path, "a")
    write_study(tmp_path, "b", **other)
    assert _others(tmp_path, mine) == []


@pytest.mark.parametrize("number", ["", "ANONYMOUS", "anon_01", "0000", "unknown", "xxx", "N/A"])
def test_a_number_that_stands_for_nobody_joins_nobody(tmp_path: Path, number: str) -> None:
    mine = write_study(tmp_path, "a", PatientID=number)
    write_study(tmp_path, "b", PatientID=number)
    assert _others(tmp_path, mine) == []


@pytest.mark.parametrize(
    ("name", "birth_date", "are_joined"),
    [("", "", False), ("^^", "", False), ("Roe^Jane", "", True), ("", "19700131", True)],
)
def test_a_number_alone_joins_nobody(
    tmp_path: Path, name: str, birth_date: str, *, are_joined: bool
) -> None:
    facts = {"PatientID": "12", "PatientName": name, "PatientBirthDate": birth_date}
    mine, other = (write_study(tmp_path, place, **facts) for place in "ab")
    assert [one.key for one in _others(tmp_path, mine)] == ([other] if are_joined else [])


def test_a_study_without_its_images_stands_alone(tmp_path: Path) -> None:
    mine = write_study(tmp_path, "a")
    write_study(tmp_path, "b")
    for path in (tmp_path / "in" / "b").iterdir():
        path.unlink()
    assert _others(tmp_path, mine) == []


def test_no_identity_and_no_key_of_one_is_written_or_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    mine = write_study(tmp_path, "a")
    write_study(tmp_path, "b")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    first, second = (_index(tmp_path)[0] for _ in range(2))
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    new = set(after) - set(before)
    assert {path.name for path in new} <= {"viewer.json"}
    kept = [path.read_bytes() for path in (tmp_path / "out").rglob("*.json")]
    hashes = {one._seen[mine].patient for one in (first, second)}
    assert None not in hashes
    assert len(hashes) == 2  # another start, another key
    for held in (*PATIENT.values(), *(found.hex() for found in hashes if found)):
        assert not any(held.encode() in content for content in kept)
        assert held not in caplog.text
        assert held not in repr(first)


def _page_of(case_id: str, *, is_blind: bool = False, **parameters: str) -> AppTest:
    """The page, once the headers have been looked at."""
    settings = Settings.from_json(os.environ["MEDMTL_VIEW"])
    assert patients(settings).look(case_index(settings).snapshot(), wait_s=60)
    app = AppTest.from_function(_page, default_timeout=60)
    app.session_state["is_blind"] = is_blind
    app.query_params.update({"case": case_id} | parameters)
    app.run()
    assert not app.exception
    return app


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The case ids of a study and of an earlier one, beside a study of somebody else."""
    ids = [write_study(tmp_path, day, StudyDate=day) for day in ("20240301", "20230301")]
    write_study(tmp_path, "stranger", PatientID="ID-1")
    url = f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}"
    settings = Settings(folder=tmp_path / "out", results=tmp_path / "none", reviews=url)
    monkeypatch.setenv("MEDMTL_VIEW", settings.as_json())
    return ids[0], ids[1]


def test_an_earlier_study_is_offered_and_stands_beside_the_case(two: tuple[str, str]) -> None:
    now, earlier = two
    app = _page_of(now)
    (choice,) = (one for one in app.selectbox if one.label == "Another study of the patient")
    assert choice.options == [f"earlier · CT · {earlier}"]  # no date: it was not allowed
    assert len(_scene(app)["volumes"]) == 1
    choice.set_value(earlier).run()
    scene = _scene(app)
    assert [one["id"].startswith("beside-") for one in scene["volumes"]] == [False, True]
    assert (scene["layout"], scene["is_linked"]) == ("side_by_side", True)
    assert scene["case_id"] != now  # so the crosshair goes to one point in both
    assert scene["volumes"][1]["labels_url"]
    assert scene["volumes"][1]["save_url"] is None  # nobody paints on it
    assert app.query_params["beside"] == earlier
    choice.set_value(None).run()
    assert _scene(app)["layout"] != "side_by_side"


def test_a_link_reopens_the_study_beside_and_no_other_patient(
    two: tuple[str, str], tmp_path: Path
) -> None:
    names = {path.parent.name for path in (tmp_path / "out").glob("*/case.json")}
    (stranger,) = names - set(two)
    assert len(_scene(_page_of(two[0], beside=two[1]))["volumes"]) == 2
    assert len(_scene(_page_of(two[0], beside=stranger))["volumes"]) == 1


def test_a_blind_reader_sees_no_mask_of_the_study_beside(two: tuple[str, str]) -> None:
    app = _page_of(two[0], is_blind=True, beside=two[1])
    assert [one["labels_url"] for one in _scene(app)["volumes"]] == [None, None]


def test_a_study_beside_whose_images_are_gone_leaves_the_case_alone(
    two: tuple[str, str], tmp_path: Path
) -> None:
    app = _page_of(two[0], beside=two[1])
    for path in (tmp_path / "in" / "20230301").iterdir():
        path.unlink()
    app.run()
    assert "other study cannot be shown" in app.warning[0].value
    assert len(_scene(app)["volumes"]) == 1


@pytest.mark.parametrize(("shift_mm", "expected"), [(0, True), (9.9, True), (10.1, False)])
def test_grids_meet_where_they_have_a_place_in_common(shift_mm: float, expected: bool) -> None:
    def cube(origin: float) -> Geometry:
        return Geometry.from_parts(
            shape=(10, 10, 10), spacing_mm=(1.0, 1.0, 1.0), origin_lps=(origin, 0.0, 0.0)
        )

    assert do_meet(cube(0.0), cube(shift_mm)) is expected
    assert do_meet(cube(shift_mm), cube(0.0)) is expected
