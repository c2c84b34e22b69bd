"""Lesions found one by one, over all volumes together, with intervals over patients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.intervals import bootstrap
from medmtl.metrics.lesions import MIN_IOU
from medmtl.metrics.weighted import ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.lesions import LesionCounts

__all__ = ["DIAMETER_BANDS_MM", "summarise_lesions"]

DIAMETER_BANDS_MM = ((0, 5), (5, 10), (10, 20), (20, None))
"""From, and up to but without; of the sphere of a lesion's volume."""


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

    share = partial(_share, patients)
    n_truth, n_predicted = int(truth.sum()), int(predicted.sum())
    together = (truth + predicted) / 2
    volumes = np.ones_like(truth)
    return {
        "f1": share(matched, together, n_truth + n_predicted),
        "sensitivity": share(matched, truth, n_truth),
        "precision": share(matched, predicted, n_predicted),
        "panoptic_quality": share(iou_sum, together, n_truth + n_predicted),
        "false_positives_per_volume": share(predicted - matched, volumes, len(counts)),
        "sensitivity_by_diameter": _by_diameter(patients, counts),
        "n_truth": n_truth,
        "n_predicted": n_predicted,
        "n_matched": int(matched.sum()),
        "min_iou": MIN_IOU,
    }


def _by_diameter(patients: Sequence[str], counts: Sequence[LesionCounts]) -> list[dict[str, Any]]:
    """Share of the true lesions of each band that were found; bands without any are left out."""
    bands = []
    for start_mm, stop_mm in DIAMETER_BANDS_MM:
        stop = np.inf if stop_mm is None else stop_mm
        found = [
            [is_found for size, is_found in zip(c.diameters_mm, c.is_found, strict=True)
             if start_mm <= size < stop]
            for c in counts
        ]  # fmt: skip
        matched, truth = (np.array([f(x) for x in found], dtype=np.float64) for f in (sum, len))
        if not truth.any():
            continue
        sensitivity = _share(patients, matched, truth, int(truth.sum()))
        bands.append({"from_mm": start_mm, "to_mm": stop_mm, "sensitivity": sensitivity})
    return bands


def _share(
    patients: Sequence[str], top: NDArray[np.float64], bottom: NDArray[np.float64], n: int
) -> dict[str, Any]:
    """The ratio of two sums over volumes, and its interval over patients."""
    value = float(top.sum() / bottom.sum()) if bottom.sum() > 0 else None
    interval = bootstrap(
        lambda weights_rn: ratio(weights_rn @ top, weights_rn @ bottom), patients, value=value, n=n
    )
    return interval.as_json()
