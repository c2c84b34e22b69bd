"""The wheel and the source archive carry everything, and nothing under a name of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built through the source archive, so that one is known to be complete as well."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling.build import build_sdist; print(build_sdist(sys.argv[1]))"
    sdist = _python("-c", code, str(folder), cwd=ROOT).strip().splitlines()[-1]
    _python(
        "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", str(folder), str(folder / sdist), cwd=folder,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def _python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)} if path else None
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_medmtl_lands_in_site_packages(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"medmtl", f"medmtl-{wheel.name.split('-')[1]}.dist-info"}


def test_programs_and_models_travel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    programs = {
        f"medmtl/_pipelines/{path.relative_to(ROOT / 'pipelines').as_posix()}"
        for path in (ROOT / "pipelines").rglob("*")
        if path.suffix in {".py", ".toml"}
    }
    bundles = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "medmtl" / "bundles").glob("*/*")
        if path.suffix in {".toml", ".safetensors", ".md", ".json"}
    }
    manifests = {
        f"medmtl/_data_manifests/{path.relative_to(ROOT / 'data_manifests').as_posix()}"
        for path in (ROOT / "data_manifests").glob("*/*")
    }
    viewer = {
        f"medmtl/_viewer/app/{path.relative_to(ROOT / 'app').as_posix()}"
        for path in (ROOT / "app").rglob("*")
        if path.suffix in {".py", ".js", ".svg", ".toml"} and "frontend" not in path.parts
    }
    assert bundles
    assert manifests
    assert "medmtl/_viewer/app/components/assets/volume_viewer.js" in viewer
    assert programs | bundles | manifests | viewer | {"medmtl/py.typed"} <= names


def test_command_line_runs_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    where = _python("-c", "import medmtl; print(medmtl.__file__)", cwd=elsewhere, path=site)
    assert Path(where.strip()).is_relative_to(site)
    assert "Usage" in _python("-m", "medmtl", "--help", cwd=elsewhere, path=site)
    listing = _python("-m", "medmtl", "models", "list", cwd=elsewhere, path=site)
    assert "torso-ct-phantom" in listing
    code = (
        "from medmtl.data.manifest import find_manifest, read_manifest;"
        "print(len(read_manifest(find_manifest('data_manifests/acdc')).cases))"
    )
    assert _python("-c", code, cwd=elsewhere, path=site).strip() == "100"
