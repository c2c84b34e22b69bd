"""Killed at any time and started again, a batch ends with the folder of an undisturbed run."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.threshold_batch import write_studies

_REPOSITORY = Path(__file__).resolve().parents[2]
_CASES = 12
_KILLS = 10


def _command(source: Path, out: Path, *further: str) -> list[str]:
    return [sys.executable, "-m", "tests.threshold_batch", str(source), str(out), *further]


def _finish(source: Path, out: Path, *further: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command(source, out, *further), cwd=_REPOSITORY, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def _without_times(path: Path) -> Any:
    """What must be equal: case.json without its seconds, run.json without this run's share."""
    record = json.loads(path.read_bytes())
    record.pop("timings_s", None)
    record.pop("this_run", None)
    return record


def _content(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_dir():
            found[name] = "folder"
        elif path.name in {"case.json", "run.json"}:
            found[name] = _without_times(path)
        else:
            found[name] = path.read_bytes()
    return found


def _assert_whole(out: Path) -> None:
    """Whatever is visible after a kill is complete."""
    for folder in out.iterdir():
        if folder.is_dir() and folder.name != ".medmtl":
            record = json.loads((folder / "case.json").read_bytes())
            for name, size in record["files"].items():
                assert (folder / name).stat().st_size == size
    for table in out.glob("*.csv"):
        assert table.read_bytes().endswith(b"\n")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve studies, one of which cannot be decoded, and a file that is none."""
    folder = tmp_path_factory.mktemp("studies") / "in"
    write_studies(folder, _CASES)
    (folder / "case05.nii").write_bytes((folder / "case05.nii").read_bytes()[:400])
    (folder / "junk.nii").write_bytes(b"junk")
    return folder


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert _finish(source, out).returncode == 1  # one case failed
    return _content(out)


def _run_for(source: Path, out: Path, seconds: float) -> int:
    """Start, kill after some seconds; the exit status, negative when it was killed."""
    with subprocess.Popen(
        _command(source, out, "--pause", "0.02", "--summary-every", "0.01"),
        cwd=_REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        deadline_s = time.monotonic() + 30
        while not (out / ".medmtl" / "started").exists() and time.monotonic() < deadline_s:
            time.sleep(0.005)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        return process.wait()


@pytest.mark.slow
def test_killed_at_random_times_it_ends_as_if_undisturbed(
    source: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out, killed, chance = tmp_path / "out", 0, random.Random(2)  # noqa: S311
    for _ in range(8 * _KILLS):
        (out / ".medmtl" / "started").unlink(missing_ok=True)
        was_killed = _run_for(source, out, chance.uniform(0.0, 0.35)) == -signal.SIGKILL
        _assert_whole(out)
        killed += was_killed
        if killed == _KILLS:
            break
        if not was_killed:  # it was faster than the kill: all is done, begin anew
            assert _content(out) == undisturbed
            shutil.rmtree(out)
    assert killed == _KILLS
    assert _finish(source, out).returncode == 1
    assert _content(out) == undisturbed


@pytest.mark.slow
def test_killed_while_replacing_results_it_ends_as_if_undisturbed(
    source: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out, chance = tmp_path / "out", random.Random(3)  # noqa: S311
    assert _finish(source, out).returncode == 1
    for _ in range(6):
        with subprocess.Popen(
            _command(source, out, "--restart"), cwd=_REPOSITORY,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            process.stdout.readline()  # the first case has been replaced
            time.sleep(chance.uniform(0.0, 0.2))
            process.send_signal(signal.SIGKILL)
        _assert_whole(out)
    assert _finish(source, out).returncode == 1
    assert _content(out) == undisturbed


@pytest.mark.slow
def test_two_runs_share_the_work_and_do_no_case_twice(
    source: Path, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    runs = [
        subprocess.Popen(
            _command(source, out, "--pause", "0.05", "--log", str(log)),
            cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [1, 1]
    computed = log.read_text().split()
    assert sorted(computed) == sorted(set(computed))
    assert len(computed) == _CASES - 1  # the one that cannot be decoded never gets there
    for text in said:  # each run accounts for every case, whoever did it
        assert len(text.splitlines()) == _CASES
    assert _content(out) == undisturbed


@pytest.mark.slow
def test_a_run_takes_over_the_case_of_one_that_dies(source: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with subprocess.Popen(
        _command(source, out, "--pause", "60", "--log", str(log)), cwd=_REPOSITORY,
        stdout=subprocess.DEVNULL,
    ) as stuck:  # fmt: skip
        while not log.exists():
            time.sleep(0.02)
        with subprocess.Popen(
            _command(source, out), cwd=_REPOSITORY, stdout=subprocess.DEVNULL
        ) as second:
            while len(list(out.glob("case*"))) < _CASES - 3:
                time.sleep(0.02)
            stuck.send_signal(signal.SIGKILL)
            assert second.wait(timeout=60) == 1
    assert len(list(out.glob("case*/case.json"))) == _CASES - 1
