"""Linear interpolation between two grids whose axes are parallel, slab by slab.

Every grid that preprocessing makes is the source grid permuted, mirrored, cropped and rescaled, so
the way back is separable: three one-dimensional interpolations, never a whole float volume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = [
    "SampledAxis",
    "SlabInterpolator",
    "interpolate_slabs",
    "nearest",
    "parallel_axes",
    "sample_axes",
]

AXIS_TOLERANCE_VOXEL = 0.01
"""How far two "parallel" axes may drift apart over their whole length, in voxels."""

_SLAB_VOXELS = 2**19
"""Small enough that memory is used again: new pages cost as much as the interpolation."""
_EDGE = 1e-6  # keeps voxel centres exactly on the border of the extent inside, in voxels


def parallel_axes(geometry: Geometry, target: Geometry) -> tuple[int, int, int]:
    """Axis of `geometry` that runs along each axis of `target`.

    Raises:
        ValueError: If one grid is oblique to the other.
    """
    matrix = np.linalg.inv(geometry.affine_lps) @ target.affine_lps
    axes = tuple(int(axis) for axis in np.abs(matrix[:3, :3]).argmax(axis=0))
    drift = np.abs(matrix[:3, :3]) * (np.asarray(target.shape) - 1)
    drift[axes, (0, 1, 2)] = 0.0
    if sorted(axes) != [0, 1, 2] or drift.max() > AXIS_TOLERANCE_VOXEL:
        message = (
            f"The grids are not parallel: axes drift {drift.max():.3g} voxels apart, at most "
            f"{AXIS_TOLERANCE_VOXEL} is allowed. Resample onto a parallel grid first."
        )
        raise ValueError(message)
    return axes[0], axes[1], axes[2]


@dataclass(frozen=True, eq=False)
class SampledAxis:
    """Where the voxels `start`..`stop` of one target axis fall on the array's axis."""

    start: int
    stop: int
    lower: NDArray[np.intp]
    upper: NDArray[np.intp]
    weight: NDArray[np.float32]

    @classmethod
    def from_coordinates(cls, coordinates: NDArray[np.float64], size: int) -> SampledAxis:
        """Voxels half a voxel beyond the outermost centres still belong to the array's extent."""
        inside = np.flatnonzero((coordinates >= -0.5 - _EDGE) & (coordinates <= size - 0.5 + _EDGE))
        start, stop = (int(inside[0]), int(inside[-1]) + 1) if inside.size else (0, 0)
        clamped = np.clip(coordinates[start:stop], 0, size - 1)
        lower = np.floor(clamped + _EDGE).astype(np.intp)
        upper = np.minimum(lower + 1, size - 1)
        weight = np.clip(clamped - lower, 0, 1).astype(np.float32)
        return cls(start, stop, lower, upper, weight)

    def part(self, start: int, stop: int) -> SampledAxis:
        """Only the target voxels from `start` to `stop`."""
        first, last = max(start, self.start), min(stop, self.stop)
        keep = slice(first - self.start, max(last, first) - self.start)
        return SampledAxis(first, last, self.lower[keep], self.upper[keep], self.weight[keep])

    def reading(self, first: int, last: int) -> SampledAxis:
        """Only the target voxels that read the array between two of its indices."""
        found = np.flatnonzero((self.upper >= first) & (self.lower <= last))
        ends = (int(found[0]), int(found[-1]) + 1) if found.size else (0, 0)
        return self.part(self.start + ends[0], self.start + ends[1])

    def interpolate(self, values: NDArray[Any], axis: int) -> NDArray[np.float32]:
        """Linear interpolation of `values` along `axis`."""
        low = values.take(self.lower, axis=axis)
        if not self.weight.any():
            return np.asarray(low, dtype=np.float32)
        high = values.take(self.upper, axis=axis).astype(np.float32, copy=False)
        shape = [1] * values.ndim
        shape[axis] = -1
        high -= low
        high *= self.weight.reshape(shape)
        high += low
        return high


def sample_axes(geometry: Geometry, target: Geometry) -> tuple[SampledAxis, ...]:
    """For each axis of `target`, where its voxels fall on the parallel axis of `geometry`.

    Raises:
        ValueError: If the grids are oblique to each other.
    """
    matrix = np.linalg.inv(geometry.affine_lps) @ target.affine_lps
    return tuple(
        SampledAxis.from_coordinates(
            matrix[own, axis] * np.arange(target.shape[axis]) + matrix[own, 3], geometry.shape[own]
        )
        for axis, own in enumerate(parallel_axes(geometry, target))
    )


@dataclass(frozen=True, eq=False)
class _Flat:
    """One plane of the array on the rows and columns of the target.

    Attributes:
        values_ji: (J, I) of the target.
        rows, columns: The part that was interpolated; the rest is `outside`.
    """

    values_ji: NDArray[np.float32]
    rows: slice
    columns: slice


