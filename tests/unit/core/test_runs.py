"""Runs of a label map: what they say of it is what the voxels say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from medmtl.core.runs import Runs


def noise(seed: int, order: str) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 9, 3))
    labels = rng.choice([0, 1, 2, 300], shape).astype(np.uint16)
    return np.asarray(labels * (rng.random(shape) < 0.4), order="F" if order == "F" else "C")


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_those_of_scipy(seed: int, order: str) -> None:
    label_map = noise(seed, order)
    found = enumerate(ndimage.find_objects(label_map), start=1)
    expected = {label: box for label, box in found if box is not None}
    assert Runs.of_volume(label_map).boxes() == expected


@pytest.mark.parametrize("seed", range(12))
def test_the_runs_of_each_plane_are_its_voxels(seed: int) -> None:
    label_map = noise(seed, "F")
    runs = Runs.of_volume(label_map)
    planes = list(runs.planes())
    assert len(planes) == label_map.shape[2]
    for k, here in enumerate(planes):
        voxels = int((runs.stop[here] - runs.start[here]).sum())
        assert voxels == np.count_nonzero(label_map[:, :, k])


def test_an_empty_map_has_no_boxes() -> None:
    assert Runs.of_volume(np.zeros((3, 2, 4), np.uint8)).boxes() == {}
