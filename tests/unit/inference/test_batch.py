"""A batch: whole cases, one bad case alone, resume, and a constant number of cases in memory."""

from __future__ import annotations

import csv
import json
import os
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch

from medmtl.core.errors import InputRefusedError, OutputError
from medmtl.core.study import Listing, Refusal, Study, VolumeRef
from medmtl.inference.batch import BatchOptions, CaseOutcome, run_batch
from medmtl.inference.case_store import CaseStore
from tests.threshold_batch import ThresholdAnalyser, list_studies, write_studies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.core.volume import Volume


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_studies(tmp_path / "in", 4)
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _run(
    source: Path, out: Path, analyser: ThresholdAnalyser | None = None, **options: Any
) -> dict[str, CaseOutcome]:
    outcomes = run_batch(
        list_studies(source),
        analyser or ThresholdAnalyser(),
        out=out,
        input_path=source,
        options=BatchOptions(**options),
    )
    return {outcome.case_id: outcome for outcome in outcomes}


def _statuses(outcomes: dict[str, CaseOutcome]) -> list[str]:
    return [outcome.status for outcome in outcomes.values()]


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_study_becomes_a_whole_folder(source: Path, out: Path) -> None:
    outcomes = _run(source, out)
    assert _statuses(outcomes) == ["done"] * 4
    for case_id in outcomes:
        record = json.loads((out / case_id / "case.json").read_text())
        assert record["status"] == "done"
        files = {p.name for p in (out / case_id / "image").iterdir()}
        assert files == {"segmentation.nii.gz", "cam_large_block.nii.gz", "preview.png"}
        assert set(record["timings_s"]) == {
            "read", "preprocess", "network", "postprocess", "write", "total",
        }  # fmt: skip
    assert [row["case_id"] for row in _table(out / "cases.csv")] == sorted(outcomes)
    assert _table(out / "failures.csv") == []
    run = json.loads((out / "run.json").read_text())
    assert run["counts"] == {"cases": 4, "failed": 0, "failures": 0}
    assert run["this_run"]["cases"] == {"done": 4, "resumed": 0, "failed": 0}


