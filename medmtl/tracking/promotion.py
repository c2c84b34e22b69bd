"""An alias changes hands: who did it, why, on which evidence, and who had it before."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.tracking.mlflow_store import mlflow_errors
from medmtl.tracking.model_uri import ModelUri
from medmtl.tracking.registry import check_alias, find_version, holder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medmtl.tracking.criterion import Criterion, Evidence
    from medmtl.tracking.gate_settings import GateSettings
    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.registry import Version

__all__ = ["champion_metrics", "record_decision", "rollback", "set_alias"]

EXPERIMENT = "medmtl-promotions"
_METRICS, _GATE = "metrics.json", "gate.json"


def record_decision(
    connection: Connection,
    version: Version,
    *,
    alias: str,
    by: str,
    why: str,
    evidence: Evidence,
    criteria: Sequence[Criterion],
    settings: GateSettings,
) -> str:
    """Write down a passage through the gate, or a refusal, as a run of its own.

    Args:
        connection: The store.
        version: Who wants the alias.
        alias: Which one.
        by: The operator.
        why: The reason given.
        evidence: The figures that were judged.
        criteria: What the gate said.
        settings: The gate.

    Returns:
        Id of the run, whose artifacts hold the figures (`metrics.json`) and the answers
        (`gate.json`).

    Raises:
        ConfigError: If the store does not take it.
    """
    client = connection.client
    is_passed = all(criterion.is_met for criterion in criteria)
    tags = {
        "medmtl.model": version.name,
        "medmtl.model_version": version.number,
        "medmtl.sha256": version.sha256,
        "medmtl.alias": alias,
        "medmtl.by": by,
        "medmtl.why": why,
        "medmtl.gate": "passed" if is_passed else "refused",
    }
    answers = {
        "criteria": [criterion.as_json() for criterion in criteria],
        "settings": settings.model_dump(mode="json"),
    }
    experiment_id = connection.experiment_id(EXPERIMENT)
    with mlflow_errors("the record of a promotion"):
        name = f"{version.name}-{version.number}-{alias}-{_now()}"
        run = client.create_run(experiment_id, tags=tags, run_name=name)
        run_id = str(run.info.run_id)
        client.log_text(run_id, json.dumps(answers, indent=1), _GATE)
        client.log_text(run_id, json.dumps(dict(evidence.metrics), indent=1), _METRICS)
        client.set_terminated(run_id, "FINISHED" if is_passed else "FAILED")
    return run_id


def set_alias(
    connection: Connection,
    version: Version,
    *,
    alias: str,
    by: str,
    why: str,
    champion: Version | None,
    run_id: str,
) -> None:
    """Give a version the alias; the tags are written before, so an alias never lacks its reasons.

    Args:
        connection: The store.
        version: Who gets it.
        alias: Which one.
        by: The operator.
        why: The reason given.
        champion: Who had it when the gate was asked.
        run_id: Of the recorded decision.

    Raises:
        ConfigError: If somebody else got the alias in the meantime, or the store does not answer.
    """
    check_alias(alias)
    now = holder(connection, version.name, alias)
    if (now.number if now else None) != (champion.number if champion else None):
        message = (
            f"Alias {alias} of {version.name}: found that it went to "
            f"{now or 'nobody'} while the gate was asked, expected {champion or 'nobody'}. "
            "Promote again, so that the gate compares with the new holder."
        )
        raise ConfigError(message)
    facts = {"by": by, "why": why, "at": _now(), "evidence_run": run_id}
    if champion is not None:
        facts["previous"] = champion.number
    else:  # of an earlier time with this alias: a rollback would follow it
        _forget(connection, version, alias, "previous")
    _write(connection, version, alias, facts)
    with mlflow_errors(f"alias {alias}"):
        connection.client.set_registered_model_alias(version.name, alias, version.number)


def rollback(connection: Connection, name: str, *, alias: str, by: str, why: str) -> Version:
    """Give an alias back to who had it before, without the gate: it passed it then.

    Raises:
        ConfigError: If nobody has the alias, or nobody had it before.
    """
    current = find_version(connection, ModelUri(name, alias=alias))
    number = current.tags.get(_key(alias, "previous"))
    if number is None:
        message = (
            f"Alias {alias} of {name}: found no earlier holder than version {current.number}, "
            "expected one. Promote another version instead."
        )
        raise ConfigError(message)
    previous = find_version(connection, ModelUri(name, version=number))
    _write(
        connection,
        current,
        alias,
        {"rolled_back_by": by, "rolled_back_why": why, "rolled_back_at": _now()},
    )
    with mlflow_errors(f"alias {alias}"):
        connection.client.set_registered_model_alias(name, alias, number)
    return previous


def champion_metrics(
    connection: Connection, champion: Version, alias: str
) -> Mapping[str, Any] | None:
    """The figures on which a version got its alias; None where it got it without the gate.

    Raises:
        ConfigError: If the store does not give them.
    """
    run_id = champion.tags.get(_key(alias, "evidence_run"))
    if run_id is None:
        return None
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with (
        mlflow_errors(f"the figures of {champion}"),
        tempfile.TemporaryDirectory(prefix="medmtl-") as place,
    ):
        source = connection.client.get_run(run_id).info.artifact_uri
        repository = get_artifact_repository(source, tracking_uri=connection.uri)
        content = json.loads(Path(repository.download_artifacts(_METRICS, place)).read_bytes())
    return content if isinstance(content, dict) else None


def _write(connection: Connection, version: Version, alias: str, facts: Mapping[str, str]) -> None:
    with mlflow_errors(f"the tags of {version}"):
        for key, value in facts.items():
            connection.client.set_model_version_tag(
                version.name, version.number, _key(alias, key), value
            )


def _forget(connection: Connection, version: Version, alias: str, fact: str) -> None:
    with mlflow_errors(f"the tags of {version}"):
        connection.client.delete_model_version_tag(version.name, version.number, _key(alias, fact))


def _key(alias: str, fact: str) -> str:
    return f"medmtl.{alias}.{fact}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
