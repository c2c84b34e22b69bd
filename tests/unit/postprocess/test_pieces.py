"""Pieces found by runs are those that SciPy finds voxel by voxel, segment by segment."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.core.runs import Runs
from medmtl.postprocess.pieces import connected_pieces


def noise(seed: int) -> NDArray[np.uint8]:
    """A few labels in a small odd grid, sparse enough to fall into many pieces."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    return (rng.integers(0, 4, shape) * (rng.random(shape) < 0.5)).astype(np.uint8)


def drawn(runs: Runs, values: NDArray[np.integer]) -> NDArray[np.int64]:
    """One value per run, on its voxels; 0 elsewhere."""
    flat = np.zeros(runs.shape, dtype=np.int64).reshape(-1)
    for start, stop, value in zip(runs.start, runs.stop, values, strict=True):
        flat[start:stop] = value
    return flat.reshape(runs.shape)


@pytest.mark.parametrize("seed", range(40))
def test_pieces_and_their_sizes_are_those_of_scipy(seed: int) -> None:
    label_map = noise(seed)
    runs = Runs.of(label_map)
    piece, voxels = connected_pieces(runs)
    np.testing.assert_array_equal(drawn(runs, runs.label), label_map)
    found = drawn(runs, piece + 1)
    assert voxels.sum() == np.count_nonzero(label_map)
    pieces = 0
    for label in (1, 2, 3):
        mask = label_map == label
        expected, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        pairs = set(zip(expected[mask].tolist(), found[mask].tolist(), strict=True))
        assert len(pairs) == count  # one number of ours for each of SciPy's
        sizes = np.bincount(expected.ravel())
        assert all(voxels[ours - 1] == sizes[theirs] for theirs, ours in pairs)
        pieces += count
    assert len(voxels) == pieces


def test_the_end_of_a_line_does_not_touch_the_start_of_the_next() -> None:
    label_map = np.zeros((2, 3, 5), dtype=np.uint8)
    label_map[0, 0, 4] = label_map[0, 1, 0] = label_map[0, 2, 4] = 1
    assert connected_pieces(Runs.of(label_map))[1].tolist() == [1, 1, 1]


def test_chosen_runs_are_cleared_and_nothing_else() -> None:
    label_map = np.array([[[1, 1, 0, 2, 2], [0, 1, 0, 0, 2]]], dtype=np.uint8)
    runs = Runs.of(label_map)
    runs.clear(label_map, runs.label == 1)
    assert label_map.tolist() == [[[0, 0, 0, 2, 2], [0, 0, 0, 0, 2]]]


def test_an_empty_map_has_no_pieces() -> None:
    runs = Runs.of(np.zeros((2, 2, 2), dtype=np.uint8))
    assert [len(part) for part in connected_pieces(runs)] == [0, 0]
