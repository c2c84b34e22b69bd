"""All traps in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.traps import (
    containers,
    encoding,
    gaps,
    headers,
    intensity,
    multiframe,
    nifti_files,
    oddities,
    ordering,
    splitting,
    strangers,
)
from tests.traps.expectation import Expectation

Trap = Callable[[Path], Expectation]

TRAPS: tuple[Trap, ...] = (
    *ordering.TRAPS,
    *gaps.TRAPS,
    *splitting.TRAPS,
    *multiframe.TRAPS,
    *intensity.TRAPS,
    *encoding.TRAPS,
    *headers.TRAPS,
    *strangers.TRAPS,
    *containers.TRAPS,
    *nifti_files.TRAPS,
    *oddities.TRAPS,
)
"""Each writes its input into an empty folder and returns what must come of it."""
