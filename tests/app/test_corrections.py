"""Corrected masks: kept whole, beside the log, with what they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app.services.corrections import (
    CorrectionStore,
    changed_segments,
    mask_dice,
    with_segments,
)
from app.services.review_log import CaseRef
from medmtl.core.errors import MedmtlError
from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CASE = CaseRef("results", "a", "0" * 64)
GRID = Geometry.from_parts(shape=(8, 8, 8), spacing_mm=(1, 1, 1))
SCHEMA = LabelSchema((SegmentSpec(1, "lung"), SegmentSpec(2, "nodule")))


def _mask(stop: int) -> NDArray[Any]:
    mask = np.zeros(GRID.shape, dtype=np.uint8)
    mask[0:stop] = 1
    return mask


def _keep(store: CorrectionStore, stop: int, **further: Any) -> Any:
    facts = {"volume": "ct", "reviewer": "one", "source": "painted"} | further
    return store.keep(_mask(stop), CASE, before=_mask(4), geometry=GRID, schema=SCHEMA, **facts)


def test_a_correction_comes_back_as_it_was(tmp_path: Path) -> None:
    store = CorrectionStore(tmp_path)
    kept = _keep(store, 6)
    assert store.newest(CASE, "ct") == kept
    found = read_volume_file(store.folder(CASE), kept.file)
    assert np.array_equal(found.array, _mask(6))
    assert found.geometry.is_close(GRID)


def test_it_says_how_far_the_model_was_from_it(tmp_path: Path) -> None:
    kept = _keep(CorrectionStore(tmp_path), 6)
    # 4 and 6 slabs of 64 voxels, 4 in common: 2 * 4 / (4 + 6).
    assert kept.dice == {"lung": 0.8, "nodule": None}
    assert kept.voxels_changed == 2 * 64


def test_the_newest_counts_and_the_older_stay(tmp_path: Path) -> None:
    store = CorrectionStore(tmp_path)
    for stop in (6, 7, 6):
        _keep(store, stop)
    newest = store.newest(CASE, "ct")
    assert newest is not None
    assert newest.voxels_changed == 2 * 64
    assert [one.voxels_changed // 64 for one in store.of_case(CASE)] == [2, 3, 2]
    assert store.newest(CASE, "mr") is None


def test_a_correction_of_another_models_mask_does_not_count(tmp_path: Path) -> None:
    store = CorrectionStore(tmp_path)
    _keep(store, 6)
    assert store.newest(CaseRef("results", "a", "f" * 64), "ct") is None


def test_a_correction_of_an_earlier_answer_does_not_count(tmp_path: Path) -> None:
    store = CorrectionStore(tmp_path)
    kept = _keep(store, 6, answer="before", segments=("lung",))
    assert store.newest(CASE, "ct", answer="before") == kept
    assert store.newest(CASE, "ct", answer="after") is None
    noted_nothing = _keep(store, 7)
    assert store.newest(CASE, "ct", answer="after") == noted_nothing


def test_structures_that_gained_or_lost_a_voxel_are_those_that_were_painted() -> None:
    before, after = _mask(4), _mask(4)
    assert changed_segments(before, after, SCHEMA) == ()
    after[7, 7, 7] = 2
    assert changed_segments(before, after, SCHEMA) == ("nodule",)
    after[0, 0, 0] = 0
    assert changed_segments(before, after, SCHEMA) == ("lung", "nodule")


def test_a_described_segment_is_taken_whole_and_the_others_stay() -> None:
    base, drawn = np.array([0, 1, 1, 2], np.uint8), np.array([2, 2, 0, 0], np.uint16)
    assert with_segments(base, drawn, SCHEMA, ("nodule",)).tolist() == [2, 2, 1, 0]
    assert with_segments(base, drawn, SCHEMA, ()).tolist() == base.tolist()
    assert with_segments(base, drawn, SCHEMA, SCHEMA.segment_names).tolist() == drawn.tolist()


def test_a_label_that_the_model_has_not_is_not_kept(tmp_path: Path) -> None:
    store, odd = CorrectionStore(tmp_path), _mask(4)
    odd[7, 7, 7] = 9
    with pytest.raises(MedmtlError, match="Reload the page"):
        store.keep(
            odd, CASE, before=_mask(4), geometry=GRID, schema=SCHEMA, volume="ct",
            reviewer="one", source="painted",
        )  # fmt: skip
    assert store.newest(CASE, "ct") is None


@pytest.mark.parametrize(
    ("first", "second", "expected"), [(4, 4, 1.0), (0, 0, None), (4, 0, 0.0), (2, 6, 0.5)]
)
def test_dice(first: int, second: int, expected: float | None) -> None:
    assert mask_dice(_mask(first) == 1, _mask(second) == 1) == expected
