"""What `medmtl train` leaves in MLflow, read back from a real store, and what it does not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tomli_w

from medmtl.build.folder import check_folder, check_manifests
from medmtl.core.errors import ConfigError
from medmtl.data.manifest import manifest_sha256
from medmtl.tracking.mlflow_store import connect
from pipelines.__main__ import main
from tests.tiny_run import STEPS, configuration, settings, write_configuration, write_data

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENT = "Meier_Hans_1950"
"""Folders are called after patients."""
ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["medmtl", "train", *map(str, arguments)])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.slow
def test_a_run_is_written_down_whole_and_names_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / PATIENT)
    changes = {"tracking": {"enabled": True}, "calibration": {"min_each": 1}}
    path = tmp_path / "tiny.toml"
    path.write_text(tomli_w.dumps(settings(data) | changes), encoding="utf-8")
    out = tmp_path / "runs" / "one"
    command = (path, "--data-root", data, "-o", out, "--quiet")
    assert run(monkeypatch, *command) == 0
    note = (out / "mlflow_run_id.txt").read_text()
    assert run(monkeypatch, *command) == 2, "a run lies there"
    assert (out / "mlflow_run_id.txt").read_text() == note, "--resume would go on elsewhere"

    connection = connect(None, store=tmp_path / "runs" / "mlflow", may_create=False)
    found = connection.client.get_run(note.strip())
    assert found.info.status == "FINISHED"
    assert found.data.params["trainer.max_steps"] == str(STEPS)
    if (ROOT / ".git").exists() and (git := shutil.which("git")):
        head = [git, "-C", str(ROOT), "rev-parse", "HEAD"]
        commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
        assert found.data.tags["mlflow.source.git.commit"] == commit
    (learned_from,) = found.inputs.dataset_inputs
    assert [tag.value for tag in learned_from.tags] == ["train, validation"]
    assert manifest_sha256(data) in learned_from.dataset.profile
    both = ("segmentation", "diagnosis")
    wanted = {f"{kind}/{task}" for kind in ("train/loss", "val/loss") for task in both}
    wanted |= {f"step/{kind}/{task}" for kind in ("loss", "weight", "norm") for task in both}
    wanted |= {"step/cosine/segmentation_and_diagnosis", "val/dice", "val/auroc"}
    wanted |= {"final/mean_dice", "final/macro_auroc"}
    assert wanted <= set(found.data.metrics)
    epochs = connection.client.get_metric_history(note.strip(), "val/dice")
    assert [point.step for point in epochs] == [3, 6]

    kept = {path.relative_to(out.parent / "mlflow").as_posix(): path for path in files(out.parent)}
    names = {name.split("/artifacts/", 1)[-1] for name in kept}
    assert {"config.json", "environment.json", "cases.csv", "run.json", "metrics.json"} <= names
    assert {"figures/roc.png", "figures/reliability.png"} <= names
    assert any(name.startswith("overlays/") for name in names)
    assert any(name.endswith("data/bundle/weights.safetensors") for name in kept)
    assert len(found.outputs.model_outputs) == 1
    assert "mlflow.db" in kept
    for name, path in kept.items():
        assert PATIENT not in name
        assert PATIENT.encode() not in path.read_bytes(), name


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with the note of its MLflow run; `asked.txt` beside it lists runs asked for."""
    folder = tmp_path / "runs" / "one"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "mlflow_run_id.txt").write_text("known\n", encoding="utf-8")

    def refuse(_uri: str | None, *, run_id: str | None, **_: object) -> None:
        (tmp_path / "asked.txt").write_text(str(run_id), encoding="utf-8")
        raise ConfigError("asked for")

    monkeypatch.setattr("medmtl.tracking.mlflow_run.start_run", refuse)
    return folder


@pytest.mark.parametrize(
    ("steps", "changed", "asked"),
    [
        ("none taken", "seed=0", "None"),
        ("none taken", "seed=1", "None"),
        ("taken", "seed=0", "known"),
        ("taken", "seed=1", "nothing"),
    ],
)
def test_a_resumed_run_is_opened_in_mlflow_where_it_goes_on(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, steps: str, changed: str, asked: str
) -> None:
    data = write_data(tmp_path / "data")
    check_folder(configuration(data, "tracking.enabled=true"), out, resume=False, is_main=True)
    if steps == "taken":
        (out / "checkpoints" / "last.ckpt").touch()
    path = write_configuration(data, tmp_path / "tiny.toml")
    options = ("--set", "tracking.enabled=true", "--set", changed, "--data-root", data, "-o", out)
    assert run(monkeypatch, path, "--resume", "--quiet", *options) == 2
    found = tmp_path / "asked.txt"
    assert (found.read_text() if found.exists() else "nothing") == asked


@pytest.mark.parametrize("edit", ["edited", "gone"])
def test_other_cases_are_refused_before_mlflow_is_told(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    data = write_data(tmp_path / "data")
    config, table = configuration(data, "tracking.enabled=true"), data / "cases.csv"
    check_folder(config, out, resume=False, is_main=True)
    check_manifests(config, out, is_main=True)
    (out / "checkpoints" / "last.ckpt").touch()
    if edit == "edited":
        table.write_text(table.read_text() + "\n")
    else:
        table.unlink()
    path = write_configuration(data, tmp_path / "tiny.toml")
    options = ("--set", "tracking.enabled=true", "--data-root", data, "-o", out)
    assert run(monkeypatch, path, "--resume", "--quiet", *options) == 2
    assert not (tmp_path / "asked.txt").exists()


def files(runs: Path) -> Iterator[Path]:
    return (path for path in (runs / "mlflow").rglob("*") if path.is_file())
