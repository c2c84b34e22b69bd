"""Runs `medmtl` as a user does: another process, from another folder."""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.traps.expectation import IDENTITY_TOKENS

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """Exit status and what was printed."""

    status: int
    stdout: str
    stderr: str


def medmtl(*arguments: str | Path, cwd: Path) -> Outcome:
    """Run one command; `cwd` keeps relative paths of the repository out of play."""
    done = subprocess.run(
        [sys.executable, "-m", "medmtl", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def leaks_in(outcome: Outcome, folder: Path | None = None) -> list[str]:
    """Planted identities in what was printed and in every byte and name below `folder`."""
    texts = {"stdout": outcome.stdout.encode(), "stderr": outcome.stderr.encode()}
    for path in sorted(folder.rglob("*")) if folder else ():
        texts[f"name of {path.name}"] = str(path.relative_to(folder or path)).encode()
        if path.is_file():
            content = path.read_bytes()
            texts[path.name] = gzip.decompress(content) if path.suffix == ".gz" else content
    return [
        f"{token} in {where}"
        for where, content in texts.items()
        for token in IDENTITY_TOKENS
        if token.encode() in content
    ]
