"""Every trap is read exactly, flagged, refused or skipped as its truth demands."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.data.intake import open_input
from tests.traps.catalogue import TRAPS, Trap
from tests.traps.containers import ESCAPES
from tests.traps.expectation import judge


@pytest.mark.timeout(120)  # seconds of a busy machine; each takes well under one
@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_trap(trap: Trap, tmp_path: Path) -> None:
    folder = tmp_path / "input"
    folder.mkdir()
    expected = trap(folder)

    listing = open_input(folder / expected.entry)

    assert judge(listing, expected, folder=folder) == []
    assert not [path for path in ESCAPES if path.exists()]
    assert not (tmp_path / "escaped.dcm").exists()


def test_traps_have_distinct_names() -> None:
    names = [trap.__name__ for trap in TRAPS]
    assert len(set(names)) == len(names)
