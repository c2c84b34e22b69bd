"""A command of the program that is stopped by Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S = 0.02


def check_interrupted(*arguments: object, when: Callable[[], bool]) -> None:
    """At Ctrl-C `medmtl` ends with status 130 and one line that says how to go on.

    Args:
        arguments: Of the command.
        when: It is interrupted as soon as this holds.
    """
    command = [sys.executable, "-m", "medmtl", *map(str, arguments)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            while program.poll() is None and not when():
                time.sleep(_LOOK_S)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=60)
    finally:
        signal.signal(signal.SIGINT, before)
    assert program.returncode == 130
    assert said.splitlines()[-1].startswith("medmtl: stopped. What is finished is kept")
    assert "Traceback" not in said
