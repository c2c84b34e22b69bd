"""A volume on a regular grid, its axes closest to right, anterior, superior; exact, as views."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.transforms.orient import AxisPlan, lps_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["as_regular", "from_regular", "regular_geometry"]


def _plan(geometry: Geometry) -> AxisPlan:
    plan = lps_plan(geometry)
    left, posterior, superior = plan.is_flipped
    return replace(plan, is_flipped=(not left, not posterior, superior))


def regular_geometry(geometry: Geometry) -> Geometry:
    """The grid that `as_regular` gives a volume on `geometry`."""
    return _plan(geometry).apply_geometry(geometry)


def as_regular(volume: Volume) -> Volume:
    """The same voxels at the same places, axes permuted and mirrored only."""
    plan = _plan(volume.geometry)
    array = plan.apply(volume.array)
    return replace(volume, array=array, geometry=plan.apply_geometry(volume.geometry))


def from_regular(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """An array of `regular_geometry(geometry)` back on `geometry`.

    Raises:
        ValueError: If the shape is not that of the regular grid.
    """
    plan = _plan(geometry)
    expected = plan.apply_geometry(geometry).shape
    if array.shape != expected:
        raise ValueError(f"Array must have the shape {expected}. Found {array.shape}.")
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in plan.is_flipped)
    return array[steps].transpose(tuple(np.argsort(plan.order)))
