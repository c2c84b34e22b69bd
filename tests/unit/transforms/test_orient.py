"""Orientation is exact: only permutations and mirrorings, whatever the storage order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from medmtl.core.geometry import Geometry, points_to_space
from medmtl.transforms.orient import AxisPlan, display_plan, lps_plan, plan_axes

SIGNED_AXES = [
    np.eye(3)[:, list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1.0, -1.0), repeat=3)
]


def oblique() -> NDArray[Any]:
    """A short-axis plane: the slice normal leans left, anterior and down."""
    normal = np.array([0.6, -0.64, -0.48])
    row = np.cross([0.0, 0.0, 1.0], normal)
    row /= np.linalg.norm(row)
    return np.stack([row, np.cross(normal, row), normal], axis=1)


def grid(
    direction: NDArray[Any],
    spacing_mm: Sequence[float] = (1.0, 1.2, 8.0),
    shape: Sequence[int] = (4, 5, 3),
) -> Geometry:
    return Geometry.from_parts(
        shape=shape, spacing_mm=spacing_mm, origin_lps=(7, -3, 11), direction=direction
    )


def numbered(geometry: Geometry) -> NDArray[Any]:
    return np.arange(np.prod(geometry.shape)).reshape(geometry.shape)


def voxels_in_space(array: NDArray[Any], geometry: Geometry) -> dict[int, tuple[float, ...]]:
    index = np.argwhere(np.ones(geometry.shape, dtype=bool))
    points = points_to_space(geometry.affine_lps, index).round(6) + 0.0
    return dict(zip(array[tuple(index.T)].tolist(), map(tuple, points.tolist()), strict=True))


@pytest.mark.parametrize("direction", SIGNED_AXES)
@pytest.mark.parametrize("orientation", ["LPS", "display"])
def test_every_voxel_stays_where_it_is_in_space(
    direction: NDArray[Any], orientation: Literal["LPS", "display"]
) -> None:
    source = grid(direction)
    plan = plan_axes(source, orientation)
    moved = plan.apply_geometry(source)
    before = voxels_in_space(numbered(source), source)
    assert voxels_in_space(plan.apply(numbered(source)), moved) == before


@pytest.mark.parametrize("direction", SIGNED_AXES)
def test_lps_plan_points_left_posterior_superior(direction: NDArray[Any]) -> None:
    assert lps_plan(grid(direction)).apply_geometry(grid(direction)).axis_code == "LPS"


@pytest.mark.parametrize("base", [np.eye(3), oblique()], ids=["axial", "short-axis"])
def test_display_looks_the_same_however_the_stack_was_stored(base: NDArray[Any]) -> None:
    wanted = display_plan(grid(base)).apply_geometry(grid(base))
    for stored in SIGNED_AXES:
        order = np.abs(stored).argmax(axis=0)
        direction = base @ stored
        spacing = np.array([1.0, 1.0, 8.0])[order]
        shape = np.array([4, 5, 3])[order]
        seen = display_plan(grid(direction, spacing, shape)).apply_geometry(
            grid(direction, spacing, shape)
        )
        np.testing.assert_allclose(seen.direction, wanted.direction, atol=1e-12)
        assert seen.spacing_mm == pytest.approx((1.0, 1.0, 8.0))


def test_display_is_right_handed_for_mirrored_storage() -> None:
    for direction in (np.diag([1.0, 1.0, -1.0]), np.diag([-1.0, 1.0, 1.0]), oblique()):
        seen = display_plan(grid(direction)).apply_geometry(grid(direction))
        assert np.linalg.det(seen.direction) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("code", "direction"),
    [
        ("LPS", np.eye(3)),
        ("LIP", np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])),  # coronal: down is inferior
        ("PIR", np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]])),  # sagittal: right is posterior
    ],
)
def test_display_of_the_three_main_planes(code: str, direction: NDArray[Any]) -> None:
    spacing = (1.0, 1.0, 8.0)
    seen = display_plan(grid(direction, spacing)).apply_geometry(grid(direction, spacing))
    assert seen.axis_code == code


def test_a_stack_as_acdc_stores_it_is_left_alone() -> None:
    source = grid(np.eye(3), spacing_mm=(1.5625, 1.5625, 10.0))
    assert display_plan(source) == AxisPlan(order=(0, 1, 2), is_flipped=(False, False, False))


def test_without_a_thick_axis_the_third_is_the_slice_axis() -> None:
    plan = display_plan(grid(np.eye(3), spacing_mm=(1.4, 1.0, 1.0)))
    assert plan.order[2] == 2
    thick = display_plan(grid(np.eye(3), spacing_mm=(1.5, 1.0, 1.0)))
    assert thick.order[2] == 0
