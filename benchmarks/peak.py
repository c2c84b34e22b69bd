"""The largest resident memory that a command and its children held together."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

_PERIOD_S = 0.1
"""A look takes a millisecond or two of a core that the command could have."""


def _resident_bytes(process: psutil.Process) -> int:
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # it ended between the listing and the look
            continue
    return total


def _high_water_bytes(pid: int) -> int:
    """What the kernel says the process itself reached; 0 where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(marks[0]) * 1024 if marks else 0


def run_and_watch(
    command: list[str], *, stdout: IO[str] | None = None, limit_s: float = float("inf")
) -> tuple[int, float]:
    """Run the command to its end.

    Returns:
        (peak of the summed resident memory in bytes, seconds).

    Raises:
        subprocess.CalledProcessError: If the command fails.
        TimeoutError: If it takes longer than `limit_s`; it is ended then.
    """
    start = time.perf_counter()
    peak_bytes = 0
    with subprocess.Popen(command, stdout=stdout) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            try:
                peak_bytes = max(peak_bytes, _resident_bytes(process), _high_water_bytes(child.pid))
            except psutil.NoSuchProcess:
                break
            if time.perf_counter() - start > limit_s:
                for member in [*process.children(recursive=True), process]:
                    member.kill()
                raise TimeoutError(f"more than {limit_s:.0f} s")
            with suppress(subprocess.TimeoutExpired):
                child.wait(_PERIOD_S)
        code = child.wait()
    if code:
        raise subprocess.CalledProcessError(code, command)
    return peak_bytes, time.perf_counter() - start
