"""Views of one input for test-time augmentation: a fixed list, so that a run can be repeated.

No view mirrors: left and right are different patients' anatomy. Views turn and shift in the plane
of the slices and change the intensities a little, as another positioning and another scanner do.

Legend: C class, K J I voxel axes of the network grid (slice axis first).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["VIEWS", "View", "apply_view", "undo_view"]


@dataclass(frozen=True)
class View:
    """One view of the input.

    Attributes:
        name: For the record.
        turn_deg: Rotation about the centre of the plane, in millimetres, not voxels.
        shift_voxels: Whole voxels along (J, I); what leaves the grid is lost, the edge repeats.
        gain: Of the normalised intensities, about zero.
        offset: Added to them; the result stays in the range of the image.
    """

    name: str
    turn_deg: float = 0.0
    shift_voxels: tuple[int, int] = (0, 0)
    gain: float = 1.0
    offset: float = 0.0


VIEWS = (
    View("turned by 6 degrees", turn_deg=6.0),
    View("turned by -6 degrees", turn_deg=-6.0),
    View("shifted by (3, -2), contrast 1.08", shift_voxels=(3, -2), gain=1.08),
    View("shifted by (-2, 3), contrast 0.92", shift_voxels=(-2, 3), gain=0.92),
    View("turned by 3 degrees, brighter by 0.05", turn_deg=3.0, offset=0.05),
    View("turned by -3 degrees, darker by 0.05", turn_deg=-3.0, offset=-0.05),
)


def apply_view(image_kji: Tensor, view: View, *, spacing_mm: tuple[float, float]) -> Tensor:
    """The image as the view shows it.

    Args:
        image_kji: (K, J, I).
        view: Of `VIEWS`.
        spacing_mm: Along (J, I).
    """
    low, high = image_kji.min(), image_kji.max()
    values = image_kji[:, None]
    values = _shift(_turn(values, view.turn_deg, spacing_mm), view.shift_voxels)
    if (view.gain, view.offset) != (1.0, 0.0):
        values = (values * view.gain + view.offset).clamp(low, high)
    return values[:, 0]


def undo_view(logits_ckji: Tensor, view: View, *, spacing_mm: tuple[float, float]) -> Tensor:
    """Bring what the network says of a view, (C, K, J, I), back to the grid of the image."""
    back = (-view.shift_voxels[0], -view.shift_voxels[1])
    values = _shift(logits_ckji.float().transpose(0, 1), back)
    return _turn(values, -view.turn_deg, spacing_mm).transpose(0, 1)


def _turn(values_kcji: Tensor, degrees: float, spacing_mm: tuple[float, float]) -> Tensor:
    """Rotate every slice, linearly interpolated; beyond the edge, the edge repeats."""
    if degrees == 0.0:
        return values_kcji
    slices, _, rows, columns = values_kcji.shape
    half_j, half_i = rows * spacing_mm[0] / 2, columns * spacing_mm[1] / 2  # mm from centre to edge
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # affine_grid counts (I, J) in halves of the grid: the rotation is conjugated with millimetres.
    matrix = [[cosine, -sine * half_j / half_i, 0.0], [sine * half_i / half_j, cosine, 0.0]]
    theta = torch.tensor([matrix], dtype=values_kcji.dtype, device=values_kcji.device)
    grid = functional.affine_grid(theta, [1, 1, rows, columns], align_corners=False)
    grid = grid.expand(slices, -1, -1, -1)
    return functional.grid_sample(
        values_kcji, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _shift(values_kcji: Tensor, voxels: tuple[int, int]) -> Tensor:
    """Move content by whole voxels towards larger (J, I); the edge repeats."""
    for axis, by in zip((2, 3), voxels, strict=True):
        size = values_kcji.shape[axis]
        source = (torch.arange(size, device=values_kcji.device) - by).clamp(0, size - 1)
        values_kcji = values_kcji.index_select(axis, source)
    return values_kcji
