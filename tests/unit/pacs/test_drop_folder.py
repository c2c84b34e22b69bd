"""Only what nobody writes any more counts as arrived."""

from __future__ import annotations

import os
import time
from pathlib import Path

from medmtl.pacs.drop_folder import look_at


def _write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_an_entry_settles_as_a_whole(tmp_path: Path) -> None:
    _write(tmp_path / "study" / "series" / "1.dcm")
    _write(tmp_path / "one.zip")
    now_s = time.time()
    assert not look_at(tmp_path, settle_s=60, now_s=now_s).settled
    later = look_at(tmp_path, settle_s=60, now_s=now_s + 61)
    assert set(later.settled) == {"study", "one.zip"}
    assert later.is_all
    assert later.holds("study/series/1.dcm")
    assert later.holds("one.zip/1.dcm")
    assert not later.holds("study2/1.dcm")


def test_a_copy_that_keeps_old_times_counts_from_its_arrival(tmp_path: Path) -> None:
    _write(tmp_path / "old")
    os.utime(tmp_path / "old", (1, 1))
    assert not look_at(tmp_path, settle_s=60, now_s=time.time()).settled


def test_another_file_or_content_makes_another_key(tmp_path: Path) -> None:
    _write(tmp_path / "study" / "1.dcm")

    def key() -> str:
        return look_at(tmp_path, settle_s=0, now_s=time.time() + 1).key

    first = key()
    assert key() == first
    _write(tmp_path / "study" / "2.dcm")
    second = key()
    _write(tmp_path / "study" / "2.dcm", "xy")
    assert len({first, second, key()}) == 3


def test_hidden_files_are_no_arrival(tmp_path: Path) -> None:
    _write(tmp_path / ".study.zip.part")
    dropped = look_at(tmp_path, settle_s=0, now_s=time.time() + 1)
    assert not dropped.settled
    assert dropped.is_all
