"""Curves behind the areas, as points to draw, by scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sklearn.metrics import precision_recall_curve, roc_curve

from medmtl.metrics.classification import known_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    Points = tuple[list[float], list[float]]
    """Horizontal and vertical positions, same length."""

__all__ = ["precision_recall_points", "roc_points"]


def roc_points(truth: Sequence[bool | None], probability: ArrayLike) -> Points | None:
    """1 - specificity and sensitivity over all thresholds; None unless both truth values occur."""
    labels, scores = known_pairs(truth, probability)
    if labels.all() or not labels.any():
        return None
    across, up, _ = roc_curve(labels, scores)
    return across.tolist(), up.tolist()


def precision_recall_points(truth: Sequence[bool | None], probability: ArrayLike) -> Points | None:
    """Sensitivity and precision over all thresholds; None unless both truth values occur."""
    labels, scores = known_pairs(truth, probability)
    if labels.all() or not labels.any():
        return None
    precision, recall, _ = precision_recall_curve(labels, scores)
    return recall[::-1].tolist(), precision[::-1].tolist()
