"""Shared fixtures: where the real data lies, and a quiet NumPy random generator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; skips where it is absent."""
    folder = Path(os.environ.get("MEDMTL_SHARED_DATA", _REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at ../shared/data (looked in {folder})")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)
