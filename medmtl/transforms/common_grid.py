"""Several volumes of one study on one grid: that of the first, where it is safe to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import affine_transform

from medmtl.core.errors import InputRefusedError
from medmtl.core.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = ["LEAST_COVERED", "on_first_grid"]

LEAST_COVERED = 0.5
"""A volume that covers less of the first one than this is of another part of the body."""
_TOLERANCE_VOXEL = 0.1


def on_first_grid(
    volumes: Sequence[Volume], names: Sequence[str]
) -> tuple[list[NDArray[Any]], list[Flag]]:
    """Values of all volumes on the grid of the first.

    A volume on the same grid is taken as it is. One of another grid is interpolated linearly, and
    holds its own smallest value where it does not reach; a flag says so.

    Args:
        volumes: Of one study.
        names: What each is called, for flags and errors.

    Returns:
        Arrays (i, j, k) on the grid of the first volume, and one flag for each resampled one.

    Raises:
        InputRefusedError: If frames of reference differ, if grids differ and no frame of reference
            relates them, or if a volume covers too little of the first.
    """
    first = volumes[0]
    arrays, flags = [first.array], []
    for volume, name in zip(volumes[1:], names[1:], strict=True):
        _check_related(first, volume, names[0], name)
        if first.geometry.is_close(volume.geometry, tolerance_voxel=_TOLERANCE_VOXEL):
            arrays.append(volume.array)
            continue
        values, covered = _resampled(volume, first.geometry)
        if covered < LEAST_COVERED:
            raise InputRefusedError(
                f"volume {volume.id}",
                stage="preprocess",
                code="channels-apart",
                found=f"channel {name} in {covered:.0%} of the space of channel {names[0]}",
                expected=f"at least {LEAST_COVERED:.0%}",
                advice="Say which series is meant with --channel NAME=SERIES.",
            )
        arrays.append(values)
        message = (
            f"Channel {name} has another grid and was interpolated to that of {names[0]}; it "
            f"covers {covered:.1%} of it."
        )
        flags.append(Flag("channel-resampled", "warning" if covered < 1 else "info", message))
    return arrays, flags


def _check_related(first: Volume, other: Volume, first_name: str, name: str) -> None:
    frames = (first.frame_of_reference_uid, other.frame_of_reference_uid)
    if all(frames) and frames[0] != frames[1]:
        found = f"channels {first_name} and {name} in different frames of reference"
    elif not all(frames) and not first.geometry.is_close(
        other.geometry, tolerance_voxel=_TOLERANCE_VOXEL
    ):
        found = (
            f"channels {first_name} and {name} on different grids "
            f"({first.geometry.shape} and {other.geometry.shape} voxels) without a common frame "
            "of reference"
        )
    else:
        return
    raise InputRefusedError(
        f"volume {other.id}",
        stage="preprocess",
        code="channels-unrelated",
        found=found,
        expected="one grid, or one frame of reference",
        advice=f"Register {name} to {first_name}, and save it on the grid of {first_name}.",
    )


def _resampled(volume: Volume, target: Geometry) -> tuple[NDArray[np.float32], float]:
    """Values on the target, and the share of it that lies within the volume's extent."""
    to_own = np.linalg.inv(volume.geometry.affine_lps) @ target.affine_lps
    values = np.ascontiguousarray(volume.array, dtype=np.float32)
    moved = {"matrix": to_own[:3, :3], "offset": to_own[:3, 3], "output_shape": target.shape}
    result = affine_transform(values, order=1, mode="nearest", **moved)
    # Half a voxel beyond the outermost centres still belongs to a volume's extent.
    inside = affine_transform(
        np.ones(values.shape, np.uint8), order=0, mode="grid-constant", cval=0, **moved
    )
    result[inside == 0] = values.min()
    return result, float(inside.mean())
