"""The same against a real `mlflow server` in a process of its own: runs, registry, `models:/`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from medmtl.tracking.mlflow_run import start_run
from pipelines.__main__ import app
from tests.evidence import write_evident
from tests.threshold_batch import write_studies

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 400  # it imports MLflow twice, on a machine that may be busy

pytestmark = pytest.mark.slow


def free_port() -> int:
    """One that the system has just given and taken back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(uri: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"mlflow server did not start:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with SQLite and proxied artifacts, ended with all its workers afterwards."""
    place = tmp_path_factory.mktemp("server")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "--backend-store-uri", f"sqlite:///{place}/server.db",
        "--artifacts-destination", str(place / "artifacts"),
    ]  # fmt: skip
    quiet = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # a scheduler with processes of its own
        "PYTHONWARNINGS": "ignore",
    }
    with (place / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=place, env=quiet, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{port}", server, place / "log.txt")
            yield f"http://127.0.0.1:{port}"
        finally:
            end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    """The server and the workers that it started; nobody else's processes."""
    import psutil

    if server.poll() is not None:
        return
    family = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    for process in family:
        if process.is_running():
            process.kill()
    server.wait(timeout=60)


def predict(home: Path, model: str, uri: str) -> subprocess.CompletedProcess[str]:
    """As a user starts it, with the address in the environment."""
    write_studies(home / "in", 1)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "HOME": str(home)}
    command = [sys.executable, "-m", "medmtl", "predict", "in", "-o", "out", "--cam", "none"]
    return subprocess.run(
        [*command, "--model", model],
        cwd=home, env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def models(*arguments: object, uri: str) -> Result:
    """`medmtl models ...` in this process: a new one imports torch and MLflow for each command."""
    return CliRunner().invoke(app, ["models", *map(str, arguments), "--tracking-uri", uri])


def test_a_run_on_a_server_keeps_metrics_files_and_the_bundle(uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    bundle = write_evident(tmp_path / "b", version="from a run")
    run = start_run(
        uri, experiment="e", run_name=None, store=tmp_path / "unused", system_metrics_every_s=0
    )
    run.log_config({"lr": 0.1})
    run.log_dataset("acdc", "f" * 64, "train")
    run.log_metrics({"dice": 0.5}, step=1)
    run.log_bundle(tmp_path / "b")
    again = start_run(
        uri, experiment="e", run_name=None, store=tmp_path / "unused", run_id=run.run_id,
        system_metrics_every_s=0,
    )  # fmt: skip
    again.log_metrics({"dice": 0.75}, step=2)
    again.close("FINISHED")
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.artifact_uri.startswith("mlflow-artifacts:")
    assert [m.value for m in client.get_metric_history(run.run_id, "dice")] == [0.5, 0.75]
    assert found.inputs.dataset_inputs[0].dataset.digest == "f" * 36
    (output,) = found.outputs.model_outputs
    assert client.get_logged_model(output.model_id).tags["medmtl.sha256"] == bundle.sha256
    assert not (tmp_path / "unused").exists()


def test_register_promote_predict_and_roll_back(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where the cache of bundles is
    write_evident(tmp_path / "first")
    second = write_evident(tmp_path / "second", version="2")
    write_evident(tmp_path / "weak", version="3", metrics={"split": "train", "n_cases": 2})
    for number, name in enumerate(("first", "second", "weak"), start=1):
        done = models("register", tmp_path / name, uri=uri)
        assert done.exit_code == 0, done.output
        assert f"tiny-torso version {number}" in done.stdout
    promote = ("promote", "tiny-torso", "--to", "champion", "--by", "a.lee")
    for number in (1, 2):
        done = models(*promote, "--version", number, "--why", "newer", uri=uri)
        assert done.exit_code == 0, done.output
    refused = models(*promote, uri=uri)  # the newest: the weak one
    assert refused.exit_code == 1
    for name in ("unseen cases", "number of cases", "mean Dice", "same cases as the champion"):
        assert f"refused: {name}: found" in refused.stderr
    answered = predict(tmp_path, "models:/tiny-torso@champion", uri)
    assert answered.returncode == 0, answered.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["model"]["sha256"] == second.sha256
    back = models("rollback", "tiny-torso", "--to", "champion", "--why", "missed two", uri=uri)
    assert back.exit_code == 0, back.output
    assert "tiny-torso version 1 is champion again" in back.stdout


def test_a_model_that_is_not_there_is_one_line(uri: str, tmp_path: Path) -> None:
    done = predict(tmp_path, "models:/nobody@champion", uri)
    assert done.returncode == 2
    assert "found no model of that name" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
