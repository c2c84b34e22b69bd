"""No half file under a final name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medmtl.core.durable import durable_file, replace_file


def test_a_file_that_could_not_be_finished_is_gone(tmp_path: Path) -> None:
    def fail() -> None:
        with durable_file(tmp_path / "a") as stream:
            stream.write(b"half")
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_replacing_keeps_the_old_file_when_the_new_cannot_be_written(tmp_path: Path) -> None:
    replace_file(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        replace_file(tmp_path / "a", "not bytes")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_writers_at_once_leave_one_whole_content_and_nothing_aside(tmp_path: Path) -> None:
    contents = [bytes([number]) * 200_000 for number in range(8)]

    def write(content: bytes) -> None:
        for _ in range(20):
            replace_file(tmp_path / "a", content)
            assert (tmp_path / "a").read_bytes() in contents

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert (tmp_path / "a").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_goes_and_that_of_another_file_stays(tmp_path: Path) -> None:
    mine, others = f".a.{'0' * 32}.tmp", f".a.b.{'0' * 32}.tmp"
    for name in (mine, ".a.tmp", others):
        (tmp_path / name).write_bytes(b"half")
    replace_file(tmp_path / "a", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a", others}


def test_a_folder_that_is_gone_is_no_success(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "a", b"new")
