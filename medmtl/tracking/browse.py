"""Runs, registered models and promotions, for reading only."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.tracking.mlflow_model import BUNDLE_FOLDER
from medmtl.tracking.mlflow_store import mlflow_errors
from medmtl.tracking.promotion import EXPERIMENT as PROMOTIONS
from medmtl.tracking.registry import EXPERIMENT as MODELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.tracking.mlflow_store import Connection

__all__ = [
    "ModelVersion",
    "Promotion",
    "Run",
    "metric_history",
    "model_card",
    "read_promotions",
    "read_runs",
    "read_versions",
]

_MOST = 500
_LONGEST_CARD = 1 << 18


@dataclass(frozen=True)
class Run:
    """One tracked run.

    Attributes:
        run_id: MLflow's.
        name: For people.
        experiment: Its experiment.
        status: "FINISHED", "RUNNING", "FAILED" or "KILLED".
        started: UTC, None where unknown.
        seconds: How long it took; None while it runs.
        metrics: Last value by name.
        parameters: As text by name.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started: datetime | None
    seconds: float | None
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        model: Registered name.
        number: "1", "2", ...
        sha256: Identity of its bundle.
        aliases: Those it holds now.
        created: UTC.
        description: What was registered.
    """

    model: str
    number: str
    sha256: str
    aliases: tuple[str, ...]
    created: datetime | None
    description: str


@dataclass(frozen=True)
class Promotion:
    """One passage through the gate, or a refusal.

    Attributes:
        model: Registered name.
        number: Its version.
        alias: Which was asked for.
        by: The operator.
        why: The reason given.
        is_passed: Whether the gate let it through.
        at: UTC.
    """

    model: str
    number: str
    alias: str
    by: str
    why: str
    is_passed: bool
    at: datetime | None


def read_runs(connection: Connection) -> tuple[Run, ...]:
    """The newest training and other runs, newest first; records of promotions are left out.

    Raises:
        ConfigError: If the store does not give them.
    """
    with mlflow_errors("the list of runs"):
        experiments = {
            one.experiment_id: one.name
            for one in connection.client.search_experiments()
            if one.name not in (PROMOTIONS, MODELS)
        }
        if not experiments:
            return ()
        found = connection.client.search_runs(
            list(experiments), max_results=_MOST, order_by=["attributes.start_time DESC"]
        )
    return tuple(_run(one, experiments[one.info.experiment_id]) for one in found)


def metric_history(connection: Connection, run_id: str, name: str) -> tuple[tuple[int, float], ...]:
    """Step and value of one metric, in the order of steps; of a repeated step, the last.

    Raises:
        ConfigError: If the store does not give it.
    """
    with mlflow_errors("the history of a metric"):
        found = connection.client.get_metric_history(run_id, name)
    ordered = sorted(found, key=lambda one: (one.step, one.timestamp))
    return tuple({int(one.step): float(one.value) for one in ordered}.items())


def read_versions(connection: Connection) -> tuple[ModelVersion, ...]:
    """Every version of every registered model, newest first within a model.

    Raises:
        ConfigError: If the store does not give them.
    """
    client = connection.client
    with mlflow_errors("the registry"):
        models = {one.name: one for one in client.search_registered_models(max_results=_MOST)}
        found = client.search_model_versions(max_results=_MOST)
    versions = [_version(one, models[one.name].aliases) for one in found if one.name in models]
    return tuple(sorted(versions, key=lambda one: (one.model, -int(one.number))))


def read_promotions(connection: Connection) -> tuple[Promotion, ...]:
    """Every decision of the gate, newest first.

    Raises:
        ConfigError: If the store does not give them.
    """
    with mlflow_errors("the record of promotions"):
        experiment = connection.client.get_experiment_by_name(PROMOTIONS)
        if experiment is None:
            return ()
        found = connection.client.search_runs(
            [experiment.experiment_id], max_results=_MOST, order_by=["attributes.start_time DESC"]
        )
    return tuple(_promotion(one) for one in found)


def model_card(connection: Connection, version: ModelVersion) -> str:
    """The card of a registered version, Markdown, from where the registry keeps its bundle.

    Raises:
        ConfigError: If the store does not give it.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with (
        mlflow_errors(f"the card of {version.model} version {version.number}"),
        tempfile.TemporaryDirectory(prefix="medmtl-") as place,
    ):
        source = connection.client.get_model_version_download_uri(version.model, version.number)
        repository = get_artifact_repository(source, tracking_uri=connection.uri)
        card = Path(repository.download_artifacts(f"{BUNDLE_FOLDER}/card.md", dst_path=place))
        return card.read_bytes()[:_LONGEST_CARD].decode("utf-8", "replace")


def _run(found: Any, experiment: str) -> Run:
    info = found.info
    ended = None if info.end_time is None else (info.end_time - info.start_time) / 1000
    metrics = {name: float(value) for name, value in found.data.metrics.items()}
    return Run(
        run_id=info.run_id,
        name=str(info.run_name or info.run_id[:8]),
        experiment=experiment,
        status=str(info.status),
        started=_moment(info.start_time),
        seconds=ended,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        parameters=dict(found.data.params),
    )


def _version(found: Any, aliases: Mapping[str, Any]) -> ModelVersion:
    held = sorted(name for name, number in aliases.items() if str(number) == str(found.version))
    return ModelVersion(
        model=found.name,
        number=str(found.version),
        sha256=(found.tags or {}).get("medmtl.sha256", ""),
        aliases=tuple(held),
        created=_moment(found.creation_timestamp),
        description=found.description or "",
    )


def _promotion(found: Any) -> Promotion:
    tags = found.data.tags
    return Promotion(
        model=tags.get("medmtl.model", ""),
        number=tags.get("medmtl.model_version", ""),
        alias=tags.get("medmtl.alias", ""),
        by=tags.get("medmtl.by", ""),
        why=tags.get("medmtl.why", ""),
        is_passed=tags.get("medmtl.gate") == "passed",
        at=_moment(found.info.start_time),
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
