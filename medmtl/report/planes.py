"""Flat pictures out of a volume, as a radiologist expects them: patient's right on the left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.geometry import closest_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Plane", "cut", "edge_letters"]

# Which patient axis runs to the right of the picture and which one down, and whether along its
# positive LPS direction: left is on the right, posterior is down, the feet are down.
_LAYOUT = {
    frozenset({0, 1}): ((0, 1), (1, 1)),
    frozenset({0, 2}): ((0, 1), (2, -1)),
    frozenset({1, 2}): ((1, 1), (2, -1)),
}
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_SHARE = 0.35  # a second letter is said from about 20 degrees on


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice laid out for the eye.

    Attributes:
        normal: Array axis (0, 1, 2) that the slice is perpendicular to.
        index: Position along it.
        right, down: Array axis and sign that run to the right and downwards.
        geometry: The volume's grid.
    """

    normal: int
    index: int
    right: tuple[int, int]
    down: tuple[int, int]
    geometry: Geometry

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        spacing, shape = self.geometry.spacing_mm, self.geometry.shape
        width, height = (shape[axis] * spacing[axis] for axis in (self.right[0], self.down[0]))
        return width, height

    def pixels(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array (i, j, k) as (row, column)."""
        flat = np.moveaxis(array, self.normal, 0)[self.index]  # take() would copy it all
        if self.right[0] < self.down[0]:
            flat = flat.T
        return np.asarray(flat[:: self.down[1], :: self.right[1]])

    def letters(self) -> tuple[str, str, str, str]:
        """What lies at the left, right, top and bottom edge, such as ("R", "L", "A", "P")."""
        left, right = edge_letters(self.geometry, *self.right)
        top, bottom = edge_letters(self.geometry, *self.down)
        return left, right, top, bottom


def edge_letters(geometry: Geometry, axis: int, sign: int) -> tuple[str, str]:
    """Letters at the start and end of an array axis; two letters each where it is oblique."""
    direction = geometry.direction[:, axis] * sign
    order = [a for a in np.argsort(-np.abs(direction)) if abs(direction[a]) >= _SHARE][:2]
    ends = "".join(_LETTERS[a][0 if direction[a] > 0 else 1] for a in order)
    starts = "".join(_LETTERS[a][1 if direction[a] > 0 else 0] for a in order)
    return starts, ends


def cut(geometry: Geometry, *, normal: int, index: int) -> Plane:
    """Lay out the slice at `index` of the array axis `normal`, in radiological convention."""
    patient_axis, signs = closest_axes(geometry.affine_lps)
    within = [axis for axis in range(3) if axis != normal]
    layout = _LAYOUT[frozenset(patient_axis[axis] for axis in within)]
    placed = [
        (axis, wanted * signs[axis])
        for patient, wanted in layout
        for axis in within
        if patient_axis[axis] == patient
    ]
    return Plane(normal=normal, index=index, right=placed[0], down=placed[1], geometry=geometry)
