"""A run keeps what it was told, and nothing that it was not."""

from __future__ import annotations

import json
import logging
import math
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from medmtl.core.errors import BundleError, ConfigError
from medmtl.tracking.mlflow_run import MlflowRun, flat_parameters, start_run
from medmtl.tracking.mlflow_store import Connection, connect
from medmtl.tracking.tracker import NoTracker, Tracker
from tests.evidence import write_evident

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def run(store: Path, connection: Connection) -> Iterator[MlflowRun]:
    tracked = start_run(None, experiment="e", run_name=None, store=store, system_metrics_every_s=0)
    yield tracked
    tracked.close("FINISHED")


def read(connection: Connection, run: MlflowRun, name: str, place: Path) -> bytes:
    from pathlib import Path

    uri = connection.client.get_run(run.run_id).info.artifact_uri
    assert uri.startswith("file:")
    return Path(connection.client.download_artifacts(run.run_id, name, str(place))).read_bytes()


def tell_everything(tracker: Tracker, place: Path) -> None:
    """Every call of the protocol once."""
    from matplotlib.figure import Figure

    write_evident(place / "bundle")
    (place / "note.csv").write_text("a,b\n")
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    tracker.log_config({"data": {"root": place, "splits": ["a", "b"]}, "lr": 0.1})
    tracker.log_dataset("acdc", "f" * 64, "train")
    tracker.log_metrics({"val/dice": 0.5, "cosine/seg:diag": -0.25}, step=3)
    tracker.log_text("hello", "report/summary.md")
    tracker.log_file(place / "note.csv", "tables")
    tracker.log_figure(figure, "figures/roc.png")
    tracker.log_bundle(place / "bundle")
    tracker.close("FINISHED")


def test_all_that_was_told_is_there(run: MlflowRun, connection: Connection, tmp_path: Path) -> None:
    tell_everything(run, tmp_path)
    found = connection.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "0.1"
    assert json.loads(found.data.params["data.splits"]) == ["a", "b"]
    assert found.data.metrics["val/dice"] == 0.5
    assert found.data.metrics["cosine/seg:diag"] == -0.25
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("acdc", "f" * 36)
    assert json.loads(dataset.dataset.profile) == {"sha256": "f" * 64}
    assert [tag.value for tag in dataset.tags] == ["train"]
    assert read(connection, run, "report/summary.md", tmp_path) == b"hello"
    assert read(connection, run, "tables/note.csv", tmp_path) == b"a,b\n"
    assert read(connection, run, "figures/roc.png", tmp_path).startswith(b"\x89PNG")
    assert json.loads(read(connection, run, "config.json", tmp_path))["lr"] == 0.1
    assert "torch" in json.loads(read(connection, run, "environment.json", tmp_path))["packages"]
    assert len(found.outputs.model_outputs) == 1


def test_nothing_says_where_the_files_lie(
    run: MlflowRun, connection: Connection, store: Path, tmp_path: Path
) -> None:
    place = tmp_path / "Meier_Hans_1950"
    place.mkdir()
    tell_everything(run, place)
    found = connection.client.get_run(run.run_id)
    told = json.dumps([found.data.params, found.data.tags, found.inputs.to_dictionary()])
    assert "Meier" not in told
    for path in (store / "artifacts").rglob("*"):
        assert "Meier" not in path.name
        if path.is_file():
            assert b"Meier" not in path.read_bytes()


def test_the_model_is_the_bundle_with_signature_and_pins_and_no_pickle(
    run: MlflowRun, connection: Connection, tmp_path: Path
) -> None:
    from pathlib import Path

    import mlflow.pyfunc
    from mlflow.models import Model

    bundle = write_evident(tmp_path / "bundle", version="of this test")
    (tmp_path / "bundle" / "notes.txt").write_text("not part of the bundle")
    run.log_bundle(tmp_path / "bundle")
    (output,) = connection.client.get_run(run.run_id).outputs.model_outputs
    model = connection.client.get_logged_model(output.model_id)
    assert model.tags["medmtl.sha256"] == bundle.sha256
    assert model.source_run_id == run.run_id
    folder = Path(model.artifact_location.removeprefix("file://"))
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {f"data/bundle/{name}" for name in bundle.files} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".py", "notes.txt"))]
    described = Model.load(str(folder))
    assert [column.name for column in described.signature.inputs] == ["path"]
    answers = [column.name for column in described.signature.outputs]
    assert {f"probability_{name}" for name in bundle.findings} <= set(answers)
    assert "medmtl==" in (folder / "requirements.txt").read_text()
    assert mlflow.pyfunc.load_model(str(folder)).metadata.model_id == output.model_id


def test_a_damaged_bundle_is_refused(run: MlflowRun, tmp_path: Path) -> None:
    write_evident(tmp_path / "bundle")
    (tmp_path / "bundle" / "card.md").write_text("another card")
    with pytest.raises(BundleError, match=r"card\.md"):
        run.log_bundle(tmp_path / "bundle")


def test_numbers_that_are_none_are_left_out(run: MlflowRun, connection: Connection) -> None:
    run.log_metrics({"a": math.nan, "b": math.inf, "c": 1.0}, step=0)
    assert connection.client.get_run(run.run_id).data.metrics == {"c": 1.0}


def test_more_metrics_than_one_request_holds(run: MlflowRun, connection: Connection) -> None:
    run.log_metrics({f"m{n}": float(n) for n in range(1001)}, step=0)
    assert len(connection.client.get_run(run.run_id).data.metrics) == 1001


