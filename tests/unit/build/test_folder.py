"""Whose run lies in a folder: that of the same settings and cases, whichever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmtl.build.folder import check_folder, check_manifests, check_resumed, holds_run, sole_run
from medmtl.core.errors import ConfigError, OutputError
from tests.tiny_run import configuration, write_data


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a run over `tmp_path / "data"`."""
    config = configuration(write_data(tmp_path / "data"))
    check_folder(config, tmp_path / "run", resume=False, is_main=True)
    check_manifests(config, tmp_path / "run", is_main=True)
    return tmp_path / "run"


def test_the_same_settings_and_cases_are_the_same_run(out: Path) -> None:
    data = out.parent / "data"
    assert holds_run(configuration(data), out)
    assert holds_run(configuration(data, "data.cache_dir='elsewhere'", workers=3), out)
    assert not holds_run(configuration(data, "seed=1"), out)
    assert not holds_run(configuration(data), out.parent / "none")


def test_a_setting_that_came_later_has_its_default_in_an_older_run(out: Path) -> None:
    path = out / "config.json"
    older = json.loads(path.read_text())
    del older["network"]["in_channels"]
    path.write_text(json.dumps(older))
    assert holds_run(configuration(out.parent / "data"), out)
    assert not holds_run(configuration(out.parent / "data", "network.in_channels=2"), out)


def test_edited_cases_are_another_run(out: Path) -> None:
    table = out.parent / "data" / "cases.csv"
    table.write_text(table.read_text() + "\n")
    assert not holds_run(configuration(out.parent / "data"), out)


def test_a_second_run_at_the_same_time_is_refused_and_one_after_it_is_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    second = pytest.raises(ConfigError, match="another process that trains there now")
    with sole_run(run, resume=False), second, sole_run(run, resume=True):
        pass
    with sole_run(run, resume=False):
        pass
    assert not list(run.iterdir())


@pytest.mark.parametrize("left", ["checkpoints/last.ckpt", "run.json"])
def test_a_run_that_is_not_resumed_is_refused_before_anything_is_touched(
    tmp_path: Path, left: str
) -> None:
    """A frozen encoder takes no steps, so that no checkpoint is left."""
    path = tmp_path / "run" / left
    path.parent.mkdir(parents=True)
    path.touch()
    with (
        pytest.raises(ConfigError, match="--resume"),
        sole_run(tmp_path / "run", resume=False),
    ):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [Path(left).parts[0]]


@pytest.mark.parametrize("left", ["checkpoints/last.ckpt", "run.json"])
def test_a_run_goes_on_as_it_was_started(out: Path, left: str) -> None:
    data = out.parent / "data"
    check_resumed(configuration(data, "seed=1"), out, processes=2)  # nothing was done yet
    (out / "checkpoints").mkdir()
    (out / left).touch()
    check_resumed(configuration(data), out, processes=1)
    with pytest.raises(ConfigError, match="another configuration"):
        check_resumed(configuration(data, "seed=1"), out, processes=1)
    with pytest.raises(ConfigError, match=r"2 process.*started with 1 .*--nproc-per-node 1"):
        check_resumed(configuration(data), out, processes=2)
    (out / "processes.json").unlink()  # as older versions left it
    check_resumed(configuration(data), out, processes=2)


def test_a_place_that_cannot_be_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match="cannot be written"), sole_run(place, resume=False):
            pass
