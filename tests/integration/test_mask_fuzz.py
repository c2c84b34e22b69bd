"""A changed byte in a file of masks: a refusal, or masks on the grid. Never a crash or a hang."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmtl.core.errors import InputRefusedError
from medmtl.core.volume import Volume
from medmtl.dicom.read_masks import read_masks
from tests.dicom_results import read_source, write_result

NAMES = ("segmentation.seg.dcm", "segmentation.rtstruct.dcm", "findings.sr.dcm")


@cache
def sound() -> tuple[dict[str, bytes], Volume]:
    """The objects of one case, and its volume."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        case = write_result(folder, "oblique", formats=("seg", "sr", "rtstruct"))
        _, volume = read_source(folder / "in")
        return {name: (case / volume.id / name).read_bytes() for name in NAMES}, volume


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    value=st.integers(0, 255),
    end=st.floats(0.2, 1.0),
)
def test_a_damaged_file_is_refused_or_read_onto_the_grid(
    name: str, places: list[float], value: int, end: float
) -> None:
    files, volume = sound()
    damaged = bytearray(files[name])
    for place in places:
        damaged[int(place * len(damaged))] = value
    if end < 0.5:  # every third or so is cut off as well
        damaged = damaged[: int(end * len(damaged))]
    with tempfile.TemporaryDirectory() as scratch:
        for other in NAMES:
            (Path(scratch) / other).write_bytes(damaged if other == name else files[other])
        try:
            _, read = read_masks(Path(scratch) / name, volume.geometry)
        except InputRefusedError:
            return
    assert read.label_map().shape == volume.geometry.shape
    assert all(segment.voxels == segment.inside.sum() for segment in read.segments)
