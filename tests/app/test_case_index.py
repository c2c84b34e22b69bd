"""The index of finished cases: complete, incremental, and closed to names from outside."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from app.services.case_index import CaseIndex
from app.services.result_folders import find_places
from app.services.review_log import CaseRef
from app.services.worklist import worklist_frame
from tests.app.results import SHA256, case_record, finding, write_case, write_results

if TYPE_CHECKING:
    from pathlib import Path


def _cache(folder: Path) -> Path:
    return folder / ".medmtl" / "viewer.json"


def test_one_result_folder_and_a_folder_of_them_show_the_same_case(tmp_path: Path) -> None:
    one = write_results(tmp_path / "results" / "one", case_record("a", finding("nodule", 0.9)))
    write_results(tmp_path / "results" / "two", case_record("a", finding("nodule", 0.1)))
    assert list(CaseIndex(one).snapshot().rows) == ["a"]
    snapshot = CaseIndex(tmp_path).snapshot()
    assert list(snapshot.rows) == ["results/one/a", "results/two/a"]
    assert snapshot.folder("results/two/a") == tmp_path / "results" / "two" / "a"


def _nifti(case_id: str, fingerprint: str) -> dict[str, Any]:
    record = case_record(case_id, finding("nodule", 0.9), resume={"source": fingerprint})
    record["source"] |= {"kind": "nifti", "study_uid": ""}
    return record


def test_a_case_is_known_again_wherever_its_results_lie_and_by_its_image_only(
    tmp_path: Path,
) -> None:
    """`brain` here and `brain` there are two images; `heart` was moved to another folder."""
    write_results(tmp_path / "a", _nifti("brain", "1" * 64), _nifti("heart", "3" * 64))
    write_results(tmp_path / "b", _nifti("brain", "2" * 64))
    write_results(tmp_path / "c" / "old", _nifti("heart", "3" * 64))
    first, second, third = (CaseIndex(tmp_path / name).snapshot() for name in "abc")
    here, there = (one.placed(CaseRef("", "brain", SHA256)) for one in (first, second))
    assert here is not None
    assert there is not None
    assert here.identity != there.identity
    assert second.placed(here) is None
    assert second.placed(there) == there
    moved = third.placed(CaseRef("", "heart", SHA256, first.rows["heart"].identity))
    assert moved is not None
    assert moved.key == "old/heart"


@pytest.mark.parametrize("key", ["../a", "a/../../a", "/etc", "", "b"])
def test_a_name_that_is_no_case_is_no_place(tmp_path: Path, key: str) -> None:
    write_results(tmp_path, case_record("a"))
    with pytest.raises(KeyError):
        CaseIndex(tmp_path).snapshot().folder(key)


def test_a_look_again_reads_only_what_changed(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a", finding("nodule", 0.9)), case_record("b"))
    index = CaseIndex(tmp_path)
    before = index.snapshot()
    assert index.snapshot(fresh=True) is before
    write_case(tmp_path, case_record("a", finding("nodule", 0.25)))
    write_case(tmp_path, case_record("c"))
    after = index.snapshot(fresh=True)
    assert after.number == before.number + 1
    assert list(after.rows) == ["a", "b", "c"]
    assert after.rows["a"].findings[0].probability == 0.25
    assert after.rows["b"] is before.rows["b"]


def test_a_removed_case_goes(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a"), case_record("b"))
    index = CaseIndex(tmp_path)
    index.snapshot()
    (tmp_path / "b" / "case.json").unlink()
    assert list(index.snapshot(fresh=True).rows) == ["a"]


def test_a_second_start_reads_the_kept_lines(tmp_path: Path) -> None:
    record = case_record(
        "a", finding("nodule", 0.9, uncertainty={"std": 0.1}, abstains=True), flags={"x": "warning"}
    )
    write_results(tmp_path, record)
    first = CaseIndex(tmp_path).snapshot().rows
    assert CaseIndex(tmp_path).snapshot().rows == first
    kept = json.loads(_cache(tmp_path).read_bytes())
    kept["cases"]["a"][1][1] = "another model"
    _cache(tmp_path).write_text(json.dumps(kept), encoding="utf-8")
    assert CaseIndex(tmp_path).snapshot().rows["a"].model == "another model"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1, "has_dates": false}'])
def test_a_damaged_cache_is_read_past(tmp_path: Path, content: str) -> None:
    write_results(tmp_path, case_record("a"))
    first = CaseIndex(tmp_path).snapshot().rows
    _cache(tmp_path).write_text(content, encoding="utf-8")
    assert CaseIndex(tmp_path).snapshot().rows == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": "done"}', '{"status": "failed"}'])
def test_a_damaged_case_is_named_and_left_out(tmp_path: Path, content: str) -> None:
    write_results(tmp_path, case_record("a"), case_record("b"))
    (tmp_path / "b" / "case.json").write_text(content, encoding="utf-8")
    snapshot = CaseIndex(tmp_path).snapshot()
    assert list(snapshot.rows) == ["a"]
    assert snapshot.damaged == ("b",)


@pytest.mark.parametrize(
    "record",
    [
        case_record("b", finding("x", 0.9, uncertainty={"std": "wide"})),
        case_record("b", finding("x", 0.9) | {"name": None}),
        case_record("b", finding("x", 0.9) | {"probability": 10**400}),
        case_record("b", flags={"odd": "critical"}),
        case_record("b", model={"name": None, "version": "1", "sha256": "0"}),
    ],
)
def test_an_odd_value_in_one_case_leaves_the_worklist_standing(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    write_results(tmp_path, case_record("a", finding("x", 0.2)), record)
    snapshot = CaseIndex(tmp_path).snapshot()
    assert list(worklist_frame(snapshot.rows.values()).index) == ["a"]
    assert snapshot.damaged == ("b",)


def test_a_folder_that_cannot_be_written_is_still_read(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a"))
    (tmp_path / ".medmtl").write_text("a file in the place of the folder", encoding="utf-8")
    assert list(CaseIndex(tmp_path).snapshot().rows) == ["a"]


def test_evaluations_manifests_and_links_are_no_result_folders(tmp_path: Path) -> None:
    write_results(tmp_path / "results", case_record("a"))
    for name, mark in (("evaluation", "metrics.json"), ("manifest", "manifest.toml")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cases.csv").touch()
        (tmp_path / name / mark).touch()
    (tmp_path / "link").symlink_to(tmp_path / "results")
    assert list(find_places(tmp_path).results) == ["results"]


def test_an_empty_folder_has_no_case(tmp_path: Path) -> None:
    assert CaseIndex(tmp_path).snapshot().rows == {}


def test_a_new_case_is_seen_at_once_and_an_old_list_is_looked_at_behind(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a"))
    index = CaseIndex(tmp_path, max_age_s=0.0)
    index.snapshot()
    write_results(tmp_path, case_record("b"))
    assert set(index.snapshot().rows) == {"a", "b"}
    record = case_record("a", model={"name": "another", "version": "1", "sha256": "1" * 64})
    write_results(tmp_path, record)  # within its folder: no folder of cases has changed
    deadline = time.monotonic() + 10
    while index.snapshot().rows["a"].model != "another":
        assert time.monotonic() < deadline
        time.sleep(0.01)
