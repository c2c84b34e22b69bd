"""Slices are ordered by position, and only a regular grid is read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmtl.core.geometry import Geometry
from medmtl.core.study import Listing
from medmtl.data.intake import open_input
from tests.dicom_factory import make_series

SHAPE = (5, 4, 6)
STORED = np.arange(120, dtype=np.int16).reshape(SHAPE)


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn_x = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    turn_z = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    return np.array(turn_x) @ np.array(turn_z)


DIRECTIONS = {
    "axial": np.eye(3),
    "sagittal": np.array([[0, 0, -1], [1, 0, 0], [0, -1, 0]]).astype(float),
    "coronal": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]).astype(float),
    "oblique": rotation(20.0),
}


def codes(listing: Listing) -> set[str]:
    return {flag.code for study in listing.studies for ref in study.volumes for flag in ref.flags}


def positions(heights: list[float], *, lateral: list[float] | None = None) -> list[list[str]]:
    shifts = lateral or [0.0] * len(heights)
    return [["-10", f"{-20 + y:.5f}", f"{z:.5f}"] for y, z in zip(shifts, heights, strict=True)]


@pytest.mark.parametrize("name", sorted(DIRECTIONS))
def test_every_orientation_is_read_exactly(name: str, tmp_path: Path) -> None:
    grid = Geometry.from_parts(
        shape=SHAPE, spacing_mm=(0.7, 1.3, 4.0), origin_lps=(5, -6, 7), direction=DIRECTIONS[name]
    )
    make_series(tmp_path, array=STORED, geometry=grid)
    (ref,) = open_input(tmp_path).studies[0].volumes
    volume = ref.read()
    assert volume.geometry.is_close(grid, tolerance_voxel=1e-4)
    assert np.array_equal(volume.array, STORED)
    assert volume.array.dtype == np.int16


def test_spacing_comes_from_positions_not_from_thickness(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED, SliceThickness="9", SpacingBetweenSlices="7")
    (ref,) = open_input(tmp_path).studies[0].volumes
    assert ref.geometry.spacing_mm == pytest.approx((1.0, 1.0, 2.5))


def test_jitter_of_one_percent_is_read(tmp_path: Path) -> None:
    heights = [30 + 2.5 * k + jitter for k, jitter in enumerate([0, 0.025, -0.025, 0.025, 0, 0])]
    make_series(tmp_path, array=STORED, per_slice={"ImagePositionPatient": positions(heights)})
    (ref,) = open_input(tmp_path).studies[0].volumes
    assert ref.geometry.spacing_mm[2] == pytest.approx(2.5, rel=0.01)
    assert np.array_equal(ref.read().array, STORED)


def test_a_missing_slice_is_refused_with_gap_and_place(tmp_path: Path) -> None:
    heights = [30, 32.5, 35, 40, 42.5, 45]
    make_series(tmp_path, array=STORED, per_slice={"ImagePositionPatient": positions(heights)})
    listing = open_input(tmp_path)
    assert not listing.studies
    (refusal,) = listing.refusals
    assert refusal.code == "missing-slices"
    assert "5.00 mm after slice 3 of 6" in refusal.found
    assert refusal.expected == "2.50 mm"


def test_uneven_gaps_are_resampled_and_flagged(tmp_path: Path) -> None:
    heights = [30.0, 32.0, 34.0, 36.0, 39.0, 41.0]
    ramp = np.broadcast_to(np.array(heights) * 10, SHAPE).astype(np.int16)
    make_series(tmp_path, array=ramp, per_slice={"ImagePositionPatient": positions(heights)})
    listing = open_input(tmp_path)
    assert "uneven-spacing-resampled" in codes(listing)
    volume = listing.studies[0].volumes[0].read()
    z_mm = np.linspace(30.0, 41.0, volume.array.shape[2])
    assert volume.geometry.origin_lps[2] == pytest.approx(30.0)
    assert volume.geometry.spacing_mm[2] == pytest.approx(z_mm[1] - z_mm[0])
    assert np.allclose(volume.array[2, 2], z_mm * 10, atol=1e-3)


@pytest.mark.parametrize("last_mm", [40.7, 41.0, 41.9])
def test_uneven_slices_are_resampled_from_the_first_to_the_last(
    last_mm: float, tmp_path: Path
) -> None:
    heights = [30.0, 32.0, 34.0, 36.0, 39.0, last_mm]
    make_series(tmp_path, array=STORED, per_slice={"ImagePositionPatient": positions(heights)})
    volume = open_input(tmp_path).studies[0].volumes[0].read()
    ends_mm = volume.geometry.affine_lps[2, 2] * np.array([0, volume.array.shape[2] - 1]) + 30
    assert np.allclose(ends_mm, [30.0, last_mm])
    assert np.array_equal(volume.array[..., [0, -1]], STORED[..., [0, -1]])


@pytest.mark.parametrize("gaps", [[5, 10], [5, 5, 10, 10], [5, 10, 5, 10]])
def test_gaps_of_which_half_are_twice_the_others_are_missing_slices(
    gaps: list[int], tmp_path: Path
) -> None:
    heights: list[float] = np.cumsum([30.0, *gaps]).tolist()
    tags = {"ImagePositionPatient": positions(heights)}
    make_series(tmp_path, array=STORED[..., : len(heights)], per_slice=tags)
    (refusal,) = open_input(tmp_path).refusals
    assert (refusal.code, refusal.expected) == ("missing-slices", "5.00 mm")


def test_gantry_tilt_becomes_rectilinear(tmp_path: Path) -> None:
    heights = [30 + 2.5 * k for k in range(6)]
    shift = [1.0 * k for k in range(6)]
    y_mm = -20 + np.arange(4)[:, None] + np.array(shift)
    ramp = np.broadcast_to(100 + 5 * y_mm, SHAPE).astype(np.int16)
    tags = {"ImagePositionPatient": positions(heights, lateral=shift)}
    make_series(tmp_path, array=ramp, per_slice=tags)
    listing = open_input(tmp_path)
    assert "gantry-tilt-resampled" in codes(listing)
    volume = listing.studies[0].volumes[0].read()
    assert np.abs(volume.geometry.direction - np.eye(3)).max() < 1e-9
    truth = 100 + 5 * (volume.geometry.origin_lps[1] + np.arange(volume.array.shape[1]))
    inside = volume.array[2] > volume.array.min()
    assert inside.sum() >= 18
    expected = np.broadcast_to(truth[:, None], volume.array.shape[1:])
    assert np.allclose(volume.array[2][inside], expected[inside], atol=1e-3)


def test_one_slice_shifted_in_its_plane_is_refused(tmp_path: Path) -> None:
    heights = [30 + 2.5 * k for k in range(6)]
    tags = {"ImagePositionPatient": positions(heights, lateral=[0, 0, 0, 10, 0, 0])}
    make_series(tmp_path, array=STORED, per_slice=tags)
    listing = open_input(tmp_path)
    assert [refusal.code for refusal in listing.refusals] == ["shifted-slices"]


def test_case_id_depends_on_nothing_but_the_study(tmp_path: Path) -> None:
    make_series(tmp_path / "a", array=STORED)
    make_series(tmp_path / "b" / "deep", array=STORED[..., ::-1].copy(), name="other", study="x")
    make_series(tmp_path / "b" / "renamed", array=STORED)
    alone = open_input(tmp_path / "a").studies[0]
    both = {study.case_id: study for study in open_input(tmp_path / "b").studies}
    assert len(both) == 2
    assert [ref.id for ref in both[alone.case_id].volumes] == [ref.id for ref in alone.volumes]
