"""Phases, echoes and acquisitions become volumes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.core.study import Study, VolumeRef
from medmtl.data.intake import open_input
from tests.dicom_factory import make_series

SLICES, PHASES = 5, 4
SHAPE = (5, 4, SLICES)
STORED = np.arange(100 * PHASES, dtype=np.uint16).reshape(PHASES, *SHAPE)


def write_cine(folder: Path, **tags: Any) -> None:
    """Slices in the order of a scanner: all phases of a slice, with its own heart rate."""
    rng = np.random.default_rng(3)
    beat_ms = 40 + 3 * rng.random(SLICES)
    for phase in range(PHASES):
        per_slice: dict[str, list[Any]] = {
            "TriggerTime": [f"{phase * beat:.2f}" for beat in beat_ms],
            "InstanceNumber": [k * PHASES + phase + 1 for k in range(SLICES)],
            "SOPInstanceUID": [f"1.2.3.{phase}.{k}" for k in range(SLICES)],
        }
        make_series(
            folder / f"p{phase}", array=STORED[phase], modality="MR", per_slice=per_slice,
            name="cine", **tags,
        )  # fmt: skip


def only_study(folder: Path) -> Study:
    listing = open_input(folder)
    assert listing.refusals == ()
    (study,) = listing.studies
    return study


def phases_of(study: Study) -> list[VolumeRef]:
    return sorted(study.volumes, key=lambda ref: ref.phase if ref.phase is not None else -1)


def test_trigger_times_that_differ_per_slice_are_ranked(tmp_path: Path) -> None:
    write_cine(tmp_path)
    refs = phases_of(only_study(tmp_path))
    assert [ref.phase for ref in refs] == list(range(PHASES))
    assert len({ref.series_key for ref in refs}) == 1
    for phase, ref in enumerate(refs):
        assert ref.time_ms == pytest.approx(phase * 41.5, abs=phase * 1.6)
        assert np.array_equal(ref.read().array, STORED[phase])


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", ["4.6", "9.2"]),
        ("DiffusionBValue", [0.0, 1000.0]),
        ("AcquisitionNumber", [1, 2]),
        ("TemporalPositionIdentifier", [1, 2]),
        ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]),
    ],
)
def test_attributes_split_a_series(keyword: str, values: list[Any], tmp_path: Path) -> None:
    for number, value in enumerate(values):
        make_series(
            tmp_path / str(number), array=STORED[number], modality="MR",
            per_slice={"SOPInstanceUID": [f"1.2.{number}.{k}" for k in range(SLICES)]},
            **{keyword: value},
        )  # fmt: skip
    volumes = [ref.read().array for ref in only_study(tmp_path).volumes]
    assert len(volumes) == 2
    assert all(any(np.array_equal(array, truth) for array in volumes) for truth in STORED[:2])


@pytest.mark.parametrize(
    ("times_ms", "volumes"), [((700.0, 702.5), 1), ((700.0, 760.0), 2)], ids=["jitter", "phases"]
)
def test_slices_in_turn_at_two_times_are_two_phases_only_where_the_times_lie_apart(
    times_ms: tuple[float, float], volumes: int, tmp_path: Path
) -> None:
    array = np.arange(200, dtype=np.uint16).reshape(5, 4, 10)
    make_series(
        tmp_path, array=array, modality="MR",
        per_slice={"TriggerTime": [str(times_ms[k % 2]) for k in range(10)]},
    )  # fmt: skip
    assert len(only_study(tmp_path).volumes) == volumes


def test_conflicting_slices_without_a_difference_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        make_series(tmp_path / str(number), array=STORED[number], modality="MR")
    (refusal,) = open_input(tmp_path).refusals
    assert refusal.code == "conflicting-slices"


def test_identical_copies_collapse_with_a_flag(tmp_path: Path) -> None:
    for number in range(2):
        make_series(tmp_path / str(number), array=STORED[0], modality="MR")
    (ref,) = only_study(tmp_path).volumes
    assert "duplicate-slices-collapsed" in {flag.code for flag in ref.flags}
    assert np.array_equal(ref.read().array, STORED[0])


def write_slices_as_series(folder: Path, *, heights: list[float]) -> None:
    for k, height in enumerate(heights):
        for phase in range(PHASES):
            make_series(
                folder / f"{k}-{phase}", array=STORED[phase][..., k : k + 1], modality="MR",
                name=f"slice{k}", TriggerTime=str(40 * phase),
                SOPInstanceUID=f"1.2.{k}.{phase}",
                ImagePositionPatient=["-10", "-20", str(height)],
            )  # fmt: skip


def test_cine_slices_of_several_series_become_one_stack(tmp_path: Path) -> None:
    write_slices_as_series(tmp_path, heights=[0.0, 8.0, 16.0, 24.0, 32.0])
    refs = phases_of(only_study(tmp_path))
    assert len(refs) == PHASES
    for phase, ref in enumerate(refs):
        assert "slices-from-several-series" in {flag.code for flag in ref.flags}
        assert ref.geometry.spacing_mm[2] == pytest.approx(8.0)
        assert np.array_equal(ref.read().array, STORED[phase])


def test_irregular_cine_slices_stay_alone_and_are_refused(tmp_path: Path) -> None:
    write_slices_as_series(tmp_path, heights=[0.0, 8.0, 16.0, 40.0, 48.0])
    listing = open_input(tmp_path)
    assert listing.studies == ()
    assert {refusal.code for refusal in listing.refusals} == {"single-slice"}
