"""Ctrl-C ends a program also where nothing that it raises gets through."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.interrupt import INTERRUPTED

_BEGIN = """
import tempfile, threading, time
from pipelines.interrupt import end_after_interrupt, leave_interrupted
end_after_interrupt(grace_s=0.5)
folder = tempfile.TemporaryDirectory()
lock = threading.Lock()
lock.acquire()
def wait():
    print(folder.name, flush=True)
    time.sleep(60)
"""
_STUCK = """
try:
    wait()
finally:
    lock.acquire()  # left locked where the interrupt fell: for ever
"""
_CAUGHT = """
def again():
    try:
        wait()
    except BaseException:
        again()
again()
"""
_RAISED = """
try:
    wait()
except KeyboardInterrupt:
    leave_interrupted()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("waits", [_STUCK, _CAUGHT, _RAISED])
def test_an_interrupt_ends_what_would_wait_for_ever(waits: str) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job
    try:
        with subprocess.Popen(
            [sys.executable, "-c", _BEGIN + waits],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as program:  # fmt: skip
            try:
                assert program.stdout is not None
                folder = program.stdout.readline().strip()
                program.send_signal(signal.SIGINT)
                _, said = program.communicate(timeout=30)
            finally:
                program.kill()
    finally:
        signal.signal(signal.SIGINT, before)
    assert program.returncode == INTERRUPTED
    assert said.startswith("medmtl: stopped. What is finished is kept")
    assert folder
    assert not Path(folder).exists()


def test_a_program_deaf_to_it_stays_deaf() -> None:
    text = (
        "import signal; from pipelines.interrupt import end_after_interrupt\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); end_after_interrupt()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.strip() == "True"
