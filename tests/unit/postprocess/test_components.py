"""Small islands go, organs and lesions stay, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.runs import Runs
from medmtl.postprocess.components import ComponentRules, clean_components

SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "heart"),
        SegmentSpec(2, "lung"),
        SegmentSpec(3, "lung_nodule", is_lesion=True),
        SegmentSpec(4, "liver"),
    )
)
GRID = Geometry.from_parts(shape=(20, 20, 20), spacing_mm=(10, 10, 10))  # 1 mL each


def scene() -> NDArray[Any]:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[0:3, 0:3, 0:3] = 1  # 27 mL
    labels[10:12, 0:2, 0:2] = 1  # 8 mL, a second heart
    labels[0:4, 10:14, 0:4] = 2  # left lung, 64 mL
    labels[10:14, 10:14, 0:3] = 2  # right lung, 48 mL
    labels[19, 19, 0] = 2  # 1 mL island
    labels[0:2, 0:2, 15:17] = 3  # 8 mL
    labels[10, 10, 15] = 3  # 1 mL
    return labels


def clean(labels: NDArray[Any], **rules: object) -> np.ndarray:
    found = ComponentRules.model_validate(rules)
    cleaned, runs = clean_components(labels, GRID, SCHEMA, rules=found)
    expected = Runs.of_volume(cleaned)
    for name in ("start", "stop", "label"):
        np.testing.assert_array_equal(getattr(runs, name), getattr(expected, name))
    return cleaned


def test_without_rules_nothing_changes() -> None:
    np.testing.assert_array_equal(clean(scene()), scene())


def test_only_the_largest_heart_stays() -> None:
    cleaned = clean(scene(), keep_largest=("heart",))
    assert np.count_nonzero(cleaned == 1) == 27
    assert np.count_nonzero(cleaned == 2) == 113
    assert (cleaned[10:12, 0:2, 0:2] == 0).all()


def test_the_order_in_memory_does_not_matter() -> None:
    rules = {"keep_largest": ("heart",), "min_share": 0.1, "min_lesion_ml": 2.0}
    in_file_order = np.asfortranarray(scene())
    other = clean(in_file_order, **rules)
    assert np.shares_memory(other, in_file_order)
    np.testing.assert_array_equal(other, clean(scene(), **rules))


def test_both_lungs_stay_and_the_island_goes() -> None:
    cleaned = clean(scene(), min_share=0.1)
    assert np.count_nonzero(cleaned == 2) == 112
    assert np.count_nonzero(cleaned == 1) == 35


def test_lesions_stay_above_their_smallest_volume() -> None:
    assert np.count_nonzero(clean(scene(), min_lesion_ml=1.0) == 3) == 9
    assert np.count_nonzero(clean(scene(), min_lesion_ml=1.1) == 3) == 8
    assert np.count_nonzero(clean(scene(), min_lesion_ml=9.0) == 3) == 0


def test_corners_connect() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint16)
    labels[1, 1, 1] = labels[2, 2, 2] = 1
    cleaned = clean(labels, keep_largest=("heart",))
    assert cleaned.dtype == np.uint16
    assert np.count_nonzero(cleaned) == 2


def test_of_one_organ_a_part_beside_the_rest_stays_and_a_larger_one_far_away_goes() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[2:8, 2:8, 2:8] = 4  # 216 mL, the body of the organ
    labels[8:10, 2:4, 2:4] = 1  # 8 mL, its small part
    labels[15:19, 15:19, 15:19] = 1  # 64 mL of the same segment far away
    rules = {"is_one_organ": True, "keep_largest": ("heart",)}
    for array in (labels, np.asfortranarray(labels)):
        cleaned = clean(array, **rules)
        assert np.count_nonzero(cleaned == 1) == 8
        assert np.count_nonzero(cleaned == 4) == 216
