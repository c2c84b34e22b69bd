"""A command of the program that is stopped by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S = 0.02
_START_S = 300
_END_S = 60


def check_interrupted(*arguments: object, when: Callable[[], bool]) -> None:
    """At Ctrl-C `medmtl` ends with status 130 and one line that says how to go on.

    Args:
        arguments: Of the command.
        when: It is interrupted as soon as this holds.
    """
    command = [sys.executable, "-m", "medmtl", *map(str, arguments)]
    shows_stacks = {**os.environ, "PYTHONFAULTHANDLER": "1"}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job
    try:
        with subprocess.Popen(
            command, env=shows_stacks, stderr=subprocess.PIPE, text=True
        ) as program:
            said = _interrupted(program, when)
    finally:
        signal.signal(signal.SIGINT, before)
    assert program.returncode == 130, said
    assert said.splitlines()[-1].startswith("medmtl: stopped. What is finished is kept")
    assert "Traceback" not in said


def _interrupted(program: subprocess.Popen[str], when: Callable[[], bool]) -> str:
    """What it said; one that hangs is ended, and says where each of its threads was."""
    until_s = time.monotonic() + _START_S
    while program.poll() is None and not when() and time.monotonic() < until_s:
        time.sleep(_LOOK_S)
    if program.poll() is None:
        program.send_signal(signal.SIGINT if when() else signal.SIGABRT)
    try:
        _, said = program.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        program.send_signal(signal.SIGABRT)
        _, said = program.communicate()
    return said
