"""Measurements that are kept one by one, so that a long benchmark goes on where it was stopped."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from benchmarks.peak import run_and_watch

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One whole process: its seconds, its peak, and the load of the machine before it."""

    seconds: float
    peak_bytes: int
    load_1_min: float

    @property
    def peak_gib(self) -> float:
        return self.peak_bytes / 2**30

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s, {self.peak_gib:.2f} GiB"


@dataclass(frozen=True)
class Measured:
    """Runs by name, in a file of the benchmark's own folder."""

    path: Path
    runs: dict[str, Run] = field(default_factory=dict)

    @classmethod
    def at(cls, path: Path) -> Measured:
        """What an earlier start left there."""
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            known = {}
        return cls(path, {name: Run(**values) for name, values in known.items()})

    def run(self, name: str, command: list[str], *, limit_s: float) -> bool:
        """Run a command unless it is known; False where the time did not suffice.

        Raises:
            subprocess.CalledProcessError: If the command fails.
        """
        if name in self.runs:
            return True
        if limit_s <= 0:
            return False
        load = os.getloadavg()[0]
        try:
            peak_bytes, seconds = run_and_watch(command, limit_s=limit_s)
        except TimeoutError:
            return False
        self.runs[name] = Run(seconds, peak_bytes, round(load, 2))
        print(f"{name}: {self.runs[name]}, load {load:.1f}", flush=True)
        values = {name: asdict(run) for name, run in self.runs.items()}
        self.path.write_text(json.dumps(values, indent=2), encoding="utf-8")
        return True
