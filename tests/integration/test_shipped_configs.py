"""Every shipped configuration goes from its data to a bundle, shortened to one step.

`imported_head` is run by the tutorial's own test.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from medmtl.build import train_run
from medmtl.config import load_config
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.inference.bundle import verify_bundle
from pipelines.recipes.torso_manifest import main as write_torsos

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "trainer.max_steps=1",
    "trainer.steps_per_epoch=1",
    "trainer.warmup_steps=0",
    "trainer.workers=0",
    "tracking.enabled=false",
)
HEAD = ("head_refit.steps=2", "head_refit.views=1")
LEARNED, HELD_OUT = 4, 1


def few_cases(name: str, out: Path) -> Path:
    """The shipped manifest with a few patients of the fold held out, and of the others."""
    manifest = read_manifest(ROOT / "data_manifests" / name)
    held_out = [case for case in manifest.cases if case.fold == 0][:HELD_OUT]
    learned = [case for case in manifest.cases if case.fold != 0]
    spread = learned[:: len(learned) // LEARNED][:LEARNED]
    write_manifest(replace(manifest, cases=(*held_out, *spread)), out)
    return out


def run_short(name: str, manifest: Path, out: Path, *more: str, data_root: Path) -> list[str]:
    """The tasks that the bundle of one step answers."""
    folder = f"data.manifests.0.folder={str(manifest)!r}"
    config = load_config(ROOT / "pipelines" / "configs" / f"{name}.toml", (*SHORT, folder, *more))
    result = train_run(config, out, data_root=data_root)
    settings = verify_bundle(result.bundle)
    assert settings.name == config.bundle.name
    assert result.run["steps"] == 1
    assert len(result.scores) == HELD_OUT
    answers = {"segmentation": settings.segments, "diagnosis": settings.findings}
    return [task for task, names in answers.items() if names]


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("acdc_joint", ["segmentation", "diagnosis"]),
        ("acdc_segmentation", ["segmentation"]),
        ("acdc_diagnosis", ["diagnosis"]),
        ("acdc_compare", ["segmentation", "diagnosis"]),
    ],
)
def test_configurations_of_acdc(
    name: str, tasks: list[str], shared_data: Path, tmp_path: Path
) -> None:
    manifest = few_cases("acdc", tmp_path / "manifest")
    more = HEAD if "diagnosis" in tasks else ()
    found = run_short(name, manifest, tmp_path / "run", *more, data_root=shared_data / "acdc")
    assert found == tasks


def test_configuration_of_the_hippocampus(shared_data: Path, tmp_path: Path) -> None:
    manifest = few_cases("msd_hippocampus", tmp_path / "manifest")
    root = shared_data / "msd_hippocampus"
    found = run_short("hippocampus", manifest, tmp_path / "run", data_root=root)
    assert found == ["segmentation"]


def test_configuration_of_the_phantom(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_torsos(data, LEARNED + HELD_OUT, 5000, 8.0)
    found = run_short("torso_phantom", data, tmp_path / "run", *HEAD, data_root=data)
    assert found == ["segmentation", "diagnosis"]
