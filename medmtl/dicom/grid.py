"""Order by position along the slice normal, and decide whether the positions form a grid.

The rule, in full:

- Slices are ordered by the projection of their position on the slice normal.
- Regular: every position within 2 % of the spacing of the fitted regular one and every gap within
  5 % of the median, and no slice shifted in its plane by more than a quarter pixel. Read as it is.
- Sheared: shifts in the plane that grow linearly with the position (gantry tilt). Resampled.
- Uneven: each gap at most 1.5 times the median, or the slices still touch each other because
  their thickness changes with the gap (head protocols). Resampled to about the median gap, from
  the first slice to the last. Of an even number of gaps it is the lower of the two in the middle.
- Everything else is refused, naming the gap and the place. Missing slices are never filled in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.geometry import Geometry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.dicom.frames import Frame

__all__ = ["Layout", "Rectification", "lay_out"]

POSITION_TOLERANCE = 0.02
"""Largest distance of a slice from its regular position, as a share of the spacing."""
GAP_TOLERANCE = 0.05
"""Largest difference of a gap from the median gap, as a share of it."""
SHIFT_TOLERANCE_PX = 0.25
"""Largest shift of a slice in its plane, in pixels."""
UNEVEN_FACTOR = 1.5
"""Largest gap that is resampled, as a multiple of the median gap."""
CONTIGUOUS_FACTOR = 1.1
"""A gap up to this multiple of the slice thickness leaves no tissue unseen."""
MAX_TILT_DEGREES = 45.0
_MISSING_TOLERANCE = 0.1
_JITTER_WORTH_A_FLAG = 0.002


@dataclass(frozen=True, eq=False)
class Rectification:
    """How slices become a rectilinear grid.

    Attributes:
        heights_mm: Position of each source slice along the normal, ascending, shape (n,).
        shifts_px: Shift of each source slice along (i, j) inside the target plane, shape (n, 2).
        target_heights_mm: Position of each target slice along the normal.
    """

    heights_mm: NDArray[np.float64]
    shifts_px: NDArray[np.float64]
    target_heights_mm: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layout:
    """Sorted frames and the grid they give, after rectification where there is one."""

    frames: tuple[Frame, ...]
    geometry: Geometry
    rectification: Rectification | None = None
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, eq=False)
class _Positions:
    """Positions of sorted frames in the coordinates of the stack."""

    frames: tuple[Frame, ...]
    axes: NDArray[np.float64]  # columns: row direction, column direction, normal
    heights_mm: NDArray[np.float64]
    shifts_px: NDArray[np.float64]

    @property
    def gaps_mm(self) -> NDArray[np.float64]:
        return np.diff(self.heights_mm)


def _stack_axes(frames: Sequence[Frame]) -> NDArray[np.float64]:
    mean = np.mean([frame.orientation for frame in frames], axis=0)
    row = mean[:3] / np.linalg.norm(mean[:3])
    column = mean[3:] - (mean[3:] @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)], axis=1)


def _positions(frames: Sequence[Frame]) -> _Positions:
    axes = _stack_axes(frames)
    points = np.array([frame.position for frame in frames]) @ axes
    order = np.argsort(points[:, 2], kind="stable")
    points = points[order]
    row_mm, column_mm = frames[0].spacing
    shifts = (points[:, :2] - points[0, :2]) / np.array([column_mm, row_mm])
    return _Positions(tuple(frames[index] for index in order), axes, points[:, 2].copy(), shifts)


def _refuse(source: str, code: str, found: str, expected: str, advice: str) -> InputRefusedError:
    return InputRefusedError(
        source, stage="sort", code=code, found=found, expected=expected, advice=advice
    )


def _check_gaps(positions: _Positions, source: str, median_mm: float) -> None:
    """Refuse gaps that cannot be explained without missing slices."""
    for number, gap_mm in enumerate(positions.gaps_mm):
        if gap_mm <= UNEVEN_FACTOR * median_mm or _touch(positions.frames, number, gap_mm):
            continue
        ratio = gap_mm / median_mm
        is_multiple = abs(ratio - round(ratio)) <= _MISSING_TOLERANCE * round(ratio)
        height = positions.heights_mm[number]
        raise _refuse(
            source,
            "missing-slices" if is_multiple else "uneven-spacing",
            f"a gap of {gap_mm:.2f} mm after slice {number + 1} of {len(positions.frames)} "
            f"(at {height:.2f} mm along the slice normal)",
            f"{median_mm:.2f} mm",
            "Slices may be missing; export the whole series again.",
        )


def _lower_median(gaps_mm: NDArray[np.float64]) -> float:
    """A gap that exists: the mean of 5 and 10 mm would let 10 pass for uneven."""
    return float(np.sort(gaps_mm)[(len(gaps_mm) - 1) // 2])


def _end_to_end(positions: _Positions, gap_mm: float) -> float:
    """About `gap_mm`, such that a whole number of gaps leads from the first slice to the last."""
    extent_mm = float(positions.heights_mm[-1] - positions.heights_mm[0])
    return extent_mm / max(1, round(extent_mm / gap_mm))


def _touch(frames: tuple[Frame, ...], number: int, gap_mm: float) -> bool:
    """Whether two neighbours touch although thickness changes in the series."""
    thickness = [float(frame.values.get("SliceThickness", 0)) for frame in frames]
    if max(thickness) - min(thickness) < 0.01 * max(thickness):
        return False
    own = (thickness[number] + thickness[number + 1]) / 2
    return min(thickness) > 0 and gap_mm <= CONTIGUOUS_FACTOR * own


def _fit(
    values: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slope of each column of `values` over `steps`, and the residuals."""
    design = np.stack([steps, np.ones_like(steps)], axis=1)
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    return solution[0], values - design @ solution


