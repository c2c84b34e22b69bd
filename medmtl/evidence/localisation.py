"""How much of an activation map lies inside each segment, and where its peak is."""

from __future__ import annotations

from itertools import starmap
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.geometry import points_to_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume

__all__ = ["energy_in_segments", "peak_lps"]


def energy_in_segments(
    cams: Sequence[Volume], fractions: Sequence[NDArray[np.float32]], *, schema: LabelSchema
) -> dict[str, float]:
    """Share of the summed activation inside each segment, over all volumes of a study.

    The energy-based pointing game of Score-CAM (Wang et al. 2020, arXiv:1910.01279), per segment.

    Args:
        cams: Maps of one finding, one per volume.
        fractions: `segment_fractions` of each volume on the grid of its map, in schema order.
        schema: Names of the segments.

    Returns:
        Segment name to share in 0..1, together at most 1; all 0 where the maps are zero.
    """
    total = sum(float(cam.array.sum()) * cam.geometry.voxel_mm3 for cam in cams)
    inside = sum(starmap(_inside_mm3, zip(cams, fractions, strict=True)))
    shares = np.broadcast_to(inside / total if total > 0 else 0.0, len(schema.segments))
    return {name: float(share) for name, share in zip(schema.segment_names, shares, strict=True)}


def _inside_mm3(cam: Volume, fractions: NDArray[np.float32]) -> NDArray[np.float64]:
    inside = np.einsum("sijk,ijk->s", fractions, cam.array, dtype=np.float64)
    return np.asarray(inside * cam.geometry.voxel_mm3)


def peak_lps(cam: Volume) -> tuple[float, float, float] | None:
    """Centre of the map's highest cell in LPS mm; None where the map is zero everywhere."""
    if not np.any(cam.array > 0):
        return None
    index = np.unravel_index(int(np.argmax(cam.array)), cam.array.shape)
    x, y, z = points_to_space(cam.geometry.affine_lps, [index])[0].tolist()
    return x, y, z
