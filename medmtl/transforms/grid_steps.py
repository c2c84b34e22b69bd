"""The spatial steps of preprocessing for one grid: orient, crop, resample, pad.

Axes: I J K oriented array axes; `_kji` arrays have the slice axis first, as networks take them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.transforms.orient import AxisPlan, plan_axes
from medmtl.transforms.resize import ResizePlan, plan_resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from medmtl.transforms.settings import ForegroundCrop, PreprocessingConfig

__all__ = ["GridSteps", "plan_steps"]

MAX_NETWORK_VOXELS = 2**28
"""Largest grid after resampling: 1 GiB as float32."""

_SLAB_VOXELS = 2**22

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class GridSteps:
    """How one source grid becomes its network grid.

    Attributes:
        source: Grid of the volume.
        orient: Permutation and mirroring.
        box: Crop on the oriented grid, (i, j, k).
        resize: Sizes before and after resampling.
        shape: Size (i, j, k) after padding at the end of each axis.
    """

    source: Geometry
    orient: AxisPlan
    box: Box
    resize: ResizePlan
    shape: tuple[int, int, int]

    @property
    def content_geometry(self) -> Geometry:
        """The network grid without its padding."""
        oriented = self.orient.apply_geometry(self.source)
        return self.resize.apply_geometry(oriented.crop(self.box))

    @property
    def geometry(self) -> Geometry:
        """The network grid with its padding."""
        return Geometry(shape=self.shape, affine_lps=self.content_geometry.affine_lps)

    def view_kji(self, array: NDArray[Any]) -> NDArray[Any]:
        """The oriented and cropped array, a view of shape (K, J, I)."""
        return self.orient.apply(array)[self.box].T

    def resample(
        self, array: NDArray[Any], prepare: Callable[[NDArray[Any]], NDArray[np.float32]]
    ) -> torch.Tensor:
        """Orient, crop, `prepare` (slab by slab, on the source's voxels) and resample.

        Returns:
            float32, shape (K, J, I) without padding.
        """
        view_kji = self.view_kji(array)
        i, j, _ = self.resize.new
        depth, rows, columns = view_kji.shape
        out = torch.empty((depth, j, i), dtype=torch.float32)
        step = max(1, _SLAB_VOXELS // (rows * columns))
        for start in range(0, depth, step):
            slab = np.ascontiguousarray(prepare(view_kji[start : start + step]))
            out[start : start + step] = self.resize.apply_in_plane(torch.from_numpy(slab))
        return self.resize.apply_through_plane(out)

    def pad(self, content_kji: NDArray[Any], value: float) -> NDArray[Any]:
        """Pad at the end of each axis."""
        if content_kji.shape == self.shape[::-1]:
            return content_kji
        padded = np.full(self.shape[::-1], value, dtype=content_kji.dtype)
        k, j, i = content_kji.shape
        padded[:k, :j, :i] = content_kji
        return padded


def plan_steps(
    array: NDArray[Any], geometry: Geometry, config: PreprocessingConfig, *, source: str
) -> GridSteps:
    """Plan the steps for one volume; `source` names it in errors.

    Raises:
        InputRefusedError: If the network grid would be unreasonably large.
    """
    orient = plan_axes(geometry, config.orientation)
    oriented = orient.apply_geometry(geometry)
    box: Box = (
        slice(0, oriented.shape[0]),
        slice(0, oriented.shape[1]),
        slice(0, oriented.shape[2]),
    )
    if config.crop is not None:
        box = _foreground_box(orient.apply(array), oriented.spacing_mm, config.crop)
    resize = plan_resize(oriented.crop(box), config.spacing_mm)
    i, j, k = (
        ceil(size / step) * step for size, step in zip(resize.new, config.divisor, strict=True)
    )
    if i * j * k > MAX_NETWORK_VOXELS:
        raise InputRefusedError(
            source,
            stage="preprocess",
            code="grid-too-large",
            found=f"{i} x {j} x {k} voxels after resampling to {_text(config.spacing_mm)} mm",
            expected=f"at most {MAX_NETWORK_VOXELS} voxels",
            advice="Check the voxel spacing in the header, or crop the volume.",
        )
    return GridSteps(source=geometry, orient=orient, box=box, resize=resize, shape=(i, j, k))


def _text(spacing_mm: tuple[float | None, ...]) -> str:
    return " x ".join("source" if value is None else f"{value:g}" for value in spacing_mm)


def _foreground_box(
    oriented: NDArray[Any], spacing_mm: tuple[float, float, float], crop: ForegroundCrop
) -> Box:
    """The grown bounding box; the whole grid where nothing is above the threshold."""
    in_plane: NDArray[np.bool_] = np.zeros(oriented.shape[:2], dtype=bool)
    has_slice = np.zeros(oriented.shape[2], dtype=bool)
    for k in range(oriented.shape[2]):
        mask = oriented[:, :, k] > crop.threshold
        has_slice[k] = mask.any()
        np.logical_or(in_plane, mask, out=in_plane)
    profiles = (np.any(in_plane, axis=1), np.any(in_plane, axis=0), has_slice)
    i, j, k_range = (
        _grow(profile, ceil(crop.margin_mm / spacing - 1e-9))
        for profile, spacing in zip(profiles, spacing_mm, strict=True)
    )
    return i, j, k_range


def _grow(profile: NDArray[np.bool_], margin: int) -> slice:
    inside = np.flatnonzero(profile)
    if inside.size == 0:
        return slice(0, profile.size)
    return slice(max(0, int(inside[0]) - margin), min(profile.size, int(inside[-1]) + 1 + margin))
