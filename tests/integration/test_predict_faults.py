"""A full disk, a read-only folder, too little memory: a clear error, no part, and a resume."""

from __future__ import annotations

import csv
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.threshold_batch import write_studies

_BASH = shutil.which("bash") or "bash"
_REPOSITORY = Path(__file__).resolve().parents[2]


def _python(source: Path, out: Path, *further: str) -> str:
    return shlex.join([sys.executable, "-m", "tests.threshold_batch", str(source), str(out),
                       *further])  # fmt: skip


def _shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_BASH, "-c", script], cwd=_REPOSITORY, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def _in_own_mounts(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that may mount, in name spaces of its own; skips where that is not allowed."""
    if shutil.which("unshare") is None:
        pytest.skip("needs the unshare command to mount a small disk")
    probe = _shell("unshare --user --map-root-user --mount mount -t tmpfs none /mnt")
    if probe.returncode != 0:
        pytest.skip(f"no own mounts allowed here: {probe.stderr.strip()}")
    return _shell(f"unshare --user --map-root-user --mount bash -c {shlex.quote(script)}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_studies(tmp_path / "in", 6)
    return tmp_path / "in"


@pytest.mark.slow
def test_a_full_disk_stops_with_a_clear_error_and_the_next_run_goes_on(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = _in_own_mounts(
        f"""
        mkdir {out}; mount -t tmpfs -o size=340k none {out}
        {_python(source, out)} > {tmp_path}/first 2> {tmp_path}/error; echo status $?
        find {out} -name '*.tmp' -o -path '*partial/*' -o -path '*locks/*' | sed 's/^/left /'
        for case in {out}/case??; do test -s $case/case.json || echo half $case; done
        mount -o remount,size=20m {out}
        {_python(source, out)}; echo status $?
        ls {out}/case*/case.json | wc -l
        """
    )
    lines = result.stdout.split("\n")
    assert lines[0] == "status 2", result.stderr
    assert "left" not in result.stdout
    assert "half" not in result.stdout
    error = (tmp_path / "error").read_text()
    assert "could not be written: No space left on device" in error
    assert "finished cases are kept" in error
    assert len(error.strip().splitlines()) == 1
    done = [line.split()[0] for line in (tmp_path / "first").read_text().splitlines()]
    assert 0 < len(done) < 6
    assert lines[1:7] == [
        f"case{n:02d} {'resumed' if f'case{n:02d}' in done else 'done'}" for n in range(6)
    ]
    assert lines[7:9] == ["status 0", "6"]


@pytest.mark.slow
def test_a_read_only_folder_is_refused_at_once(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = _in_own_mounts(
        f"""
        mkdir {out}; mount -t tmpfs -o ro none {out}
        {_python(source, out)}; echo status $?
        """
    )
    assert result.stdout == "status 2\n"
    assert "The output folder could not be written: Read-only file system" in result.stderr


@pytest.mark.slow
def test_a_folder_that_fails_midway_keeps_what_is_done(source: Path, tmp_path: Path) -> None:
    """The place of unfinished cases is taken away from a running batch."""
    out = tmp_path / "out"
    partial = out / ".medmtl" / "partial"
    result = _shell(
        f"""
        {_python(source, out, "--pause", "0.3")} > {tmp_path}/first 2> {tmp_path}/error &
        while ! test -d {out}/case01; do sleep 0.02; done
        until mv {partial} {tmp_path}/taken && touch {partial}; do sleep 0.01; done
        wait $!; echo status $?
        rm {partial}
        {_python(source, out)} > {tmp_path}/second; echo status $?
        ls {out}/.medmtl/partial {out}/.medmtl/locks | grep case
        ls {out}/case*/case.json | wc -l
        """
    )
    assert result.stdout == "status 2\nstatus 0\n6\n", result.stderr
    error = (tmp_path / "error").read_text()
    assert "could not be written: Not a directory" in error
    assert "finished cases are kept" in error
    assert (tmp_path / "second").read_text().startswith("case00 resumed\ncase01 resumed\n")


@pytest.mark.slow
def test_too_little_memory_for_one_case_is_named_and_the_others_are_done(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = _shell(_python(source, out, "--hungry", "case02"))
    assert result.returncode == 1, result.stderr
    with (out / "failures.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["case_id"], row["code"]) == ("case02", "out-of-memory")
    assert "more memory" in row["advice"]
    assert len(list(out.glob("case*/case.json"))) == 5

    result = _shell(_python(source, out))
    assert result.returncode == 0
    assert "case02 done" in result.stdout
    assert len(list(out.glob("case*/case.json"))) == 6
