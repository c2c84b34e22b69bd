"""Surface distances of two masks in mm, by MONAI."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance

from medmtl.metrics.overlap import crop_to_union

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = [
    "TOLERANCE_MM",
    "SurfaceDistances",
    "hd95_mm",
    "normalised_surface_dice",
    "surface_distances",
]

TOLERANCE_MM = 2.0
"""Default tolerance of the normalised surface Dice; about the in-plane voxel of cardiac MR."""


@dataclass(frozen=True)
class SurfaceDistances:
    """How far two surfaces are apart, in mm.

    Attributes:
        hd95_mm: The larger of the two directed 95th percentiles.
        assd_mm: Average symmetric surface distance: mean over the surface voxels of both masks.
    """

    hd95_mm: float
    assd_mm: float


def surface_distances(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], *, spacing_mm: Sequence[float]
) -> SurfaceDistances | None:
    """Both distances from one pair of distance transforms, which are what takes the time.

    Equal to MONAI's `compute_hausdorff_distance` and symmetric `compute_average_surface_distance`,
    which would each make their own (tests hold them together).

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        spacing_mm: Distance of voxel centres along (i, j, k).

    Returns:
        None where either mask is empty: no surface, no distance.

    Raises:
        ValueError: If the shapes differ.
    """
    masks = _both(prediction, truth)
    if masks is None:
        return None
    with _without_monai_noise():
        _, (to_truth, to_prediction), _ = get_edge_surface_distance(
            masks[0][0, 0],
            masks[1][0, 0],
            spacing=[float(mm) for mm in spacing_mm],
            symmetric=True,
        )
    hd95 = max(float(torch.quantile(mm, 0.95)) for mm in (to_truth, to_prediction))
    return SurfaceDistances(hd95, float(torch.cat([to_truth, to_prediction]).mean()))


def hd95_mm(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], *, spacing_mm: Sequence[float]
) -> float | None:
    """The first of `surface_distances`; None where either mask is empty."""
    distances = surface_distances(prediction, truth, spacing_mm=spacing_mm)
    return None if distances is None else distances.hd95_mm


def normalised_surface_dice(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    spacing_mm: Sequence[float],
    tolerance_mm: float = TOLERANCE_MM,
) -> float | None:
    """Share of both surfaces, by area, that lies within the tolerance of the other one.

    After Nikolov et al. 2021 (doi 10.2196/26151): surface elements are weighted by their area,
    which matters where slices are much further apart than pixels.

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        spacing_mm: Distance of voxel centres along (i, j, k).
        tolerance_mm: Largest distance that counts as agreement.

    Returns:
        In 0..1; 0 where exactly one mask is empty, None where both are.

    Raises:
        ValueError: If the shapes differ.
    """
    masks = _both(prediction, truth)
    if masks is None:
        return 0.0 if prediction.any() or truth.any() else None
    with _without_monai_noise():
        value = compute_surface_dice(
            *masks,
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=[float(mm) for mm in spacing_mm],
            use_subvoxels=True,
        )
    return _only(value)


@contextmanager
def _without_monai_noise() -> Iterator[None]:
    """MONAI 1.5 and 1.6 call their own function with an argument that they deprecate."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*always_return_as_numpy", category=FutureWarning
        )
        yield


def _both(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Both masks cropped, as (1, 1, i, j, k); None where one is empty."""
    prediction, truth = crop_to_union(prediction, truth)
    if not (prediction.any() and truth.any()):
        return None
    tensors = [
        torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]
        for mask in (prediction, truth)
    ]
    return tensors[0], tensors[1]


def _only(value: Any) -> float | None:
    """The single number of a (1, 1) tensor; None where it is not finite."""
    number = float(value[0, 0])
    return number if np.isfinite(number) else None