class SlabInterpolator:
    """Takes an array to slabs of a parallel grid, from the first plane to the last.

    Each plane of the array is interpolated in plane once, and kept while target planes need it.

    Args:
        array: Values (i, j, k) on `geometry`.
        geometry: Grid of the array.
        target: Grid wanted; its third axis is cut into slabs.
        outside: Value where the target reaches beyond the extent of `geometry`.
        finish: Changes in place what was interpolated; what is `outside` stays.

    Raises:
        ValueError: If the array is not on its grid or the grids are oblique to each other.
    """

    def __init__(
        self,
        array: NDArray[Any],
        geometry: Geometry,
        target: Geometry,
        *,
        outside: float = 0.0,
        finish: Callable[[NDArray[np.float32]], None] = lambda _: None,
    ) -> None:
        if tuple(array.shape) != geometry.shape:
            raise ValueError(f"Array {array.shape} is not on the grid {geometry.shape}.")
        self.target = target
        self.outside = outside
        self.finish = finish
        self._array_kji = array.transpose(parallel_axes(geometry, target)).T
        self._axes = sample_axes(geometry, target)
        self._kept: dict[int, _Flat] = {}

    def planes(self, *, max_voxels: int = _SLAB_VOXELS) -> Iterator[slice]:
        """Slices along the target's third axis that hold about `max_voxels` voxels each."""
        i, j, k = self.target.shape
        step = max(1, max_voxels // (i * j))
        for start in range(0, k, step):
            yield slice(start, min(start + step, k))

    def slab(self, planes: slice) -> NDArray[np.float32]:
        """Values on the target planes, shape (i, j, planes), i fastest."""
        out_kji = self._empty(planes.stop - planes.start)
        on_k = self._axes[2].part(planes.start, planes.stop)
        for plane, low, high, weight in zip(
            out_kji[on_k.start - planes.start :], on_k.lower, on_k.upper, on_k.weight, strict=False
        ):
            self._fill(plane, self._flat(low), self._flat(high), weight)
            self._kept = {k: self._kept[k] for k in (low, high)}
        return out_kji.T

    def _empty(self, planes: int) -> NDArray[np.float32]:
        i, j, _ = self.target.shape
        return np.full((planes, j, i), self.outside, dtype=np.float32)

    def _fill(
        self, out_ji: NDArray[np.float32], low: _Flat, high: _Flat, weight: np.float32
    ) -> None:
        """Between values `outside` the answer is that very value, so only the rest is filled."""
        box = _around(low.rows, high.rows), _around(low.columns, high.columns)
        part, low_part = out_ji[box], low.values_ji[box]
        if weight:
            np.subtract(high.values_ji[box], low_part, out=part)
            part *= weight
            part += low_part
        else:
            part[:] = low_part
        self.finish(part)

    def _flat(self, k: int) -> _Flat:
        if k not in self._kept:
            plane = self._array_kji[k]
            on_i, on_j = self._reading(plane)
            (values_ji,) = self._empty(1)
            rows, columns = slice(on_j.start, on_j.stop), slice(on_i.start, on_i.stop)
            if min(on_i.lower.size, on_j.lower.size) > 0:
                values_ji[rows, columns] = on_j.interpolate(on_i.interpolate(plane, 1), 0)
            self._kept[k] = _Flat(values_ji, rows, columns)
        return self._kept[k]

    def _reading(self, plane_ji: NDArray[Any]) -> tuple[SampledAxis, SampledAxis]:
        """What of the target's i and j reads any other value: a map is zero in most places."""
        is_inside = plane_ji != self.outside
        spans = np.flatnonzero(is_inside.any(axis=0)), np.flatnonzero(is_inside.any(axis=1))
        on_i, on_j = (
            axis.reading(int(span[0]), int(span[-1])) if span.size else axis.part(0, 0)
            for axis, span in zip(self._axes[:2], spans, strict=True)
        )
        return on_i, on_j


def _around(one: slice, other: slice) -> slice:
    """Both, and what lies between."""
    if one.start >= one.stop or other.start >= other.stop:
        return one if one.start < one.stop else other
    return slice(min(one.start, other.start), max(one.stop, other.stop))


def interpolate_slabs(
    array: NDArray[Any],
    geometry: Geometry,
    target: Geometry,
    *,
    outside: float = 0.0,
    finish: Callable[[NDArray[np.float32]], None] = lambda _: None,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield `array` (i, j, k) linearly interpolated onto `target`, slab by slab along its k axis.

    Args:
        array: Values on `geometry`.
        geometry: Grid of `array`.
        target: A grid whose axes are parallel to those of `geometry` (permuted, mirrored, scaled).
        outside: Value where `target` reaches beyond the extent of `geometry`.
        finish: Changes in place what was interpolated; what is `outside` stays.

    Yields:
        The planes as a slice of the target's k axis, and their values, shape (i, j, planes).

    Raises:
        ValueError: If the array is not on its grid or the grids are oblique to each other.
    """
    interpolator = SlabInterpolator(array, geometry, target, outside=outside, finish=finish)
    for planes in interpolator.planes():
        yield planes, interpolator.slab(planes)


def nearest(array: NDArray[Any], geometry: Geometry, target: Geometry) -> NDArray[Any]:
    """The voxels of `array` (i, j, k) nearest to those of a parallel grid, 0 outside its extent.

    Raises:
        ValueError: If the grids are oblique to each other.
    """
    axes = sample_axes(geometry, target)
    out = np.zeros(target.shape[::-1], dtype=array.dtype).T
    inside = tuple(slice(axis.start, axis.stop) for axis in axes)
    closest = [np.where(axis.weight > 0.5, axis.upper, axis.lower) for axis in axes]
    out[inside] = array.transpose(parallel_axes(geometry, target))[np.ix_(*closest)]
    return out
