"""Work that takes long, each in a process of its own: the server never imports torch.

A job is a `medmtl` command with JSON log lines; its progress is read from them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Job", "JobBook", "JobState"]

JobState = Literal["running", "done", "partly", "failed", "cancelled"]
_PROGRESS = re.compile(r"(\d+)/(\d+) (\S+): (\w+)")
_KEPT_LINES = 200
_END_S = 10.0  # how long a cancelled job may take to end by itself


@dataclass(eq=False)
class Job:
    """One running or ended command.

    Attributes:
        title: For the reader.
        arguments: After `medmtl`.
        done: Cases that are decided.
        total: Cases in all; 0 while unknown.
        lines: What it said last: level and message.
    """

    title: str
    arguments: tuple[str, ...]
    done: int = 0
    total: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _is_cancelled: bool = False

    def start(self) -> None:
        """Begin; returns at once."""
        self._process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "medmtl", *self.arguments, "--json-logs"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def cancel(self) -> None:
        """End it; finished cases stay, and a later run goes on from there."""
        if self._process is not None and self._process.poll() is None:
            self._is_cancelled = True
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def wait(self, timeout_s: float) -> JobState:
        """Wait until it has ended, at most so long."""
        if self._process is not None:
            self._process.wait(timeout_s)
        return self.state

    @property
    def state(self) -> JobState:
        """How it stands."""
        status = self._process.poll() if self._process is not None else 2
        if status is None:
            return "running"
        if self._is_cancelled:
            return "cancelled"
        return "done" if status == 0 else "partly" if status == 1 else "failed"

    def _follow(self) -> None:
        if self._process is None or self._process.stderr is None:
            return
        with self._process.stderr as stream:
            for line in stream:
                self._note(*_read(line))
        self._process.wait()

    def _note(self, level: str, message: str) -> None:
        found = _PROGRESS.match(message)
        if found is not None:
            self.done, self.total = int(found[1]), int(found[2])
        if message:
            self.lines = [*self.lines[-_KEPT_LINES:], (level, message)]


def _read(line: str) -> tuple[str, str]:
    """Level and message of a log line; a line that is no JSON is the last word of a failure."""
    try:
        record = json.loads(line)
        return str(record["level"]), str(record["message"])
    except (ValueError, KeyError, TypeError):
        return "ERROR", line.strip().removeprefix("medmtl: ")


@dataclass(eq=False)
class JobBook:
    """The jobs of one server; one runs at a time, since each fills the machine."""

    jobs: list[Job] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def running(self) -> Job | None:
        """The one that runs."""
        return next((job for job in self.jobs if job.state == "running"), None)

    def start(self, title: str, arguments: Sequence[str]) -> Job | None:
        """Start a job; None while another runs."""
        with self._lock:
            if self.running is not None:
                return None
            job = Job(title, tuple(arguments))
            job.start()
            self.jobs.append(job)
            return job
