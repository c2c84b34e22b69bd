"""One local MLflow store for all tests: making its tables takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.tracking.mlflow_store import Connection, connect


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the store."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def connection(store: Path) -> Connection:
    """The store, open."""
    return connect(None, store=store)
