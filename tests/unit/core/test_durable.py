"""No half file under a final name."""

from __future__ import annotations

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
