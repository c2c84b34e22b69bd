"""Lesions found one by one, over all volumes together, with intervals over patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.intervals import bootstrap
from medmtl.metrics.lesions import MIN_IOU
from medmtl.metrics.weighted import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.lesions import LesionCounts

__all__ = ["summarise_lesions"]


def summarise_lesions(patients: Sequence[str], counts: Sequence[LesionCounts]) -> dict[str, Any]:
    """The part `lesions` of one segment in metrics.json.

    Lesions are counted over all volumes (micro average), so that a volume without any still counts
    with what was invented in it.

    Args:
        patients: Patient of each volume.
        counts: Of each volume.
    """
    truth, predicted, matched, iou_sum = (
        np.array([getattr(count, name) for count in counts], dtype=np.float64)
        for name in ("truth", "predicted", "matched", "iou_sum")
    )

    def share(top: NDArray[np.float64], bottom: NDArray[np.float64], n: int) -> dict[str, Any]:
        value = float(top.sum() / bottom.sum()) if bottom.sum() > 0 else None
        return bootstrap(
            lambda weights_rn: ratio(weights_rn @ top, weights_rn @ bottom),
            patients, value=value, n=n,
        ).as_json()  # fmt: skip

    n_truth, n_predicted = int(truth.sum()), int(predicted.sum())
    together = (truth + predicted) / 2
    volumes = np.ones_like(truth)
    return {
        "f1": share(matched, together, n_truth + n_predicted),
        "sensitivity": share(matched, truth, n_truth),
        "precision": share(matched, predicted, n_predicted),
        "panoptic_quality": share(iou_sum, together, n_truth + n_predicted),
        "false_positives_per_volume": share(predicted - matched, volumes, len(counts)),
        "n_truth": n_truth,
        "n_predicted": n_predicted,
        "n_matched": int(matched.sum()),
        "min_iou": MIN_IOU,
    }
