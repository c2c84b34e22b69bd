"""Bundles in the MLflow registry: versions, and the aliases that point at them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.tracking.bundle_files import read_bundle
from medmtl.tracking.mlflow_model import bundle_tags, log_model, logged_model
from medmtl.tracking.mlflow_store import error_code, mlflow_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.model_uri import ModelUri

__all__ = ["Version", "check_alias", "find_version", "holder", "register"]

EXPERIMENT = "medmtl-models"
_ALIAS = re.compile(r"[A-Za-z][\w-]*")
_NUMBERED = re.compile(r"[vV]\d+")


@dataclass(frozen=True, eq=False)
class Version:
    """One version of a registered model.

    Attributes:
        name: Registered name.
        number: MLflow's version, "1", "2", ...
        sha256: Identity of its bundle.
        tags: All its tags.
    """

    name: str
    number: str
    sha256: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


def register(connection: Connection, folder: Path, *, name: str | None = None) -> Version:
    """Make a bundle a version of a registered model; the same bundle again is the same version.

    Args:
        connection: The store.
        folder: The bundle; its checksums are recomputed.
        name: Registered name; that of the bundle where None.

    Raises:
        BundleError: If the bundle is damaged.
        ConfigError: If the registry does not take it.
    """
    bundle = read_bundle(folder)
    registered = name or bundle.name
    if not registered or any(letter in registered for letter in "/:@"):
        message = f"Model name {registered!r}: expected one without / : @. Give another by --name."
        raise ConfigError(message)
    client = connection.client
    with mlflow_errors(f"the registration of {registered}"):
        _ensure_name(client, registered)
        for version in _versions(client, registered):
            if version.sha256 == bundle.sha256:
                return version
        known = logged_model(connection, bundle)
        if known is not None:
            model_id, run_id = str(known.model_id), known.source_run_id
        else:
            place = connection.experiment_id(EXPERIMENT)
            model_id, run_id = log_model(connection, folder, experiment_id=place), None
        made = client.create_model_version(
            registered,
            tags=bundle_tags(bundle),
            description=f"Bundle {bundle.name} {bundle.version}",
            **_origin(connection, model_id, run_id),
        )
    return _version(made)


def _origin(connection: Connection, model_id: str, run_id: str | None) -> dict[str, str | None]:
    """Where the registry finds the files, and what made them.

    A server looks a model up in its own store, and refuses local paths. A database that is opened
    directly looks it up in MLflow's global store, which is another one: it gets the place, and
    the model's id only where that saves it the look (mlflow 3.17, store/model_registry/
    sqlalchemy_store.py, create_model_version).
    """
    if connection.is_server:
        return {"source": f"models:/{model_id}", "model_id": model_id, "run_id": run_id}
    place = str(connection.client.get_logged_model(model_id).artifact_location)
    return {"source": place, "model_id": model_id if run_id else None, "run_id": run_id}


def _ensure_name(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error_code(error) != "RESOURCE_ALREADY_EXISTS":
            raise


def find_version(connection: Connection, uri: ModelUri) -> Version:
    """The version that an address means.

    Raises:
        ConfigError: Saying what the registry has instead, or that no bundle is behind it.
    """
    client = connection.client
    if uri.alias is not None:
        found = holder(connection, uri.name, uri.alias)
    else:
        with mlflow_errors(f"model {uri.name}"):
            versions = _versions(client, uri.name)
        wanted = uri.version or (versions[-1].number if versions else None)
        found = next((version for version in versions if version.number == wanted), None)
    if found is None:
        raise ConfigError(f"Model {uri}: {_instead(connection, uri.name)}")
    if not found.sha256:
        message = (
            f"Model {uri}: found an MLflow model without tag medmtl.sha256, expected a version "
            "made by `medmtl models register`. Register the bundle."
        )
        raise ConfigError(message)
    return found


def holder(connection: Connection, name: str, alias: str) -> Version | None:
    """Who has an alias; None where nobody has, or there is no such model."""
    from mlflow.exceptions import MlflowException

    with mlflow_errors(f"alias {alias} of {name}"):
        try:
            return _version(connection.client.get_model_version_by_alias(name, alias))
        except MlflowException as error:
            # An unknown alias is INVALID_PARAMETER_VALUE in MLflow 2 and 3, an unknown name is not
            # found (mlflow/store/model_registry/sqlalchemy_store.py).
            if error_code(error) in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            raise


def check_alias(alias: str) -> None:
    """Refuse an alias that MLflow keeps for itself.

    Raises:
        ConfigError: If it is "latest", like "v3", or has other letters than A-Z, 0-9, - and _.
    """
    is_reserved = alias.lower() == "latest" or _NUMBERED.fullmatch(alias) is not None
    if is_reserved or _ALIAS.fullmatch(alias) is None:
        message = (
            f"Alias {alias!r}: expected letters, digits, - and _, and neither latest nor v with a "
            "number. Use for example champion."
        )
        raise ConfigError(message)


def _versions(client: Any, name: str) -> list[Version]:
    """All versions, oldest first."""
    quoted = name.replace("'", "")
    found = [_version(one) for one in client.search_model_versions(f"name='{quoted}'")]
    return sorted(found, key=lambda version: int(version.number))


def _version(found: Any) -> Version:
    tags = dict(found.tags or {})
    return Version(found.name, str(found.version), tags.get("medmtl.sha256", ""), tags)


def _instead(connection: Connection, name: str) -> str:
    """What is there in place of what was asked for."""
    client = connection.client
    with mlflow_errors("the list of models"):
        versions = _versions(client, name)
        if not versions:
            models = sorted(model.name for model in client.search_registered_models())
            return (
                f"found no model of that name in {connection.shown}, expected one of "
                f"{', '.join(models) or 'none yet'}. Register it (`medmtl models register`), or "
                "give the tracking server's address (MLFLOW_TRACKING_URI)."
            )
        aliases = sorted(client.get_registered_model(name).aliases)
    return (
        f"found versions {', '.join(version.number for version in versions)} and aliases "
        f"{', '.join(aliases) or 'none'}, expected one of these. See `medmtl models promote`."
    )
