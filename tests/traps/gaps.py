"""Series that are no regular, rectilinear grid: resampled and flagged, or refused."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.traps.expectation import Expectation, Field, Image, reads, refuses
from tests.traps.series import (
    AXIAL,
    ORIGIN,
    SPACING_MM,
    Series,
    affine_of,
    assign,
    distinct_values,
    make_series,
    rotation,
    uid,
)

GRADIENT = np.array([31.0, -17.0, 23.0])
RAMP_SLOPE = 0.1


def ramp(points_lps: NDArray[np.float64]) -> NDArray[np.float64]:
    """A scene linear in space: every linear interpolation of it is exact."""
    return np.asarray((points_lps - np.array(ORIGIN)) @ GRADIENT + 500.0)


def ramp_series(
    slice_mm: NDArray[np.float64],
    *,
    shape: tuple[int, int] = (8, 7),
    direction: NDArray[np.float64] = AXIAL,
    slice_axis: NDArray[np.float64] | None = None,
) -> Series:
    """Slices of the ramp at distances along `slice_axis` (default: the normal), mm."""
    affine = affine_of(direction, SPACING_MM, ORIGIN)
    axis = direction[:, 2] if slice_axis is None else slice_axis
    positions = np.array(ORIGIN) + np.outer(slice_mm, axis)
    index = np.indices(shape).reshape(2, -1).T
    in_plane = index @ affine[:3, :2].T
    values = np.stack([ramp(in_plane + position) for position in positions], axis=-1)
    stored = np.rint((values + 1024.0) / RAMP_SLOPE).astype(np.int64)
    return make_series(
        shape=(*shape, len(slice_mm)), spacing_mm=SPACING_MM, direction=direction,
        positions=positions, stored=stored.reshape(*shape, -1), slope=RAMP_SLOPE,
    )  # fmt: skip


def field_of(
    slice_mm: NDArray[np.float64],
    *,
    direction: NDArray[np.float64] = AXIAL,
    slice_axis: NDArray[np.float64] | None = None,
    holes: tuple[tuple[float, float], ...] = (),
) -> Field:
    """The truth of `ramp_series`: its hull from the first to the last slice."""
    axis = direction[:, 2] if slice_axis is None else slice_axis
    affine = affine_of(direction, SPACING_MM, ORIGIN)
    count = len(slice_mm)
    affine[:3, 2] = axis * (slice_mm[-1] - slice_mm[0]) / (count - 1)
    affine[:3, 3] = np.array(ORIGIN) + slice_mm[0] * axis
    return Field(ramp, (8, 7, count), affine, holes=holes)


def one_slice_missing(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1, 2, 4, 5, 6, 7])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True, refusal_mm=(5.0,))


def three_slices_missing(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1, 2, 3, 7, 8, 9])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True, refusal_mm=(10.0,))


def every_second_of_the_upper_half_missing(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1, 2, 3, 4, 6, 8, 10])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True, refusal_mm=(5.0,))


def oblique_with_a_missing_slice(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1, 3, 4, 5, 6])
    direction = rotation(0, 20.0)
    ramp_series(where, direction=direction).write(folder)
    truth = field_of(where, direction=direction)
    return reads(truth, flagged=True, may_refuse=True, refusal_mm=(5.0,))


def uneven_spacing(folder: Path) -> Expectation:
    where = np.array([0.0, 2.0, 4.5, 6.0, 9.0, 11.0, 12.5])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True)


def spacing_changes_halfway(folder: Path) -> Expectation:
    """As in a head CT: thin slices at the base, thick ones above."""
    where = np.array([0, 1.25, 2.5, 3.75, 5.0, 10.0, 15.0, 20.0])
    ramp_series(where).write(folder)
    truth = field_of(where)
    lower = field_of(where[:5])
    return Expectation(
        images=((truth,), (lower, field_of(where[4:]))),
        flagged=True, may_refuse=True, refusal_mm=(5.0,),
    )  # fmt: skip


def jitter_of_ten_percent(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1.1, 2, 3.1, 3.9, 5, 6])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True)


def spacing_drifts(folder: Path) -> Expectation:
    """Each step is only 0.8 % longer than the last; in the middle the error is 3/4 voxel."""
    steps = 2.5 * 1.008 ** np.arange(28)
    where = np.concatenate([[0.0], np.cumsum(steps)])
    ramp_series(where).write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True)


def in_plane_shift_of_one_slice(folder: Path) -> Expectation:
    """One slice lies 3 mm to the left: no grid, although the spacing is even."""
    where = 2.5 * np.arange(6.0)
    series = ramp_series(where)
    shifted = series.datasets[3].ImagePositionPatient
    assign(series.datasets[3], ImagePositionPatient=[shifted[0] + 3, shifted[1], shifted[2]])
    series.write(folder)
    return refuses()


def gantry_tilt(folder: Path) -> Expectation:
    """The plane is tilted by 20 degrees, the table moves along the body axis."""
    where, direction = 2.5 * np.arange(10.0), rotation(0, 20.0)
    axis = np.array([0.0, 0.0, 1.0])
    series = ramp_series(where, direction=direction, slice_axis=axis)
    series.set(GantryDetectorTilt="20.0")
    series.write(folder)
    truth = field_of(where, direction=direction, slice_axis=axis)
    return reads(truth, flagged=True, flag_words=("tilt", "resampl", "shear"), may_refuse=True)


def gantry_tilt_unsaid(folder: Path) -> Expectation:
    """The same without GantryDetectorTilt, mirrored, shuffled."""
    where, direction = 2.5 * np.arange(10.0), rotation(0, -15.0)
    axis = np.array([0.0, 0.0, 1.0])
    series = ramp_series(where, direction=direction, slice_axis=axis)
    series.write(folder, [f"{(7 * k) % 10}.dcm" for k in range(10)])
    truth = field_of(where, direction=direction, slice_axis=axis)
    return reads(truth, flagged=True, may_refuse=True)


def gantry_tilt_of_two_degrees(folder: Path) -> Expectation:
    """Small, but over 60 slices it moves the far end by 5 mm."""
    where, direction = 2.5 * np.arange(30.0), rotation(0, 4.0)
    axis = np.array([0.0, 0.0, 1.0])
    ramp_series(where, direction=direction, slice_axis=axis).write(folder)
    truth = field_of(where, direction=direction, slice_axis=axis)
    return reads(truth, flagged=True, may_refuse=True)


def tilt_said_but_not_there(folder: Path) -> Expectation:
    """GantryDetectorTilt is set, yet the slices are rectilinear: the positions decide."""
    series = make_series().set(GantryDetectorTilt="12.0")
    series.write(folder)
    return reads(series.image, may_refuse=True)


def tilt_and_missing_slice(folder: Path) -> Expectation:
    where, direction = 2.5 * np.array([0, 1, 2, 4, 5, 6, 7.0]), rotation(0, 20.0)
    axis = np.array([0.0, 0.0, 1.0])
    ramp_series(where, direction=direction, slice_axis=axis).write(folder)
    truth = field_of(where, direction=direction, slice_axis=axis)
    return reads(truth, flagged=True, may_refuse=True)


def duplicates_identical(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    series.write(folder / "copy")
    return reads(series.image, flagged=True)


def duplicate_of_one_slice(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    twin = copy.deepcopy(series.datasets[2])
    assign(twin, SOPInstanceUID=uid("twin"), InstanceNumber=99)
    Series([twin], series.stored, series.affine_lps).write(folder, ["twin"])
    return reads(series.image, flagged=True, may_refuse=True)


def duplicates_conflicting(folder: Path) -> Expectation:
    """Two different slices claim one position."""
    series = make_series()
    other = copy.deepcopy(series.datasets[2])
    other.PixelData = bytes(reversed(other.PixelData))
    assign(other, SOPInstanceUID=uid("other"), InstanceNumber=99)
    series.write(folder)
    Series([other], series.stored, series.affine_lps).write(folder, ["other"])
    return refuses(refusal_mm=(38.0,))


def duplicates_conflicting_under_one_sop_uid(folder: Path) -> Expectation:
    series = make_series()
    other = copy.deepcopy(series.datasets[2])
    other.PixelData = bytes(reversed(other.PixelData))
    series.write(folder)
    Series([other], series.stored, series.affine_lps).write(folder, ["other"])
    return refuses()


def duplicates_that_differ_in_rescale(folder: Path) -> Expectation:
    """Same pixels, another intercept: the values conflict."""
    series = make_series()
    other = copy.deepcopy(series.datasets[2])
    assign(other, SOPInstanceUID=uid("other"), InstanceNumber=99, RescaleIntercept="-900")
    series.write(folder)
    Series([other], series.stored, series.affine_lps).write(folder, ["other"])
    return refuses()


def all_slices_at_one_position(folder: Path) -> Expectation:
    positions = [ORIGIN] * 6
    series = make_series(positions=positions)
    series.write(folder)
    return refuses()


def sop_uid_repeated_at_other_positions(folder: Path) -> Expectation:
    """A careless export gives every slice the same SOP Instance UID."""
    series = make_series().set(SOPInstanceUID=uid("same"))
    series.write(folder)
    return reads(series.image, may_refuse=True)


def single_slice(folder: Path) -> Expectation:
    series = make_series(shape=(8, 7, 1))
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True)


def single_slice_without_thickness(folder: Path) -> Expectation:
    make_series(shape=(8, 7, 1)).set(SliceThickness=None).write(folder)
    return refuses()


def large_gap_between_two_blocks(folder: Path) -> Expectation:
    """Two stacks with a hand's breadth between them, same series, same orientation."""
    stored = distinct_values((8, 7, 12))
    lower = make_series(stored=stored[:, :, :6])
    upper = make_series(stored=stored[:, :, 6:], origin=(-11, -22, 133), first_instance=7)
    lower.write(folder / "x")
    upper.write(folder / "y")
    return reads(lower.image, upper.image, may_refuse=True, refusal_mm=(87.5,))


