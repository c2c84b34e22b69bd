"""Which code and packages made a result, without who and where."""

from __future__ import annotations

import getpass
import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

import medmtl
from medmtl.tracking.provenance import environment, git_revision, requirements


def test_the_environment_names_packages_and_neither_host_nor_user() -> None:
    found = environment()
    packages = found["packages"]
    assert isinstance(packages, dict)
    assert packages["medmtl"] == medmtl.__version__
    text = json.dumps(found)
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert f'"{getpass.getuser()}"' not in text


def test_requirements_are_pins_that_an_index_can_serve() -> None:
    for line in requirements():
        name, _, version = line.partition("==")
        assert name
        assert version
        assert "+" not in version


def test_another_repository_around_an_installed_copy_is_not_the_revision(tmp_path: Path) -> None:
    program = shutil.which("git")
    if program is None:
        pytest.skip("git is not installed")

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        subprocess.run([program, "-C", tmp_path, *identity, *arguments], check=True)

    git("init", "--quiet")
    (tmp_path / "notes.txt").write_text("somebody's own project")
    (tmp_path / "medmtl").mkdir()
    (tmp_path / "medmtl" / "__init__.py").write_text("")
    git("add", "notes.txt")
    git("commit", "--quiet", "-m", "x")
    assert git_revision(tmp_path) is None
    git("add", "medmtl")
    git("commit", "--quiet", "-m", "x")
    revision = git_revision(tmp_path)
    assert revision is not None
    assert len(revision.commit) == 40
    assert revision.is_clean
    (tmp_path / "notes.txt").write_text("changed")
    changed = git_revision(tmp_path)
    assert changed is not None
    assert not changed.is_clean
