"""Which code and which packages made a result."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import distributions, version
from importlib.resources import files
from pathlib import Path

__all__ = ["GitRevision", "environment", "git_revision", "requirements"]

_TIMEOUT_S = 20
_PINNED = ("medmtl", "mlflow", "monai", "numpy", "pandas", "pydicom", "SimpleITK", "torch")


@dataclass(frozen=True)
class GitRevision:
    """A commit, and whether the tracked files are those of it."""

    commit: str
    is_clean: bool


def git_revision(folder: Path | None = None) -> GitRevision | None:
    """The commit of the checkout that medmtl runs from; None for an installed copy.

    Args:
        folder: Parent of the package, where it is not the one that runs.
    """
    where = folder or Path(str(files("medmtl"))).parent
    # An installed copy inside a user's own repository must not be taken for a checkout of medmtl.
    if _git(where, "ls-files", "--error-unmatch", "medmtl/__init__.py") is None:
        return None
    commit = _git(where, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(where, "status", "--porcelain", "--untracked-files=no")
    return GitRevision(commit, is_clean=changes == "")


def _git(folder: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def environment() -> dict[str, object]:
    """Interpreter, system and all installed packages; no host name, no user, no folder."""
    packages = {found.metadata["Name"]: found.version for found in distributions()}
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def requirements() -> list[str]:
    """The packages, pinned, that loading a bundle needs; without local parts such as "+cpu"."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _PINNED]
