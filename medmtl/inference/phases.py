"""End diastole and end systole of a cine, by the segmented volume of one structure.

The heart is found in the first phase; the other phases are segmented in its box only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.core.errors import InputRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from medmtl.core.volume import Volume
    from medmtl.networks.joint import JointNet
    from medmtl.transforms.preprocessing import Preprocessing

__all__ = ["choose_phases", "pick_phases"]

MARGIN_MM = 25.0
"""Kept around the heart of the first phase."""
MIN_SEGMENT_ML = 5.0
"""A smaller structure in the largest phase means that the heart was not found."""


def choose_phases(
    net: JointNet,
    preprocessing: Preprocessing,
    phases: Sequence[Volume],
    *,
    class_index: int,
    device: torch.device,
) -> tuple[int, int, NDArray[np.float64]]:
    """Index of end diastole, of end systole, and the structure's volume in mL at every phase.

    Args:
        net: The joint network.
        preprocessing: Of the bundle.
        phases: All phases of one cine, in time order, on one grid.
        class_index: Class of the structure, counted with the background.
        device: Where the network runs.

    Raises:
        InputRefusedError: If the structure is not found in any phase.
    """
    box = None
    curve = []
    for phase in phases:
        prepared = preprocessing.apply(phase)
        image = torch.from_numpy(prepared.array_kji)[None, None].to(device)
        if box is None:
            box = _heart_box(_labels(net, image), prepared.geometry.spacing_mm, net.divisor)
        labels = _labels(net, image[:, :, :, box[0], box[1]])
        voxels = int((labels == class_index).sum())
        curve.append(voxels * prepared.geometry.voxel_mm3 / 1000.0)
    return (*pick_phases(curve, phases), np.array(curve))


def pick_phases(curve: Sequence[float], phases: Sequence[Volume]) -> tuple[int, int]:
    """Index of end diastole and of end systole.

    Args:
        curve: Volume of the structure in mL at every phase.
        phases: In time order.

    Raises:
        InputRefusedError: If the structure is not found in any phase.
    """
    curve_ml = np.array(curve)
    smooth = curve_ml
    if len(curve) > 2:  # of two phases each is the other's neighbour on both sides
        smooth = (np.roll(curve_ml, 1) + 2 * curve_ml + np.roll(curve_ml, -1)) / 4
    if curve_ml.max() < MIN_SEGMENT_ML:
        raise InputRefusedError(
            f"volume {phases[0].id}",
            stage="preprocess",
            code="heart-not-found",
            found=f"at most {curve_ml.max():.1f} mL of the left ventricle in any phase",
            expected=f"at least {MIN_SEGMENT_ML:g} mL",
            advice="Check that the series is a short-axis cine of the heart.",
        )
    return int(smooth.argmax()), int(smooth.argmin())


@torch.no_grad()
def _labels(net: JointNet, image_bckji: Tensor) -> Tensor:
    """Labels (K, J, I) of the network grid."""
    return net.encode_and_decode(net.context(image_bckji))[1][0].argmax(dim=0)


def _heart_box(
    labels_kji: Tensor, spacing_mm: tuple[float, float, float], divisor: tuple[int, int, int]
) -> tuple[slice, slice]:
    """Rows and columns of the foreground with a margin; the whole plane where there is none."""
    mask = (labels_kji > 0).any(dim=0)
    sides = []
    for axis in (0, 1):
        whole, step = mask.shape[axis], divisor[axis + 1]
        at = mask.any(dim=1 - axis).nonzero().flatten().tolist() or [0, whole - 1]
        margin = math.ceil(MARGIN_MM / spacing_mm[1 - axis])
        size = math.ceil((at[-1] - at[0] + 1 + 2 * margin) / step) * step
        start = max(0, min(at[0] - margin, whole - size))
        sides.append(slice(start, min(whole, start + size)))
    return sides[0], sides[1]
