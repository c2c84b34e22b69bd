"""Voxel grids in patient space, LPS millimetres (DICOM PS3.3 C.7.6.2.1.1).

Array axes are (i, j, k); `affine_lps` maps the homogeneous index of a voxel centre to mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LPS_TO_RAS",
    "Geometry",
    "axis_code",
    "closest_axes",
    "corner_distance_mm",
    "points_to_space",
]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Multiply an LPS affine from the left to obtain the RAS one, and the other way round."""

SLICE_SPACING_RATIO = 1.5
"""An axis this much thicker than both others is the slice axis."""

_CODES = (("L", "R"), ("P", "A"), ("S", "I"))


def points_to_space(affine: NDArray[np.float64], points_index: ArrayLike) -> NDArray[np.float64]:
    """Map points of shape (N, 3) from voxel indices to the millimetres of `affine`."""
    points = np.asarray(points_index, dtype=np.float64)
    return np.asarray(points @ affine[:3, :3].T + affine[:3, 3])


def corner_distance_mm(
    one: NDArray[np.float64], other: NDArray[np.float64], *, shape: Sequence[int]
) -> float:
    """Largest distance between the same corner of two grids (affines) of one shape."""
    corners = np.array(np.meshgrid(*[(0, size - 1) for size in shape])).reshape(3, -1).T
    apart = points_to_space(one, corners) - points_to_space(other, corners)
    return float(np.linalg.norm(apart, axis=1).max())


def closest_axes(affine_lps: NDArray[np.float64]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Assign each array axis to a different patient axis so that the total cosine is largest.

    Returns:
        (patient axis of each array axis, sign +1 or -1 of each array axis along it).
    """
    directions = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    best = max(
        permutations(range(3)),
        key=lambda order: sum(abs(directions[order[a], a]) for a in range(3)),
    )
    signs = tuple(1 if directions[best[a], a] >= 0 else -1 for a in range(3))
    return best, signs


def axis_code(affine_lps: NDArray[np.float64]) -> str:
    """Three letters that name the direction each array axis points towards, such as "LPS"."""
    axes, signs = closest_axes(affine_lps)
    return "".join(
        _CODES[axis][0 if sign > 0 else 1] for axis, sign in zip(axes, signs, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid: shape along (i, j, k) and the affine from index to LPS millimetres."""

    shape: tuple[int, int, int]
    affine_lps: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check the grid.

        Raises:
            ValueError: If the affine is not 4x4, not finite or not invertible.
        """
        affine = np.array(self.affine_lps, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"Affine must be a finite 4x4 matrix. Found {affine.tolist()}.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-9:
            raise ValueError(f"Affine must be invertible. Found {affine.tolist()}.")
        sizes: tuple[int, ...] = self.shape
        if len(sizes) != 3 or min(sizes) < 1:
            raise ValueError(f"Shape must be three positive sizes. Found {self.shape}.")
        affine.setflags(write=False)
        object.__setattr__(self, "affine_lps", affine)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @classmethod
    def from_parts(
        cls,
        *,
        shape: Sequence[int],
        spacing_mm: Sequence[float],
        origin_lps: Sequence[float] = (0.0, 0.0, 0.0),
        direction: ArrayLike = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ) -> Geometry:
        """Build from spacing along (i, j, k), origin and a matrix of unit direction columns."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(direction, dtype=np.float64) * np.asarray(spacing_mm)
        affine[:3, 3] = origin_lps
        i, j, k = shape
        return cls(shape=(i, j, k), affine_lps=affine)

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """Index to RAS millimetres, as NIfTI stores it."""
        return np.asarray(LPS_TO_RAS @ self.affine_lps)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (i, j, k)."""
        i, j, k = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit direction of each array axis in LPS, as columns."""
        return np.asarray(self.affine_lps[:3, :3] / np.asarray(self.spacing_mm))

    @property
    def origin_lps(self) -> NDArray[np.float64]:
        """Centre of voxel (0, 0, 0) in mm."""
        return self.affine_lps[:3, 3].copy()

    @property
    def axis_code(self) -> str:
        """Direction that each array axis points towards, such as "LPS"."""
        return axis_code(self.affine_lps)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3])))

    @property
    def slice_axis(self) -> int:
        """The thickest axis where it is clearly thicker than both others, else the third."""
        thickest = int(np.argmax(self.spacing_mm))
        others = max(mm for axis, mm in enumerate(self.spacing_mm) if axis != thickest)
        return thickest if self.spacing_mm[thickest] >= SLICE_SPACING_RATIO * others else 2

    def crop(self, box: tuple[slice, slice, slice]) -> Geometry:
        """The grid of `array[box]`, for a box with a start and a stop on each axis."""
        to_whole = np.eye(4)
        to_whole[:3, 3] = [part.start for part in box]
        i, j, k = (part.stop - part.start for part in box)
        return Geometry(shape=(i, j, k), affine_lps=self.affine_lps @ to_whole)

    def is_close(self, other: Geometry, *, tolerance_voxel: float = 1e-2) -> bool:
        """Whether both grids have the same shape and no corner further apart than the tolerance."""
        if self.shape != other.shape:
            return False
        distance_mm = corner_distance_mm(self.affine_lps, other.affine_lps, shape=self.shape)
        return distance_mm <= tolerance_voxel * min(self.spacing_mm)

    def as_json(self) -> dict[str, Any]:
        """The fields `shape_ijk`, `spacing_mm` and `axis_code` of the contract."""
        return {
            "shape_ijk": list(self.shape),
            "spacing_mm": [round(value, 6) for value in self.spacing_mm],
            "axis_code": self.axis_code,
        }