def test_two_runs_without_a_name_are_two(store: Path, connection: Connection) -> None:
    runs = [
        start_run(None, experiment="e", run_name=None, store=store, system_metrics_every_s=0)
        for _ in range(2)
    ]
    for number, run in enumerate(runs):
        run.log_metrics({"which": float(number)}, step=0)
    found = [connection.client.get_run(run.run_id) for run in runs]
    for run in runs:
        run.close("FINISHED")
    assert len({one.info.run_id for one in found}) == 2
    assert len({one.info.run_name for one in found}) == 2
    assert [one.data.metrics["which"] for one in found] == [0.0, 1.0]


def test_a_killed_run_goes_on_where_it_was(store: Path, connection: Connection) -> None:
    first = start_run(None, experiment="e", run_name="r", store=store, system_metrics_every_s=0)
    first.log_config({"steps": 10, "lr": 0.1})
    first.log_metrics({"loss": 2.0}, step=1)
    # Killed: nobody closes it.
    assert connection.client.get_run(first.run_id).info.status == "RUNNING"
    second = start_run(
        None, experiment="e", run_name=None, store=store, run_id=first.run_id,
        system_metrics_every_s=0,
    )  # fmt: skip
    second.log_config({"steps": 20, "lr": 0.1, "ema": 0.9})
    second.log_metrics({"loss": 1.0}, step=2)
    second.close("KILLED")
    found = connection.client.get_run(first.run_id)
    assert second.run_id == first.run_id
    assert found.info.run_name == "r"
    assert found.info.status == "KILLED"
    history = connection.client.get_metric_history(first.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert found.data.params == {"steps": "10", "lr": "0.1", "ema": "0.9"}
    assert found.data.tags["medmtl.changed_on_resume"] == "steps"
    assert found.data.tags["medmtl.resumed"] == "1"


def test_a_run_that_is_not_there_is_refused(store: Path, connection: Connection) -> None:
    with pytest.raises(ConfigError, match="found RESOURCE_DOES_NOT_EXIST"):
        start_run(None, experiment="e", run_name=None, store=store, run_id="0" * 32)
    gone = start_run(None, experiment="e", run_name=None, store=store, system_metrics_every_s=0)
    connection.client.delete_run(gone.run_id)
    with pytest.raises(ConfigError, match="found it deleted"):
        start_run(None, experiment="e", run_name=None, store=store, run_id=gone.run_id)


def test_the_machine_is_sampled(store: Path, connection: Connection) -> None:
    run = start_run(None, experiment="e", run_name=None, store=store, system_metrics_every_s=0.1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        metrics = connection.client.get_run(run.run_id).data.metrics
        if "system/cpu_utilization_percentage" in metrics:
            break
        time.sleep(0.2)
    run.close("FINISHED")
    assert "system/system_memory_usage_megabytes" in metrics
    assert connection.client.get_run(run.run_id).info.status == "FINISHED"


class BrokenClient:
    """A server that is away until it is repaired."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.is_away = True

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if self.is_away:
                raise ConnectionError
            return getattr(self.client, name)(*arguments, **options)

        return call


def test_training_outlives_its_server_and_the_metrics_come_later(
    run: MlflowRun, connection: Connection, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = BrokenClient(connection.client)
    cut_off = MlflowRun(
        Connection(broken, connection.uri, None), run_id=run.run_id, experiment_id="0"
    )
    with caplog.at_level(logging.WARNING, logger="medmtl.tracking"):
        cut_off.log_metrics({"dice": 0.25}, step=1)
        cut_off.log_metrics({"dice": 0.5}, step=2)
        cut_off.log_text("x", "x.txt")
        cut_off.log_config({"a": 1})
    assert "the run goes on" in caplog.text
    broken.is_away = False
    cut_off.close("FAILED")
    history = connection.client.get_metric_history(run.run_id, "dice")
    assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.5)]
    assert connection.client.get_run(run.run_id).info.status == "FAILED"


def test_a_server_that_does_not_answer_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1: found no answer") as caught:
        connect(f"http://anna:geheim@127.0.0.1:{port}", store=tmp_path)
    assert time.monotonic() - began < 30
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("uri", ["file:///home/anna/mlruns", "/home/anna/mlruns", "ftp://x"])
def test_an_address_of_another_kind_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one that starts with http://") as caught:
        connect(uri, store=tmp_path)
    assert "anna" not in str(caught.value)


def test_looking_for_a_model_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found no mlflow\.db"):
        connect(None, store=tmp_path / "runs", may_create=False)
    assert not (tmp_path / "runs").exists()


def test_there_is_no_telemetry(connection: Connection) -> None:
    from mlflow.telemetry import get_telemetry_client

    assert get_telemetry_client() is None


def test_no_tracker_accepts_the_same_calls(tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    tracker: Tracker = NoTracker()
    tell_everything(tracker, tmp_path)
    kept = {"bundle", "note.csv", "bundle.toml", "card.md", "metrics.json", "weights.safetensors"}
    assert {path.name for path in set(tmp_path.rglob("*")) - before} == kept


def test_settings_become_flat_names_and_json_values() -> None:
    settings = {"a": {"b": {"c": None}}, "d": (1, 2), "e": "", "f": {}, "g h[1]": True}
    assert flat_parameters(settings) == {
        "a.b.c": "null",
        "d": "[1, 2]",
        "e": '""',
        "f": "{}",
        "g h_1_": "true",
    }
