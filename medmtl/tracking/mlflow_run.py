"""One run in MLflow. Training goes on where the tracking server does not."""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import time
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.tracking.mlflow_model import log_model
from medmtl.tracking.mlflow_store import connect, error_code, mlflow_errors
from medmtl.tracking.places import without_places
from medmtl.tracking.provenance import environment, git_revision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.tracker import RunStatus

__all__ = ["MlflowRun", "flat_parameters", "start_run"]

logger = logging.getLogger(__name__)

SYSTEM_METRICS_EVERY_S = 30.0
_RETRY_S = 60.0
_MOST_KEPT = 200_000  # metrics that wait for the server; about 20 MB
_BATCH = 1000  # MLflow's limit for metrics of one request
_PARAMETER_BATCH = 100
_PARAMETER_LENGTH = 6000
_NOT_A_NAME = re.compile(r"[^\w\-. /:]")


def start_run(
    uri: str | None,
    *,
    experiment: str,
    run_name: str | None,
    store: Path,
    run_id: str | None = None,
    system_metrics_every_s: float = SYSTEM_METRICS_EVERY_S,
) -> MlflowRun:
    """Start a run, or go on with one that was interrupted.

    Args:
        uri: Tracking server or database; None for SQLite in `store`.
        experiment: Made if need be.
        run_name: None gives a name that no other run has. A name may be used twice: runs are told
            apart by their id, and only `run_id` continues one.
        store: Folder of the local store.
        run_id: `MlflowRun.run_id` of the run to go on with.
        system_metrics_every_s: How often processor, memory, disk, network and GPU are sampled;
            0 for never.

    Raises:
        ConfigError: If the store cannot be opened, or there is no run of that id.
    """
    connection = connect(uri, store=store)
    if run_id is None:
        experiment_id = connection.experiment_id(experiment)
        with mlflow_errors("a new run"):
            run = connection.client.create_run(
                experiment_id, tags=_tags(), run_name=run_name or _unique_name(experiment)
            )
    else:
        run = _reopen(connection, run_id)
    monitor = _monitor(connection, run.info.run_id, system_metrics_every_s, is_resumed=bool(run_id))
    tracked = MlflowRun(
        connection,
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        monitor=monitor,
    )
    tracked.log_text(json.dumps(environment(), indent=1), "environment.json")
    return tracked


def _unique_name(experiment: str) -> str:
    return f"{experiment}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _tags() -> dict[str, str]:
    """What a run is found by. No user and no script path, which MLflow would add by itself."""
    tags = {
        "mlflow.source.name": "medmtl",
        "mlflow.source.type": "LOCAL",
        "medmtl.version": version("medmtl"),
    }
    revision = git_revision()
    if revision is not None:
        tags["mlflow.source.git.commit"] = revision.commit
        tags["medmtl.git_is_clean"] = str(revision.is_clean).lower()
    return tags


