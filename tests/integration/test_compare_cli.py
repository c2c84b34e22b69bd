"""`medmtl compare` from one file to a report, and again without training anything twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tomli_w
from typer.testing import CliRunner

from pipelines.__main__ import app
from tests.tiny_run import settings, write_configuration, write_data
from tests.traps.command_line import medmtl

if TYPE_CHECKING:
    from pathlib import Path


def run_compare(folder: Path, *options: str) -> Any:
    arguments = ["compare", str(folder / "tiny.toml"), "-o", str(folder / "out"), *options]
    return CliRunner().invoke(app, [*arguments, "--data-root", str(folder / "data")])


def test_joint_against_segmentation_ends_in_a_report_and_trains_nothing_twice(
    tmp_path: Path,
) -> None:
    data = write_data(tmp_path / "data")
    arms = [
        {"name": "joint"},
        {"name": "segmentation", "set": ['tasks=["segmentation"]']},
    ]
    table = settings(data) | {"compare": {"arms": arms}}
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(table), encoding="utf-8")
    result = run_compare(tmp_path)
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [arm["arm"] for arm in record["arms"]] == ["joint", "segmentation"]
    assert {arm["n_cases"] for arm in record["arms"]} == {3}
    assert record["arms"][0]["parameters"] > record["arms"][1]["parameters"]
    assert all(arm["seconds_per_step"] > 0 and arm["seconds_per_case"] for arm in record["arms"])
    rows = {(row["metric"], row["part"]): row for row in record["comparisons"][0]["rows"]}
    dice = rows["dice", "mean"]
    assert dice["difference"]["value"] == dice["other"] - dice["reference"]
    assert not any(metric == "auroc" for metric, _ in rows)  # the other arm has no diagnosis
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "Only 3 held-out cases" in page
    config = tmp_path / "out" / "joint" / "labels-100" / "config.json"
    older = json.loads(config.read_text())
    del older["network"]["in_channels"]  # as by a version that did not know the setting
    config.write_text(json.dumps(older))
    logs = [path.stat() for path in sorted((tmp_path / "out").rglob("train.log"))]
    tracked = run_compare(tmp_path, "--set", "tracking.enabled=true")
    assert tracked.exit_code == 0, tracked.output
    kept = {path.name for path in (tmp_path / "mlflow" / "artifacts").rglob("compare.*")}
    assert kept == {"compare.json", "compare.html"}
    again = [path.stat() for path in sorted((tmp_path / "out").rglob("train.log"))]
    assert [s.st_mtime_ns for s in logs] == [s.st_mtime_ns for s in again]


def test_an_arm_that_fails_is_named_and_ends_with_status_1(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    (data / "cases.csv").write_text("case_id\n", encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(
        tomli_w.dumps(settings(data) | {"compare": {"arms": [{"name": "joint"}, {"name": "b"}]}}),
        encoding="utf-8",
    )
    result = run_compare(tmp_path)
    assert result.exit_code == 1
    assert not (tmp_path / "out" / "compare.json").exists()


def test_a_place_that_cannot_be_written_is_one_line_and_status_2(tmp_path: Path) -> None:
    """Of `main` itself: no traceback, which would show paths."""
    write_configuration(write_data(tmp_path / "data"), tmp_path / "tiny.toml")
    (tmp_path / "file").touch()
    outcome = medmtl("compare", "tiny.toml", "-o", "file", "--json-logs", cwd=tmp_path)
    assert outcome.status == 2
    last = outcome.stderr.splitlines()[-1]
    assert last.startswith("medmtl: ")
    assert "Check that the paths are right" in last
    assert "Traceback" not in outcome.stderr
    assert str(tmp_path) not in outcome.stderr
