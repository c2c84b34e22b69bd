"""Lesions found one by one: pieces of the true and the predicted mask, matched one to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage, optimize

from medmtl.metrics.overlap import crop_to_union

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MIN_IOU", "LesionCounts", "match_lesions"]

MIN_IOU = 0.1
"""A predicted piece finds a true one where their IoU exceeds this: overlap that is more than a
touch, yet low enough for small lesions, of which a voxel more or less is a large share."""

_CONNECTIVITY = np.ones((3, 3, 3), dtype=bool)  # 26 neighbours: pieces that touch are one lesion


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one volume.

    Attributes:
        truth: Pieces of the true mask.
        predicted: Pieces of the predicted mask.
        matched: Pairs of one true and one predicted piece.
        iou_sum: Sum of the matched pairs' IoU.
        diameters_mm: Of every true piece that of the sphere of its volume.
        is_found: Of every true piece whether it was matched.
    """

    truth: int
    predicted: int
    matched: int
    iou_sum: float
    diameters_mm: tuple[float, ...] = ()
    is_found: tuple[bool, ...] = ()


def match_lesions(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    voxel_mm3: float,
    min_iou: float = MIN_IOU,
) -> LesionCounts:
    """Pair the pieces of both masks so that the sum of IoU is largest, each piece at most once.

    The counts of panoptic quality (Kirillov et al. 2019, arXiv:1801.00868) with a Hungarian
    assignment, as in MONAI's `compute_panoptic_quality`, but from one table of voxel pairs instead
    of one mask per lesion (tests hold them together).

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        voxel_mm3: Volume of a voxel.
        min_iou: Pairs must have a larger one.

    Raises:
        ValueError: If the shapes differ.
    """
    prediction, truth = crop_to_union(prediction, truth)
    predicted_pieces, predicted = _pieces(prediction)
    true_pieces, true = _pieces(truth)
    pairs = true_pieces.astype(np.int64) * (predicted + 1) + predicted_pieces
    shared = np.bincount(pairs.ravel(), minlength=(true + 1) * (predicted + 1))
    shared = shared.reshape(true + 1, predicted + 1)
    sizes_true, sizes_predicted = shared.sum(axis=1), shared.sum(axis=0)
    both = shared[1:, 1:]
    iou = both / (sizes_true[1:, None] + sizes_predicted[None, 1:] - both)
    rows, columns = optimize.linear_sum_assignment(iou, maximize=True)
    is_kept = iou[rows, columns] > min_iou
    kept = iou[rows, columns][is_kept]
    diameters_mm = np.cbrt(6 / np.pi * voxel_mm3 * sizes_true[1:])
    found = set(rows[is_kept].tolist())
    return LesionCounts(
        true,
        predicted,
        len(kept),
        float(kept.sum()),
        tuple(diameters_mm.tolist()),
        tuple(piece in found for piece in range(true)),
    )


def _pieces(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], int]:
    """Number of the piece of each voxel (0 outside) and how many there are."""
    pieces, count = ndimage.label(mask, structure=_CONNECTIVITY)
    return np.asarray(pieces), int(count)