def _reopen(connection: Connection, run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    client = connection.client
    try:
        run = client.get_run(run_id)
    except (MlflowException, OSError) as error:
        message = (
            f"MLflow run {run_id[:8]}..: found {error_code(error)} in {connection.shown}, expected "
            "the run to go on with. Use the tracking URI it was started with, or start anew."
        )
        raise ConfigError(message) from error
    if run.info.lifecycle_stage != "active":
        message = (
            f"MLflow run {run_id[:8]}..: found it deleted, expected an active one. Restore it "
            "(`mlflow runs restore`), or start anew."
        )
        raise ConfigError(message)
    resumed = int(run.data.tags.get("medmtl.resumed", "0")) + 1
    with mlflow_errors("a run to go on with"):
        client.update_run(run_id, status="RUNNING")
        for key, value in {**_tags(), "medmtl.resumed": str(resumed)}.items():
            client.set_tag(run_id, key, value)
    return run


def _monitor(connection: Connection, run_id: str, every_s: float, *, is_resumed: bool) -> Any:
    if every_s <= 0:
        return None
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(
        run_id,
        sampling_interval=every_s,
        resume_logging=is_resumed,
        tracking_uri=connection.uri,
    )
    monitor.start()
    return monitor


def flat_parameters(config: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested settings as `a.b.c: value`, without places; what MLflow calls parameters."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{_NOT_A_NAME.sub('_', str(key))}"
        plain = without_places(value)
        if isinstance(plain, dict) and plain:
            flat |= flat_parameters(plain, f"{name}.")
        else:
            text = plain if isinstance(plain, str) and plain else json.dumps(plain)
            flat[name[:250]] = text[:_PARAMETER_LENGTH]
    return flat


class MlflowRun:
    """A `Tracker` that writes to MLflow.

    Where the store does not answer, a warning is logged and the run goes on; metrics wait in
    memory and are sent again later.

    Attributes:
        run_id: Store it beside the checkpoint; `start_run(..., run_id=...)` goes on with it.
        experiment_id: Where the run is listed.
    """

    def __init__(
        self, connection: Connection, *, run_id: str, experiment_id: str, monitor: Any = None
    ) -> None:
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._connection = connection
        self._client = connection.client
        self._monitor = monitor
        self._waiting: list[Any] = []
        self._wait_until_s = 0.0

    def log_config(self, config: Mapping[str, object]) -> None:
        """Keep the resolved config whole (`config.json`) and value by value (parameters).

        A parameter of MLflow cannot change: what a resumed run sets anew is named in the tag
        `medmtl.changed_on_resume`, and `config.json` holds the newest.
        """
        text = json.dumps(without_places(config), indent=1, default=str)
        self.log_text(text + "\n", "config.json")
        self._send("the config", lambda: self._log_parameters(flat_parameters(config)))

    def _log_parameters(self, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        changed = [name for name, value in parameters.items() if known.get(name, value) != value]
        new = [Param(name, value) for name, value in parameters.items() if name not in known]
        for start in range(0, len(new), _PARAMETER_BATCH):
            self._client.log_batch(self.run_id, params=new[start : start + _PARAMETER_BATCH])
        if changed:
            self._client.set_tag(self.run_id, "medmtl.changed_on_resume", ", ".join(changed))

    def log_dataset(self, name: str, sha256: str, context: str) -> None:
        """Keep a manifest as a data set input; MLflow's digest holds 36 of the 64 hex digits."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        facts = json.dumps({"sha256": sha256})
        dataset = Dataset(
            name=name[:500],
            digest=sha256[:36],
            source_type="code",  # the one kind of source of MLflow that names no place
            source=json.dumps({"tags": {"medmtl.manifest_sha256": sha256}}),
            profile=facts,
        )
        tagged = DatasetInput(dataset, tags=[InputTag("mlflow.data.context", context)])
        self._send("a data set", lambda: self._client.log_inputs(self.run_id, [tagged]))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keep numbers of one step; NaN and infinite ones are left out, as not measured."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._waiting += [
            Metric(_NOT_A_NAME.sub("_", name)[:250], float(value), now_ms, step)
            for name, value in metrics.items()
            if math.isfinite(value)
        ]
        if time.monotonic() >= self._wait_until_s:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            part = self._waiting[:_BATCH]
            send = partial(self._client.log_batch, self.run_id, metrics=part)
            if not self._send(f"{len(self._waiting)} metrics, kept for later", send):
                self._wait_until_s = time.monotonic() + _RETRY_S
                del self._waiting[:-_MOST_KEPT]
                return
            del self._waiting[: len(part)]

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as the artifact `name`."""
        self._send(name, lambda: self._client.log_text(self.run_id, text, name))

    def log_file(self, path: Path, folder: str = "") -> None:
        """Keep a copy of one file under its own name in `folder` of the artifacts."""
        self._send(
            path.name, lambda: self._client.log_artifact(self.run_id, str(path), folder or None)
        )

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a plot as the artifact `name`."""
        self._send(name, lambda: self._client.log_figure(self.run_id, figure, name))

    def log_bundle(self, folder: Path) -> None:
        """Keep a bundle as a model of this run.

        Raises:
            BundleError: If the bundle is damaged.
        """
        self._send(
            "the bundle",
            lambda: log_model(
                self._connection, folder, experiment_id=self.experiment_id, run_id=self.run_id
            ),
        )

    def close(self, status: RunStatus) -> None:
        """End the run with its status; metrics that waited are sent first."""
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
        self._flush()
        self._send("the end", lambda: self._client.set_terminated(self.run_id, status))

    def _send(self, what: str, call: Callable[[], object]) -> bool:
        """Whether the store took it. A failed connection is an OSError (requests)."""
        from mlflow.exceptions import MlflowException

        try:
            call()
        except (MlflowException, OSError) as error:
            logger.warning("MLflow did not take %s (%s); the run goes on", what, error_code(error))
            return False
        return True
