"""`medmtl view` under test: the whole program, as a user starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_S = 60


@contextmanager
def viewer(folder: Path, *options: str) -> Iterator[str]:
    """The address of a running viewer."""
    command = [sys.executable, "-m", "medmtl", "view", str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            found = re.match(r"Viewer: (\S+)", program.stdout.readline())
            assert found is not None
            yield found[1]
        finally:
            program.send_signal(signal.SIGINT)
            try:
                program.wait(timeout=START_S)
            except subprocess.TimeoutExpired:
                program.kill()  # or leaving the block would wait for ever
                raise
