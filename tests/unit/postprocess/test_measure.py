"""Volumes, intensities and places known on paper."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.volume import Volume
from medmtl.postprocess.measure import describe_segment, measure_segments

SCHEMA = LabelSchema(
    segments=(SegmentSpec(2, "cube"), SegmentSpec(300, "rest"), SegmentSpec(5, "no"))
)


def cube_volume() -> tuple[Volume, NDArray[Any]]:
    grid = Geometry.from_parts(
        shape=(30, 30, 12), spacing_mm=(1, 2, 5), origin_lps=(-10, 0, 100),
        direction=np.diag([1.0, -1.0, 1.0]),
    )  # fmt: skip
    labels = np.zeros(grid.shape, dtype=np.uint16)
    labels[10:20, 5:10, 4:6] = 2  # a cube of 10 mm, 1 mL
    labels[0, 0, 0] = 300
    array = np.where(labels == 2, -40, 7).astype(np.int16)
    array[10:15, 5:10, 4:6] = 60
    return Volume(array=array, geometry=grid, id="ct"), labels


def test_a_cube_of_ten_millimetres_has_one_millilitre() -> None:
    volume, labels = cube_volume()
    cube, rest, empty = measure_segments(volume, labels, SCHEMA)
    assert (cube.volume, cube.label, cube.name, cube.voxels) == ("ct", 2, "cube", 100)
    assert cube.volume_ml == pytest.approx(1.0)
    assert cube.mean_intensity == pytest.approx(10.0)
    assert (rest.voxels, rest.mean_intensity) == (1, 7.0)
    assert (empty.voxels, empty.volume_ml, empty.mean_intensity) == (0, 0.0, None)


def test_a_sphere_has_its_volume() -> None:
    axis = np.arange(-30, 31) * 1.0
    inside = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) <= 25.0**2
    grid = Geometry.from_parts(shape=inside.shape, spacing_mm=(1, 1, 1))
    schema = LabelSchema(segments=(SegmentSpec(1, "ball"),))
    volume = Volume(array=np.zeros(inside.shape), geometry=grid)
    [ball] = measure_segments(volume, inside.astype(np.uint8), schema)
    assert ball.volume_ml == pytest.approx(4 / 3 * np.pi * 25**3 / 1000, rel=0.005)


def test_place_border_and_pieces() -> None:
    volume, labels = cube_volume()
    shape = describe_segment(labels, volume.geometry, label=2)
    assert shape is not None
    assert describe_segment(np.asfortranarray(labels), volume.geometry, label=2) == shape
    assert shape.centroid_lps == pytest.approx((-10 + 14.5, -2 * 7, 100 + 4.5 * 5))
    assert shape.touches_border == (False, False, False)
    assert shape.pieces == 1
    labels[29, 20:22, 5] = 2
    moved = describe_segment(labels, volume.geometry, label=2)
    assert moved is not None
    assert moved.touches_border == (True, False, False)
    assert moved.pieces == 2
    assert describe_segment(labels, volume.geometry, label=5) is None
    assert describe_segment(labels, volume.geometry, label=999) is None


def test_another_grid_is_refused() -> None:
    volume, labels = cube_volume()
    with pytest.raises(ValueError, match="not on"):
        measure_segments(volume, labels[1:], SCHEMA)
