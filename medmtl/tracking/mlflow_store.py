"""Which MLflow store is meant, opened without telemetry and without the global state of MLflow.

Everything goes through a client that knows its address. `mlflow.start_run()` and its relatives
keep one active run per process, into which the next unnamed run would fall.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from medmtl.core.errors import ConfigError
from medmtl.tracking.places import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LOCAL_STORE", "Connection", "connect", "error_code", "mlflow_errors"]

LOCAL_STORE = Path("runs") / "mlflow"
"""Where the programs keep the local store: `medmtl train` makes it beside its run folders."""

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"
_SCHEMES = ("http", "https", "mssql", "mysql", "postgresql", "sqlite")
_HTTP_RETRIES = 2  # MLflow's own 7 make a training run wait four minutes for a server that is gone
_HEALTH_TIMEOUT_S = 10.0


@dataclass(frozen=True, eq=False)
class Connection:
    """An open MLflow store.

    Attributes:
        client: An `mlflow.MlflowClient` that uses `uri` for runs and for the registry.
        uri: Its address, which may hold a password: show `shown` instead.
        artifacts: Where new experiments keep their files; None where the server decides.
    """

    client: Any
    uri: str
    artifacts: str | None

    @property
    def shown(self) -> str:
        """The address for messages: no password, and no folder of a local file."""
        scheme = urlsplit(self.uri).scheme
        return _shown(self.uri) if scheme else self.uri

    @property
    def is_server(self) -> bool:
        """Whether a tracking server is behind it, not a database."""
        return urlsplit(self.uri).scheme in ("http", "https")

    def experiment_id(self, name: str) -> str:
        """The experiment of that name, made if need be.

        Raises:
            ConfigError: If it was deleted, or cannot be made.
        """
        from mlflow.exceptions import MlflowException

        with mlflow_errors(f"experiment {name!r}"):
            found = self.client.get_experiment_by_name(name)
            if found is None:
                try:
                    made = self.client.create_experiment(name, artifact_location=self.artifacts)
                    return str(made)
                except MlflowException as error:
                    if error_code(error) != "RESOURCE_ALREADY_EXISTS":  # another run was faster
                        raise
                found = self.client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            message = (
                f"MLflow experiment {name!r}: found it deleted, expected an active one. Restore it "
                "(`mlflow experiments restore`), or give another name in tracking.experiment."
            )
            raise ConfigError(message)
        return str(found.experiment_id)


def connect(uri: str | None, *, store: Path, may_create: bool = True) -> Connection:
    """Open a tracking server, or the local store.

    Args:
        uri: Address of a tracking server or database; None for SQLite in `store`.
        store: Folder of the local store: `mlflow.db` with the artifacts beside it.
        may_create: Whether a local database is made where there is none.

    Raises:
        ConfigError: If the address has no known scheme, the server does not answer, or there is no
            local database and none may be made.
    """
    address = uri or f"sqlite:///{(store.resolve() / DATABASE).as_posix()}"
    parts = urlsplit(address)
    scheme = parts.scheme.split("+")[0]
    if scheme not in _SCHEMES:
        message = (
            f"Tracking URI: found {_shown(address)!r}, expected one that starts with "
            f"{', '.join(name + '://' for name in _SCHEMES)}. Leave it out for a local store."
        )
        raise ConfigError(message)
    artifacts = _local_artifacts(address, may_create=may_create) if scheme == "sqlite" else None
    _quiet_mlflow()
    if scheme in ("http", "https"):
        _check_server(address)
    from mlflow import MlflowClient

    with mlflow_errors(_shown(address)):
        client = MlflowClient(tracking_uri=address, registry_uri=address)
        client.search_experiments(max_results=1)  # makes the tables of a new database
    return Connection(client=client, uri=address, artifacts=artifacts)


def _local_artifacts(address: str, *, may_create: bool) -> str | None:
    """Beside the database; MLflow's own default is the folder that the program runs in."""
    path = Path(address.partition(":///")[2].partition("?")[0])
    if not may_create and not path.is_file():
        message = (
            f"MLflow store: found no {path.name} in folder {path.parent.name or '.'}, expected the "
            "store of earlier runs. Give its address (MLFLOW_TRACKING_URI), or register a model "
            "first (`medmtl models register`)."
        )
        raise ConfigError(message)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"MLflow store: the folder cannot be made ({error.strerror}). Choose another."
        raise ConfigError(message) from error
    return (path.parent.resolve() / ARTIFACTS).as_uri()


def _quiet_mlflow() -> None:
    """No telemetry, no start-up chatter, no copy of a stranger's uv.lock, short retries.

    MLflow reads all these from the environment only, and writes them by its own variables. Its
    telemetry client exists from the import on, but speaks only when it is used: it goes here.
    """
    import mlflow.environment_variables as settings
    from mlflow.telemetry import set_telemetry_client

    settings.MLFLOW_DISABLE_TELEMETRY.set(True)
    set_telemetry_client()
    settings.MLFLOW_UV_AUTO_DETECT.set(False)
    settings.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    if not settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set():
        settings.MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(_HTTP_RETRIES)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _check_server(address: str) -> None:
    """One quick question, since the client would try for minutes."""
    import requests

    parts = urlsplit(address)
    try:
        requests.get(f"{address.rstrip('/')}/health", timeout=_HEALTH_TIMEOUT_S)
    except requests.RequestException as error:
        message = (
            f"Tracking server {parts.scheme}://{parts.hostname}: found no answer "
            f"({type(error).__name__}), expected a running MLflow server. Start it, correct the "
            "address, or leave it out for a local store."
        )
        raise ConfigError(message) from error


def _shown(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme.startswith(("sqlite", "file")):
        return f"{parts.scheme}:///.../{Path(parts.path).name}"
    return without_credentials(address) if "://" in address else Path(address).name


def error_code(error: Exception) -> str:
    """MLflow's name of a failure, such as RESOURCE_DOES_NOT_EXIST; else the error's class."""
    return str(getattr(error, "error_code", None) or type(error).__name__)


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Turn failures of MLflow into one line; their own texts quote addresses and folders.

    Raises:
        ConfigError: In place of any MlflowException or failed connection.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        message = (
            f"MLflow, {what}: found {error_code(error)}, expected an answer. Check the address, "
            "the rights and the free space of the tracking store."
        )
        raise ConfigError(message) from error