def grid_cell_too_large(folder: Path) -> Expectation:
    """Four slices of which one lies 200 mm away."""
    series = make_series(
        shape=(8, 7, 4), positions=[np.add(ORIGIN, (0, 0, z)) for z in (-202.5, 0, 1.25, 2.5)]
    )
    series.write(folder)
    affine = affine_of(AXIAL, (1.5, 0.75, 1.25), ORIGIN)
    upper = Image(series.image.array[:, :, 1:], affine)
    return reads(upper, flagged=True, may_refuse=True, refusal_mm=(202.5,))


TRAPS = (
    one_slice_missing, three_slices_missing, every_second_of_the_upper_half_missing,
    oblique_with_a_missing_slice, uneven_spacing, spacing_changes_halfway, jitter_of_ten_percent,
    spacing_drifts, in_plane_shift_of_one_slice, gantry_tilt, gantry_tilt_unsaid,
    gantry_tilt_of_two_degrees, tilt_said_but_not_there, tilt_and_missing_slice,
    duplicates_identical, duplicate_of_one_slice, duplicates_conflicting,
    duplicates_conflicting_under_one_sop_uid, duplicates_that_differ_in_rescale,
    all_slices_at_one_position, sop_uid_repeated_at_other_positions, single_slice,
    single_slice_without_thickness, large_gap_between_two_blocks, grid_cell_too_large,
)  # fmt: skip
