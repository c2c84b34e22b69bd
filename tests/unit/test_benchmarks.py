"""The measuring itself: memory of the whole process tree is seen, and the page says it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peak import run_and_watch
from benchmarks.record import Row, write_page, write_result

MIB = 2**20
_HOLD_200_MIB = "import time; held = bytearray(b'x' * (200 * 2**20)); time.sleep(0.5)"
_IN_A_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_HOLD_200_MIB!r}])"


@pytest.mark.parametrize("code", [_HOLD_200_MIB, _IN_A_CHILD], ids=["itself", "its child"])
def test_memory_of_the_command_and_its_children_is_seen(code: str) -> None:
    peak_bytes, seconds = run_and_watch([sys.executable, "-c", code])
    assert 200 * MIB < peak_bytes < 500 * MIB
    assert seconds > 0.5


def test_a_failed_command_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_and_watch([sys.executable, "-c", "raise SystemExit(3)"])


def test_page_says_figure_target_and_whether_it_was_reached(tmp_path: Path) -> None:
    rows = [
        Row("peak", "3.10 GiB", "< 4 GiB", reached=True),
        Row("time", "700 s", "< 600 s", False),
    ]
    write_result("demo", rows, out=tmp_path)
    write_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| peak | 3.10 GiB | < 4 GiB | yes |" in page
    assert "| time | 700 s | < 600 s | no |" in page
    assert "cores" in page
