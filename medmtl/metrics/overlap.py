"""Dice overlap of two masks, by MONAI, with the empty-mask rule said out loud."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.metrics.meandice import compute_dice

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["crop_to_union", "dice", "jaccard_of_dice"]


def crop_to_union(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both masks inside the bounding box of their union (unchanged where both are empty).

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.

    Raises:
        ValueError: If the shapes differ.
    """
    if prediction.shape != truth.shape:
        message = f"Masks must have one shape. Found {prediction.shape} and {truth.shape}."
        raise ValueError(message)
    union = prediction | truth
    if not union.any():
        return prediction, truth
    box = []
    for axis in range(union.ndim):
        others = tuple(a for a in range(union.ndim) if a != axis)
        inside = np.flatnonzero(union.any(axis=others))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return prediction[tuple(box)], truth[tuple(box)]


def dice(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    if_both_empty: float | None = None,
) -> float | None:
    """Twice the overlap over the sum of sizes; 0 where exactly one mask is empty.

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        if_both_empty: What to answer when there is nothing to find and nothing was found.

    Raises:
        ValueError: If the shapes differ.
    """
    prediction, truth = crop_to_union(prediction, truth)
    has_prediction, has_truth = bool(prediction.any()), bool(truth.any())
    if not has_prediction and not has_truth:
        return if_both_empty
    if not (has_prediction and has_truth):
        return 0.0
    # MONAI answers nan for an empty truth, so the cases above never reach it.
    value = compute_dice(_batch(prediction), _batch(truth), include_background=True)
    return float(value[0, 0])


def jaccard_of_dice(dice: float | None) -> float | None:
    """Overlap over union, which Dice determines: J = D / (2 - D); None where there is no Dice."""
    return None if dice is None else dice / (2.0 - dice)


def _batch(mask: NDArray[np.bool_]) -> torch.Tensor:
    """The mask as float of shape (1, 1, i, j, k)."""
    return torch.from_numpy(np.ascontiguousarray(mask, dtype=np.float32))[None, None]