def _tilt_degrees(positions: _Positions, slope_px: NDArray[np.float64]) -> float:
    row_mm, column_mm = positions.frames[0].spacing
    return math.degrees(math.atan(math.hypot(slope_px[0] * column_mm, slope_px[1] * row_mm)))


def _check_shifts(positions: _Positions, source: str) -> float | None:
    """Tilt in degrees where the stack is sheared, None where it is straight."""
    extent = np.ptp(positions.shifts_px, axis=0).max()
    if extent <= SHIFT_TOLERANCE_PX:
        return None
    slope, residual = _fit(positions.shifts_px, positions.heights_mm)
    worst = int(np.abs(residual).max(axis=1).argmax())
    if np.abs(residual).max() > SHIFT_TOLERANCE_PX:
        raise _refuse(
            source,
            "shifted-slices",
            f"slice {worst + 1} of {len(positions.frames)} shifted in its plane by "
            f"{np.abs(residual[worst]).max():.1f} pixels against the others",
            "slices behind each other or evenly sheared",
            "Two stacks may be mixed, or positions damaged; export the series again.",
        )
    tilt = _tilt_degrees(positions, slope)
    if tilt > MAX_TILT_DEGREES:
        raise _refuse(
            source, "tilt-too-large", f"a stack sheared by {tilt:.1f} degrees",
            f"at most {MAX_TILT_DEGREES:.0f} degrees", "Export the series again.",
        )  # fmt: skip
    return tilt


def _affine(
    positions: _Positions, *, origin: NDArray[np.float64], gap_mm: float
) -> NDArray[np.float64]:
    row_mm, column_mm = positions.frames[0].spacing
    affine = np.eye(4)
    affine[:3, :3] = positions.axes * np.array([column_mm, row_mm, gap_mm])
    affine[:3, 3] = origin
    return affine


def _straight(positions: _Positions, gap_mm: float, flags: tuple[Flag, ...]) -> Layout:
    count = len(positions.frames)
    rows, columns = positions.frames[0].shape
    first = positions.frames[0].position
    steps = np.arange(count, dtype=np.float64)
    fitted_start = float(np.mean(positions.heights_mm - gap_mm * steps))
    origin = first + positions.axes[:, 2] * (fitted_start - positions.heights_mm[0])
    affine = _affine(positions, origin=origin, gap_mm=gap_mm)
    return Layout(positions.frames, Geometry((columns, rows, count), affine), None, flags)


def _rectified(positions: _Positions, gap_mm: float, flags: tuple[Flag, ...]) -> Layout:
    """Plan the smallest rectilinear grid from the first slice to the last that holds every one."""
    rows, columns = positions.frames[0].shape
    low = np.floor(positions.shifts_px.min(axis=0))
    high = np.ceil(positions.shifts_px.max(axis=0))
    extent_mm = positions.heights_mm[-1] - positions.heights_mm[0]
    count = round(extent_mm / gap_mm) + 1
    targets = positions.heights_mm[0] + gap_mm * np.arange(count)
    row_mm, column_mm = positions.frames[0].spacing
    corner = positions.axes[:, :2] @ (low * np.array([column_mm, row_mm]))
    affine = _affine(positions, origin=positions.frames[0].position + corner, gap_mm=gap_mm)
    shape = (columns + int(high[0] - low[0]), rows + int(high[1] - low[1]), count)
    plan = Rectification(positions.heights_mm, positions.shifts_px - low, targets)
    return Layout(positions.frames, Geometry(shape, affine), plan, flags)


def _jitter_flags(deviation: float, gap_mm: float) -> tuple[Flag, ...]:
    if deviation <= _JITTER_WORTH_A_FLAG:
        return ()
    message = f"Slice positions differ from a regular grid by up to {deviation * gap_mm:.3f} mm."
    return (Flag("position-jitter", "info", message),)


def lay_out(frames: Sequence[Frame], *, source: str) -> Layout:
    """Sort frames of one stack and find their grid.

    Args:
        frames: At least two frames with equal shape, orientation and pixel spacing.
        source: Name of the series in refusals.

    Returns:
        The layout; k runs along the slice normal (row direction cross column direction).

    Raises:
        InputRefusedError: If the positions cannot be read as, or resampled to, a regular grid.
    """
    positions = _positions(frames)
    tilt = _check_shifts(positions, source)
    gaps = positions.gaps_mm
    median_mm = float(np.median(gaps))
    steps = np.arange(len(frames), dtype=np.float64)
    slope, residual = _fit(positions.heights_mm[:, None], steps)
    gap_mm = float(slope[0])
    deviation = float(np.abs(residual).max() / gap_mm)
    is_even = deviation <= POSITION_TOLERANCE and (
        np.abs(gaps - median_mm).max() <= GAP_TOLERANCE * median_mm
    )
    if is_even and tilt is None:
        return _straight(positions, gap_mm, _jitter_flags(deviation, gap_mm))
    if not is_even:
        gap_mm = _lower_median(gaps)
        _check_gaps(positions, source, gap_mm)
    gap_mm = _end_to_end(positions, gap_mm)
    flags = [] if is_even else [_uneven_flag(gaps, gap_mm)]
    if tilt is not None:
        message = f"Slices sheared by {tilt:.1f} degrees (gantry tilt), resampled to right angles."
        flags.append(Flag("gantry-tilt-resampled", "warning", message))
    return _rectified(positions, gap_mm, tuple(flags))


def _uneven_flag(gaps: NDArray[np.float64], gap_mm: float) -> Flag:
    message = (
        f"Slice gaps from {gaps.min():.2f} to {gaps.max():.2f} mm, "
        f"resampled linearly to {gap_mm:.2f} mm."
    )
    return Flag("uneven-spacing-resampled", "warning", message)
