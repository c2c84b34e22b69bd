"""The way between two parallel grids is linear interpolation at the right places, no more."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medmtl.core.geometry import Geometry, points_to_space
from medmtl.core.resample import SlabInterpolator, interpolate_slabs, nearest, parallel_axes

SIGNED = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def related(source: Geometry, order: tuple[int, ...], signs: tuple[int, ...]) -> Geometry:
    """A permuted, mirrored, scaled and shifted grid over the same region."""
    to_source = np.zeros((4, 4))
    to_source[3, 3] = 1
    scale = (0.7, 1.6, 1.1)
    for axis, (own, sign) in enumerate(zip(order, signs, strict=True)):
        to_source[own, axis] = sign * scale[axis]
        to_source[own, 3] = 0.3 if sign > 0 else source.shape[own] - 1.4
    return Geometry(shape=(9, 6, 7), affine_lps=source.affine_lps @ to_source)


@pytest.mark.parametrize(("order", "signs"), SIGNED)
def test_equals_scipy_at_every_point(
    order: tuple[int, ...], signs: tuple[int, ...], rng: np.random.Generator
) -> None:
    tilt = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    source = Geometry.from_parts(
        shape=(7, 8, 9), spacing_mm=(1, 2, 3), origin_lps=(5, 6, 7), direction=tilt
    )
    target = related(source, order, signs)
    array = rng.normal(size=source.shape)
    index = np.argwhere(np.ones(target.shape, dtype=bool))
    to_source = np.linalg.inv(source.affine_lps) @ target.affine_lps
    points = points_to_space(to_source, index)
    inside = ((points >= -0.5) & (points <= np.array(source.shape) - 0.5)).all(axis=1)
    expected = np.where(inside, map_coordinates(array, points.T, order=1, mode="nearest"), -9.0)

    slabs = list(interpolate_slabs(array, source, target, outside=-9.0))
    found = np.concatenate([values for _, values in slabs], axis=2)
    assert inside.any()
    np.testing.assert_allclose(found, expected.reshape(target.shape), atol=1e-5)


def test_slabs_of_any_size_give_the_same(rng: np.random.Generator) -> None:
    source = Geometry.from_parts(shape=(5, 6, 4), spacing_mm=(2, 2, 5))
    target = Geometry.from_parts(shape=(10, 12, 20), spacing_mm=(1, 1, 1), origin_lps=(-1, 0, -3))
    interpolator = SlabInterpolator(rng.normal(size=source.shape), source, target)
    whole = interpolator.slab(slice(0, 20))
    for voxels in (1, 120, 700):
        parts = [interpolator.slab(p) for p in interpolator.planes(max_voxels=voxels)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


@pytest.mark.parametrize("flip", [False, True])
def test_what_is_skipped_where_the_array_is_outside_is_what_would_be_there(
    rng: np.random.Generator, flip: bool
) -> None:
    source = Geometry.from_parts(shape=(7, 6, 5), spacing_mm=(2, 2, 5))
    if flip:
        affine = source.affine_lps.copy()
        affine[:3, 3] += affine[:3, :2] @ [6, 5]
        affine[:3, :2] *= -1
        source = Geometry(shape=source.shape, affine_lps=affine)
    target = Geometry.from_parts(shape=(16, 12, 23), spacing_mm=(0.9, 1, 1.1), origin_lps=(1, 0, 0))
    array = np.zeros(source.shape)
    array[2:4, 3, 1:3] = rng.normal(size=(2, 2))
    [(_, near_zero)] = interpolate_slabs(array, source, target)
    shifted = [values for _, values in interpolate_slabs(array, source, target, outside=-7.0)]
    inside = shifted[0] != -7.0  # no value of the array is -7: nothing was skipped
    assert near_zero.any()
    np.testing.assert_array_equal(near_zero[inside], shifted[0][inside])
    assert not near_zero[~inside].any()


def test_same_grid_is_the_same_array(rng: np.random.Generator) -> None:
    grid = Geometry.from_parts(shape=(5, 6, 4), spacing_mm=(0.3, 0.7, 5), origin_lps=(3, 1, 4))
    array = rng.normal(size=grid.shape).astype(np.float32)
    [(planes, values)] = interpolate_slabs(array, grid, grid)
    assert planes == slice(0, 4)
    np.testing.assert_array_equal(values, array)


def test_disjoint_grids_give_outside_everywhere() -> None:
    grid = Geometry.from_parts(shape=(3, 3, 3), spacing_mm=(1, 1, 1))
    far = Geometry.from_parts(shape=(3, 3, 3), spacing_mm=(1, 1, 1), origin_lps=(50, 0, 0))
    [(_, values)] = interpolate_slabs(np.ones(grid.shape), grid, far, outside=-1.0)
    assert (values == -1.0).all()


def test_nearest_takes_whole_labels() -> None:
    grid = Geometry.from_parts(shape=(2, 1, 1), spacing_mm=(4, 4, 4))
    fine = Geometry.from_parts(shape=(10, 1, 1), spacing_mm=(1, 4, 4), origin_lps=(-2.5, 0, 0))
    labels = np.array([7, 300], dtype=np.uint16).reshape(2, 1, 1)
    found = nearest(labels, grid, fine)
    assert found.dtype == np.uint16
    assert found[:, 0, 0].tolist() == [0, 7, 7, 7, 7, 300, 300, 300, 300, 0]


def test_oblique_grids_are_refused() -> None:
    grid = Geometry.from_parts(shape=(50, 50, 50), spacing_mm=(1, 1, 1))
    turn = np.array([[0.995, -0.0998, 0], [0.0998, 0.995, 0], [0, 0, 1]])
    turned = Geometry.from_parts(shape=(50, 50, 50), spacing_mm=(1, 1, 1), direction=turn)
    with pytest.raises(ValueError, match="not parallel"):
        parallel_axes(grid, turned)


def test_array_of_another_shape_is_refused() -> None:
    grid = Geometry.from_parts(shape=(3, 3, 3), spacing_mm=(1, 1, 1))
    with pytest.raises(ValueError, match="not on the grid"):
        next(interpolate_slabs(np.zeros((3, 3, 4)), grid, grid))
