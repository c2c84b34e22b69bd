"""The pointing game on grids whose relation is known."""

from __future__ import annotations

import numpy as np
import pytest

from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume
from medmtl.metrics.localisation import is_peak_inside

FINE = Geometry.from_parts(shape=(40, 40, 8), spacing_mm=(1, 1, 5))
COARSE = Geometry.from_parts(shape=(5, 5, 4), spacing_mm=(8, 8, 10), origin_lps=(3.5, 3.5, 2.5))


def cam_with_peak(*index: int) -> Volume:
    array = np.full(COARSE.shape, 0.1)
    array[index] = 1.0
    return Volume(array=array, geometry=COARSE)


@pytest.fixture
def mask() -> np.ndarray:
    """Ten voxels wide around x = y = 20 mm, z = 15 mm."""
    mask = np.zeros(FINE.shape, dtype=bool)
    mask[16:26, 16:26, 2:5] = True
    return mask


def test_a_peak_whose_cell_reaches_the_mask_is_a_hit(mask: np.ndarray) -> None:
    assert is_peak_inside(cam_with_peak(2, 2, 1), mask, geometry=FINE) is True


def test_a_peak_elsewhere_is_a_miss(mask: np.ndarray) -> None:
    assert is_peak_inside(cam_with_peak(0, 0, 1), mask, geometry=FINE) is False
    assert is_peak_inside(cam_with_peak(2, 2, 3), mask, geometry=FINE) is False


def test_a_map_of_zeros_misses_and_an_empty_mask_asks_nothing(mask: np.ndarray) -> None:
    nothing = Volume(array=np.zeros(COARSE.shape), geometry=COARSE)
    assert is_peak_inside(nothing, mask, geometry=FINE) is False
    assert is_peak_inside(cam_with_peak(2, 2, 1), np.zeros_like(mask), geometry=FINE) is None


def test_a_map_finer_than_the_mask_hits_inside_a_voxel() -> None:
    fine = Geometry.from_parts(shape=(50, 50, 40), spacing_mm=(0.8, 0.8, 1))
    array = np.zeros(fine.shape)
    array[25, 25, 17] = 1.0  # (20.0, 20.0, 17.0) mm: in the mask, off its voxel centres
    big = np.zeros(FINE.shape, dtype=bool)
    big[20, 20, 3] = True
    assert is_peak_inside(Volume(array=array, geometry=fine), big, geometry=FINE) is True
