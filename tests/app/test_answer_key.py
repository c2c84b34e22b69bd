"""The same answer has the same key, another one has another."""

from __future__ import annotations

from copy import deepcopy

import pytest

from medmtl.core.answer_key import answer_key
from tests.app.results import case_record, finding


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({"timings_s": {"total": 9.0}}, True),
        ({"segments": [{"volume": "ct", "label": 1, "voxels": 8}]}, False),
        ({"findings": [finding("nodule", 0.4)]}, False),
    ],
)
def test_key(change: dict[str, object], is_same: bool) -> None:
    record = case_record("a", finding("nodule", 0.9))
    assert (answer_key(record | change) == answer_key(record)) == is_same


def test_another_series_on_the_same_grid_is_another_answer() -> None:
    record = case_record("a", finding("nodule", 0.9))
    other = deepcopy(record)
    other["source"]["volumes"][0]["series_uid"] = "2.25.3"
    assert answer_key(other) != answer_key(record)
