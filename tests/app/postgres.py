"""A PostgreSQL cluster of its own for a test run: made, started, thrown away."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.browser.driver import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_DEBIAN = "/usr/lib/postgresql"  # Debian's binaries lie on no PATH


def _programs() -> Path | None:
    found = shutil.which("initdb")
    newest = sorted(Path(_DEBIAN).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return Path(found).resolve().parent if found else newest[-1].parent if newest else None


PROGRAMS = _programs()
"""Folder of initdb and pg_ctl; None where PostgreSQL is not installed."""


@dataclass(frozen=True)
class Cluster:
    """A running server; anyone on this machine may log in, to empty databases only.

    Attributes:
        folder: Its data.
        port: On 127.0.0.1.
    """

    folder: Path
    port: int

    def run(self, program: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, which refuse to work for root."""
        assert PROGRAMS is not None
        command = [str(PROGRAMS / program), *arguments]
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False,
            cwd=self.folder, text=True, **_as_nobody_special(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns once it answers."""
        # What a killed server has confirmed lies with the kernel; only a power cut needs fsync.
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self.folder}"
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self, how: str) -> None:
        """End it: "fast", or "immediate", as a crash ends it."""
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", how, "-w", "stop")

    def new_database(self) -> str:
        """The address of an empty database."""
        name = f"d{uuid4().hex}"
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "tester", name)
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"


def _as_nobody_special() -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")  # Debian's package makes it
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def postgres_cluster() -> Iterator[Cluster]:
    """A new cluster, running. Its folder is none of pytest's, which only their owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="medmtl-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        cluster = Cluster(folder, free_port())
        cluster.run("initdb", "-D", str(folder / "data"), "-U", "tester", "-A", "trust", "-N")
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")
    finally:
        shutil.rmtree(folder)
