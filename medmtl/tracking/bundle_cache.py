"""Bundles of the registry on the local disk, by checksum: fetched once, checked every time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from medmtl.core.errors import BundleError, OutputError
from medmtl.tracking.bundle_files import BundleRecord, read_bundle
from medmtl.tracking.mlflow_model import BUNDLE_FOLDER
from medmtl.tracking.mlflow_store import mlflow_errors

if TYPE_CHECKING:
    from medmtl.tracking.mlflow_store import Connection
    from medmtl.tracking.registry import Version

__all__ = ["fetch"]


def fetch(connection: Connection, version: Version, *, cache: Path) -> BundleRecord:
    """The bundle of a version as a local folder, `cache/<sha256>`.

    The checksums are recomputed, and the identity must be the one that the registry names: a
    server that gives other files than those that were registered is refused. Nothing of what it
    gives is run or unpickled.

    Args:
        connection: The store.
        version: Which one.
        cache: Folder of fetched bundles; made if need be.

    Raises:
        BundleError: If what was fetched is damaged or another bundle.
        ConfigError: If the store does not answer.
        OutputError: If the cache cannot be written.
    """
    place = cache / version.sha256
    known = _known(place, version)
    if known is not None:
        return known
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as aside:
            record = _download(connection, version, Path(aside))
            whole = Path(aside) / "whole"
            whole.mkdir()
            for name in record.files:
                shutil.copyfile(record.folder / name, whole / name)
            shutil.rmtree(place, ignore_errors=True)  # what is there now is damaged
            _publish(whole, place)
    except OSError as error:
        message = (
            f"Model {version}: it cannot be kept in the cache ({error.strerror}). Free space, or "
            "make the cache folder writable."
        )
        raise OutputError(message) from error
    return read_bundle(place)


def _known(place: Path, version: Version) -> BundleRecord | None:
    try:
        record = read_bundle(place)
    except BundleError:
        return None
    return record if record.sha256 == version.sha256 else None


def _download(connection: Connection, version: Version, aside: Path) -> BundleRecord:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with mlflow_errors(f"the files of {version}"):
        source = connection.client.get_model_version_download_uri(version.name, version.number)
        repository = get_artifact_repository(source, tracking_uri=connection.uri)
        folder = Path(repository.download_artifacts(BUNDLE_FOLDER, dst_path=str(aside)))
    record = read_bundle(folder)
    if record.sha256 != version.sha256:
        message = (
            f"Model {version}: found a bundle with SHA-256 {record.sha256[:12]}.., expected "
            f"{version.sha256[:12]}... as registered. Its files were changed; register it again."
        )
        raise BundleError(message)
    return record


def _publish(whole: Path, place: Path) -> None:
    """Move it into place; another program may have been faster, with the same content."""
    try:
        whole.rename(place)
    except OSError:
        if not place.is_dir():
            raise