def test_the_mask_lies_on_the_source_grid(source: Path, out: Path) -> None:
    _run(source, out)
    image = nib.load(source / "case03.nii")
    mask = nib.load(out / "case03" / "image" / "segmentation.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.asarray(image.dataobj) > 100)


def test_only_the_formats_asked_for_are_written_and_case_json_always(
    source: Path, out: Path
) -> None:
    _run(source, out, formats=("png",))
    assert {p.name for p in (out / "case00").rglob("*")} == {"image", "case.json", "preview.png"}


def test_a_finished_case_is_not_computed_again(source: Path, out: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    _run(source, out, ThresholdAnalyser(log=log))
    before = {p: p.read_bytes() for p in out.glob("case*/**/*") if p.is_file()}
    assert _statuses(_run(source, out, ThresholdAnalyser(log=log))) == ["resumed"] * 4
    assert len(log.read_text().split()) == 4
    assert before == {p: p.read_bytes() for p in out.glob("case*/**/*") if p.is_file()}


def test_another_setting_computes_anew_and_replaces(source: Path, out: Path) -> None:
    _run(source, out)
    assert _statuses(_run(source, out, ThresholdAnalyser(threshold=500))) == ["done"] * 4
    assert json.loads((out / "case00/case.json").read_text())["segments"][0]["voxels"] == 0


def test_restart_computes_everything_anew(source: Path, out: Path) -> None:
    _run(source, out)
    assert _statuses(_run(source, out, restart=True)) == ["done"] * 4


@pytest.mark.parametrize("damage", ["input", "content", "record", "file", "cut"])
def test_only_what_is_damaged_or_changed_is_computed_again(
    source: Path, out: Path, damage: str
) -> None:
    _run(source, out)
    case = out / "case02"
    if damage == "input":
        os.utime(source / "case02.nii", ns=(1, 1))
    elif damage == "content":  # of the same size, with the same time, as from an archive
        path = source / "case02.nii"
        at, content = path.stat().st_mtime_ns, path.read_bytes()
        path.write_bytes(content[:3000] + b"1234" + content[3004:])
        os.utime(path, ns=(at, at))
    elif damage == "record":
        (case / "case.json").write_text('{"status": "done"')
    elif damage == "file":
        (case / "image" / "preview.png").unlink()
    else:
        (case / "image" / "segmentation.nii.gz").write_bytes(b"cut")
    outcomes = _run(source, out)
    assert [name for name, o in outcomes.items() if o.status == "done"] == ["case02"]
    assert (case / "image" / "preview.png").stat().st_size > 100


class OutOfMemoryError(RuntimeError):
    """Named like torch's, which this layer must know without importing torch."""


BAD = {
    "case00": (MemoryError(), "out-of-memory"),
    "case01": (RuntimeError("PatientName is DOE^JOHN"), "unexpected-error"),
    "case02": (
        InputRefusedError(
            "image", stage="preprocess", code="too-small", found="2 slices", expected="4",
            advice="Export more.",
        ),
        "too-small",
    ),
    "case03": (OutOfMemoryError("CUDA"), "out-of-memory"),
}  # fmt: skip


@pytest.mark.parametrize("case_id", BAD)
def test_one_bad_case_is_named_and_never_stops_the_others(
    source: Path, out: Path, case_id: str
) -> None:
    error, code = BAD[case_id]
    outcomes = _run(source, out, ThresholdAnalyser(broken={case_id: error}))
    assert outcomes.pop(case_id).status == "failed"
    assert _statuses(outcomes) == ["done"] * 3
    assert not (out / case_id).exists()
    (row,) = _table(out / "failures.csv")
    assert (row["case_id"], row["code"]) == (case_id, code)
    assert all(row[column] for column in ("what", "stage", "reason", "advice"))
    statuses = {r["case_id"]: r["status"] for r in _table(out / "cases.csv")}
    assert [name for name, status in statuses.items() if status == "failed"] == [case_id]


def test_what_an_unexpected_error_says_is_never_written(
    source: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _run(source, out, ThresholdAnalyser(broken={"case01": BAD["case01"][0]}))
    assert "DOE" not in caplog.text
    for path in out.rglob("*"):
        assert not path.is_file() or b"DOE" not in path.read_bytes(), path


def test_a_failed_case_is_tried_again_and_its_row_goes_when_it_succeeds(
    source: Path, out: Path
) -> None:
    broken = ThresholdAnalyser(broken={"case01": MemoryError()})
    for _ in range(2):
        assert _run(source, out, broken)["case01"].status == "failed"
    assert len(_table(out / "failures.csv")) == 1
    assert _run(source, out)["case01"].status == "done"
    assert _table(out / "failures.csv") == []


def test_a_volume_that_cannot_be_decoded_fails_its_case_only(source: Path, out: Path) -> None:
    (source / "case02.nii").write_bytes((source / "case02.nii").read_bytes()[:400])
    outcomes = _run(source, out)
    assert [o.status for o in outcomes.values()] == ["done", "done", "failed", "done"]
    assert _table(out / "failures.csv")[0]["stage"] == "read"


def test_a_study_that_fits_no_model_says_why(source: Path, out: Path) -> None:
    (source / "case01.nii").rename(source / "unfit.nii")
    failure = _run(source, out)["unfit"].failure
    assert failure is not None
    assert failure.reason == "wrong-modality: found XR, expected CT"


def test_refusals_of_the_listing_are_in_the_table_until_the_input_is_mended(
    source: Path, out: Path
) -> None:
    (source / "junk.nii").write_bytes(b"junk")
    for _ in range(2):
        _run(source, out)
        assert [row["what"] for row in _table(out / "failures.csv")] == ["junk.nii"]
    (source / "junk.nii").unlink()
    _run(source, out)
    assert _table(out / "failures.csv") == []


def test_a_failure_goes_with_its_study_and_others_stay(
    source: Path, out: Path, tmp_path: Path
) -> None:
    broken = ThresholdAnalyser(broken={"case01": MemoryError(), "case02": MemoryError()})
    _run(source, out, broken)
    (source / "case01.nii").unlink()
    _run(source, out, broken)
    assert [row["case_id"] for row in _table(out / "failures.csv")] == ["case02"]
    write_studies(tmp_path / "other", 1)
    _run(tmp_path / "other", out)
    assert [row["case_id"] for row in _table(out / "failures.csv")] == ["case02"]


def test_the_refusals_of_another_input_stay(source: Path, out: Path, tmp_path: Path) -> None:
    (source / "junk.nii").write_bytes(b"junk")
    _run(source, out)
    write_studies(tmp_path / "other", 1)
    _run(tmp_path / "other", out)
    assert len(_table(out / "failures.csv")) == 1


def test_what_is_known_of_other_studies_of_an_archive_stays(source: Path, out: Path) -> None:
    listing = list_studies(source)
    studies = [
        replace(one, study_uid=f"2.25.{number}") for number, one in enumerate(listing.studies)
    ]
    refusal = Refusal("series a1", "scan", "gap", "3 mm", "1 mm", "Send it.", study_uid="2.25.1")
    broken = ThresholdAnalyser(broken={"case00": MemoryError()})

    def ask(first: int, last: int, *refusals: Refusal) -> list[str]:
        found = _asked([f"2.25.{number}" for number in range(first, last)], studies, refusals)
        list(run_batch(found, broken, out=out, input_path=source))
        return [row["what"] for row in _table(out / "failures.csv")]

    assert ask(0, 2, refusal) == ["series a1", "case00"]
    assert ask(2, 4) == ["series a1", "case00"]
    assert ask(1, 2) == ["case00"]


def _asked(
    uids: Sequence[str], studies: Sequence[Study], refusals: tuple[Refusal, ...] = ()
) -> Listing:
    found = tuple(study for study in studies if study.study_uid in uids)
    return Listing(found, refusals, asked=frozenset(uids))


@pytest.mark.parametrize("before", ["refusal", "failure"])
@pytest.mark.parametrize("now", ["refusal", "nothing"])
def test_a_study_of_an_archive_has_the_rows_of_what_it_gives_now(
    source: Path, out: Path, before: str, now: str
) -> None:
    study = replace(list_studies(source).studies[0], study_uid="2.25.1")
    refusal = Refusal("series a1", "scan", "gap", "3 mm", "1 mm", "Send it.", study_uid="2.25.1")
    broken = ThresholdAnalyser(broken={"case00": MemoryError()})

    def ask(studies: list[Study], *refusals: Refusal) -> list[str]:
        listing = _asked(["2.25.1"], studies, refusals)
        list(run_batch(listing, broken, out=out, input_path=source))
        return [row["what"] for row in _table(out / "failures.csv")]

    if before == "refusal":
        assert ask([], replace(refusal, source="series b2")) == ["series b2"]
    else:
        assert ask([study]) == ["case00"]
    assert ask([], *[refusal] * (now == "refusal")) == ["series a1"] * (now == "refusal")


@pytest.mark.parametrize("name", ["../evil", "run.json", ".medmtl", "", "a\nb", "a/b", "case01"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(source: Path, out: Path, name: str) -> None:
    listing = list_studies(source)
    studies = (*listing.studies, replace(listing.studies[0], case_id=name))
    outcomes = list(
        run_batch(
            Listing(studies), ThresholdAnalyser(), out=out, input_path=source,
        )
    )  # fmt: skip
    assert sorted(o.status for o in outcomes) == ["done"] * 4 + ["failed"]
    assert {p.name for p in out.iterdir()} == {
        ".medmtl", "cases.csv", "failures.csv", "run.json", *(f"case0{n}" for n in range(4)),
    }  # fmt: skip
    assert sorted(p.name for p in out.parent.iterdir()) == ["in", "out"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written: Not a directory"):
        _run(source, tmp_path / "file" / "out")


def test_stopping_early_leaves_no_lock_and_no_part(source: Path, out: Path) -> None:
    analysed: list[str] = []

    class Noted(ThresholdAnalyser):
        def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
            analysed.append(study.case_id)
            return super().analyse(study, volumes)

    outcomes = run_batch(list_studies(source), Noted(), out=out, input_path=source)
    next(iter(outcomes))
    outcomes.close()  # type: ignore[attr-defined]
    assert list((out / ".medmtl" / "locks").iterdir()) == []
    assert list((out / ".medmtl" / "partial").iterdir()) == []
    # what was analysed when the run was left has been written, too
    again = _run(source, out)
    assert {name for name, one in again.items() if one.status == "resumed"} == set(analysed)


def test_what_a_dead_run_left_half_done_is_cleared(source: Path, out: Path) -> None:
    for area in ("partial", "replaced"):
        (out / ".medmtl" / area / "gone" / "image").mkdir(parents=True)
    _run(source, out)
    for area in ("partial", "replaced", "locks"):
        assert list((out / ".medmtl" / area).iterdir()) == []


class _Watched(ThresholdAnalyser):
    """Counts the volumes alive while the network works, and meets the reader half way."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Volume] = weakref.WeakSet()
        self.most_alive = 0
        self.reads: list[str] = []
        self.next_read = threading.Semaphore(0)

    def select(self, study: Study) -> Sequence[VolumeRef]:
        (ref,) = study.volumes

        def decode(_: VolumeRef) -> Volume:
            volume = ref.read()
            self.alive.add(volume)
            self.reads.append(study.case_id)
            self.next_read.release()
            return volume

        return (replace(ref, decode=decode),)

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        self.next_read.acquire()  # its own read
        is_last = study.case_id == "case09"
        # The next case is read while this one is at work, or this waits in vain.
        assert is_last or self.next_read.acquire(timeout=10)
        if not is_last:
            self.next_read.release()
        self.most_alive = max(self.most_alive, len(self.alive))
        return super().analyse(study, volumes)


def test_the_next_study_is_read_meanwhile_and_no_more_than_three_are_kept(
    tmp_path: Path, out: Path
) -> None:
    write_studies(tmp_path / "ten", 10)
    analyser = _Watched()
    assert _statuses(_run(tmp_path / "ten", out, analyser)) == ["done"] * 10
    assert analyser.most_alive <= 3
    assert len(analyser.alive) == 0
    assert analyser.reads == [f"case{n:02d}" for n in range(10)]


class _Meeting(ThresholdAnalyser):
    """Two cases are in its network at once, or it waits in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.meeting = threading.Barrier(2, timeout=10)

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        self.meeting.wait()
        return super().analyse(study, volumes)


def test_two_networks_work_side_by_side_where_that_is_asked_for(source: Path, out: Path) -> None:
    outcomes = _run(source, out, _Meeting(), networks=2)
    assert list(outcomes.items()) == sorted(outcomes.items())
    assert _statuses(outcomes) == ["done"] * 4


class _Alone(ThresholdAnalyser):
    """No two cases are in its network at once."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Lock()

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        assert self.turn.acquire(blocking=False)
        try:
            return super().analyse(study, volumes)
        finally:
            self.turn.release()


def test_reading_has_all_cores_whatever_another_thread_took(source: Path, out: Path) -> None:
    seen: list[int] = []

    class Counting(ThresholdAnalyser):
        def select(self, study: Study) -> Sequence[VolumeRef]:
            seen.append(torch.get_num_threads())
            return super().select(study)

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        other = threading.Thread(target=torch.set_num_threads, args=(1,))
        other.start()
        other.join()  # from now on a new thread begins with one
        _run(source, out, Counting(), networks=2)
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {4}


@pytest.mark.parametrize(("studies", "networks"), [(6, 1), (3, 2)])
def test_a_network_works_alone_on_a_gpu_and_in_a_small_batch(
    tmp_path: Path, out: Path, studies: int, networks: int
) -> None:
    write_studies(tmp_path / "some", studies)
    outcomes = _run(tmp_path / "some", out, _Alone(), networks=networks)
    assert _statuses(outcomes) == ["done"] * studies


class _SlowDisk(ThresholdAnalyser):
    """Lets no case be written before the network has begun with the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = {f"case{number:02d}": threading.Event() for number in range(4)}

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        self.begun[study.case_id].set()
        return super().analyse(study, volumes)


def test_a_study_is_written_while_the_network_works_on_the_next_one(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyser = _SlowDisk()
    publish = CaseStore.publish

    def late(store: CaseStore, case_id: str, folder: Path | None = None) -> None:
        following = f"case{int(case_id[-2:]) + 1:02d}"
        assert following not in analyser.begun or analyser.begun[following].wait(timeout=10)
        publish(store, case_id, folder)

    monkeypatch.setattr(CaseStore, "publish", late)
    assert _statuses(_run(source, out, analyser)) == ["done"] * 4
    assert len(_table(out / "cases.csv")) == 4


def test_a_stopped_batch_says_what_became_of_the_cases_beside(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, failed = CaseStore.publish, threading.Event()

    def full(store: CaseStore, case_id: str, folder: Path | None = None) -> None:
        if case_id == "case00":
            assert failed.wait(timeout=10)
            raise OSError(28, "No space left on device")
        publish(store, case_id, folder)

    class Failing(ThresholdAnalyser):
        def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
            if study.case_id == "case02":
                failed.set()
                raise MemoryError
            return super().analyse(study, volumes)

    monkeypatch.setattr(CaseStore, "publish", full)
    outcomes: dict[str, str] = {}

    def follow() -> None:
        for one in run_batch(list_studies(source), Failing(), out=out, input_path=source):
            outcomes[one.case_id] = one.status

    with pytest.raises(OutputError, match="Case case00 could not be written"):
        follow()
    assert outcomes.items() >= {("case01", "done"), ("case02", "failed")}
    counted = json.loads((out / "run.json").read_text())["this_run"]["cases"]
    assert counted["failed"] == 1
    assert sum(counted.values()) == len(outcomes)


def test_a_refusal_outside_of_any_study_alone_is_a_result(source: Path, out: Path) -> None:
    refusal = Refusal("series 1a2b", "sort", "missing-slices", "a gap", "none", "Export again.")
    outcomes = list(
        run_batch(Listing((), (refusal,)), ThresholdAnalyser(), out=out, input_path=source)
    )
    assert outcomes == []
    assert _table(out / "failures.csv")[0]["what"] == "series 1a2b"
    assert _table(out / "cases.csv") == []
