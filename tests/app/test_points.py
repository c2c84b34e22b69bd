"""Where a click leads: peaks, largest pieces and centres in patient space, known on paper."""

from __future__ import annotations

import numpy as np
import pytest

from app.services.points import largest_piece, structure_centre
from app.serving.peak import Place, map_peak
from medmtl.core.geometry import Geometry

# Axes permuted and mirrored: i runs to the head, j to the right, k to the back.
GRID = Geometry.from_parts(
    shape=(20, 20, 20),
    spacing_mm=(3.0, 1.0, 2.0),
    origin_lps=(10.0, -20.0, 30.0),
    direction=((0, -1, 0), (0, 0, 1), (1, 0, 0)),
)


def _lps(i: int, j: int, k: int) -> tuple[float, float, float]:
    return 10.0 - j, -20.0 + 2.0 * k, 30.0 + 3.0 * i


def test_the_peak_of_a_map_in_patient_space() -> None:
    activation = np.zeros(GRID.shape, dtype=np.float32)
    activation[4, 7, 9] = 0.9
    activation[5, 5, 5] = 0.4
    assert map_peak(activation, GRID) == Place(_lps(4, 7, 9), float(np.float32(0.9)))


def test_a_map_of_zeros_has_no_peak() -> None:
    assert map_peak(np.zeros(GRID.shape), GRID) == Place(None, 0.0)


def test_the_largest_of_two_lesions_is_shown() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[1:3, 1:3, 1:3] = 5
    labels[10:13, 10:13, 10:13] = 5
    assert largest_piece(labels, 5, GRID) == _lps(11, 11, 11)


@pytest.mark.parametrize("place", [largest_piece, structure_centre])
def test_a_segment_that_is_not_there_has_no_place(place: object) -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    assert callable(place)
    assert place(labels, 3, GRID) is None


def test_the_centre_of_two_lungs_lies_in_one_of_them() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[5, 2:5, 5] = labels[5, 15:18, 5] = 1
    found = structure_centre(labels, 1, GRID)
    assert found in {_lps(5, j, 5) for j in (2, 3, 4, 15, 16, 17)}


def test_the_centre_of_a_box_is_its_middle() -> None:
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    labels[2:5, 6:9, 10:13] = 2
    assert structure_centre(labels, 2, GRID) == _lps(3, 7, 11)
