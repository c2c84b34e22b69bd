"""What several of the long tests run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.orthanc import Orthanc
from tests.tiny_bundle import torso_settings, write_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for one CT with random weights; nothing writes into it."""
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write_tiny(folder, torso_settings())
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks wait for further threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    server.start()
    yield server
    server.end()
