"""What Streamlit's AppTest changes in this process is put back after each test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def own_main_module() -> Iterator[None]:
    """AppTest leaves the page as `__main__`, and every process spawned later would run it again."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
