"""Several readers' nodules on one CT, as one mask and two findings.

The rule: a voxel belongs to a nodule where at least half of the readers of the series drew one
around it. Pieces of that mask that touch (by corners too) are one nodule; its malignancy is the
median of the ratings of all readers' nodules that overlap it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from medmtl.core.errors import InputRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.data.builders.lidc_xml import Contour, Nodule, Reading

__all__ = ["Consensus", "consensus"]

_INDETERMINATE = 3
"""Rating between 1 (highly unlikely) and 5 (highly suspicious)."""

_OFF_SLICE = 0.1
"""A contour this part of the slice distance away from any slice belongs to none."""


@dataclass(frozen=True, eq=False)
class Consensus:
    """What the readers agree on.

    Attributes:
        mask: Shape (i, j, k), 1 inside a nodule.
        nodule_present: None where fewer than half of the readers saw the only nodules, or where
            those are below 3 mm.
        malignancy: Whether a nodule is rated above 3; False where all that are rated lie below,
            None where none is rated or only 3 is left.
    """

    mask: NDArray[np.uint8]
    nodule_present: bool | None
    malignancy: bool | None


def consensus(reading: Reading, grid: Geometry) -> Consensus:
    """The readers' nodules on the grid of their CT.

    Args:
        reading: Contours in pixel coordinates of the axial slices.
        grid: Of the CT, with i the column and j the row of its pixels.

    Raises:
        InputRefusedError: If the CT is not axial, or a contour lies on none of its slices.
    """
    _require_axial(grid)
    votes = np.zeros(grid.shape, dtype=np.uint8)
    drawn: list[tuple[Nodule, NDArray[np.intp]]] = []
    for nodules in reading.readers:
        places = [_voxels(nodule, grid) for nodule in nodules]
        drawn += zip(nodules, places, strict=True)
        if places:
            votes.flat[np.unique(np.concatenate(places))] += 1
    needed = max(1, (len(reading.readers) + 1) // 2)
    mask = votes >= needed
    present = True if mask.any() else None if drawn or reading.has_small else False
    return Consensus(mask.astype(np.uint8), present, _malignancy(mask, drawn))


def _malignancy(
    mask: NDArray[np.bool_], drawn: Sequence[tuple[Nodule, NDArray[np.intp]]]
) -> bool | None:
    pieces, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    ratings: dict[int, list[int]] = {piece: [] for piece in range(1, count + 1)}
    for nodule, inside in drawn:
        if nodule.malignancy is not None:
            for piece in set(pieces.flat[inside].tolist()) - {0}:
                ratings[piece].append(nodule.malignancy)
    medians = [median(rated) for rated in ratings.values() if rated]
    if any(value > _INDETERMINATE for value in medians):
        return True
    if medians and all(value < _INDETERMINATE for value in medians):
        return False
    return None


def _voxels(nodule: Nodule, grid: Geometry) -> NDArray[np.intp]:
    """Flat indices of the voxels inside: a mask of the whole grid for each nodule fills memory."""
    planes: dict[int, NDArray[np.bool_]] = {}
    for contour in sorted(nodule.contours, key=lambda contour: not contour.is_inclusion):
        plane = planes.setdefault(_slice(contour, grid), np.zeros(grid.shape[:2], dtype=bool))
        plane[_filled(contour, grid)] = contour.is_inclusion  # holes come last
    places = [np.empty(0, dtype=np.intp)]
    for k, plane in planes.items():
        i, j = np.nonzero(plane)
        places.append(np.ravel_multi_index((i, j, np.full_like(i, k)), grid.shape))
    return np.concatenate(places)


def _filled(contour: Contour, grid: Geometry) -> NDArray[np.bool_]:
    """Pixels inside a contour, shape (i, j); its own pixels are the first outside the nodule."""
    plane = Image.new("1", grid.shape[:2])
    ImageDraw.Draw(plane).polygon(list(contour.points), fill=1, outline=0)
    return np.asarray(plane, dtype=bool).T


def _slice(contour: Contour, grid: Geometry) -> int:
    place = (contour.z_mm - grid.origin_lps[2]) / grid.affine_lps[2, 2]
    k = round(place) if np.isfinite(place) else -1
    if not 0 <= k < grid.shape[2] or abs(place - k) > _OFF_SLICE:
        raise _refused(
            "contour-off-slice", f"a contour at z = {contour.z_mm:g} mm", "a slice there"
        )
    return k


def _require_axial(grid: Geometry) -> None:
    """Contours are pixel positions of axial slices, so the grid must be that of the pixels."""
    if not np.allclose(np.abs(grid.direction), np.eye(3), atol=1e-3):
        raise _refused("not-axial", "slices at an angle", "axial slices")


def _refused(code: str, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        "reading",
        stage="read",
        code=code,
        found=found,
        expected=expected,
        advice="Check that the XML belongs to this series.",
    )
