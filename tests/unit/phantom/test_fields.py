from __future__ import annotations

import numpy as np
import pytest

from medmtl.core.geometry import Geometry
from medmtl.phantom.fields import (
    Points,
    ellipsoid,
    rotation,
    smallest,
    smooth_noise,
    tube,
)


def _cube(size: int, spacing_mm: float) -> Geometry:
    return Geometry.from_parts(shape=(size,) * 3, spacing_mm=(spacing_mm,) * 3)


def _points(size: int, spacing_mm: float) -> Points:
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(spacing_mm)
    return Points(*np.meshgrid(axis, axis, axis, indexing="ij"))


def test_ellipsoid_has_the_volume_known_on_paper() -> None:
    inside = ellipsoid(_points(60, 1.0), centre_mm=(0, 0, 0), radii_mm=(25, 15, 10)) < 1
    assert inside.sum() == pytest.approx(4 / 3 * np.pi * 25 * 15 * 10, rel=0.01)


def test_turning_an_ellipsoid_by_90_degrees_swaps_its_axes() -> None:
    points = _points(41, 1.0)
    turned = ellipsoid(points, centre_mm=(0, 0, 0), radii_mm=(18, 6, 6), angles_deg=(0, 0, 90))
    plain = ellipsoid(points, centre_mm=(0, 0, 0), radii_mm=(6, 18, 6))
    np.testing.assert_allclose(turned, plain, atol=1e-4)


def test_rotation_is_a_proper_rotation() -> None:
    turn = rotation((10.0, -25.0, 70.0))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_tube_is_one_at_its_radius() -> None:
    field = tube(_points(41, 1.0), path_mm=[(0, 0, -50), (0, 0, 50)], radius_mm=7.0)
    assert field[27, 20, 20] == pytest.approx(1.0)
    assert field[20, 20, 5] == pytest.approx(0.0)


def test_smallest_takes_exactly_so_many_voxels_inside(rng: np.random.Generator) -> None:
    field = rng.random((9, 9, 9), dtype=np.float32)
    inside = rng.random((9, 9, 9)) < 0.5
    chosen = smallest(field, inside=inside, count=37)
    assert chosen.sum() == 37
    assert not (chosen & ~inside).any()
    assert field[chosen].max() <= field[inside & ~chosen].min()
    assert not smallest(field, inside=inside, count=0).any()


def test_noise_of_one_seed_is_the_same_field_at_every_spacing() -> None:
    coarse = smooth_noise(_cube(24, 4.0), step_mm=30, rng=np.random.default_rng(5))
    fine = smooth_noise(_cube(48, 2.0), step_mm=30, rng=np.random.default_rng(5))
    # A coarse voxel centre lies in the middle of eight fine ones.
    averaged = fine.reshape(24, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse, averaged, atol=0.05)
    assert 0.6 < fine.std() < 1.5
