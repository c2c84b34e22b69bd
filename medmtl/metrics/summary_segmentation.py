"""Overlap, distances and volumes over cases, with intervals over patients."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.metrics.agreement import bland_altman
from medmtl.metrics.intervals import Interval, bootstrap, shared_patients
from medmtl.metrics.summary_lesions import summarise_lesions
from medmtl.metrics.weighted import mean_of_means, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.metrics.scores import CaseScore, SegmentScore

    Row = tuple[str, SegmentScore]
    """Patient and what was measured on one segment of one volume."""

__all__ = ["brief_segmentation", "mean_interval", "summarise_segmentation"]


def summarise_segmentation(cases: Sequence[CaseScore]) -> dict[str, Any]:
    """The part `segmentation` of metrics.json; `mean_dice` weighs every segment the same."""
    rows = [(case.patient_id, score) for case in cases for score in case.segments]
    volume_ids = sorted({score.volume_id for _, score in rows})
    by_volume = {
        volume_id: _summarise([row for row in rows if row[1].volume_id == volume_id])
        for volume_id in volume_ids
    }
    return {**_summarise(rows), "per_volume_id": by_volume}


def brief_segmentation(cases: Sequence[CaseScore]) -> dict[str, Any]:
    """Only Dice, for a group of cases."""
    rows = [(case.patient_id, score) for case in cases for score in case.segments]
    names = list(dict.fromkeys(score.segment for _, score in rows))
    members = {name: [row for row in rows if row[1].segment == name] for name in names}
    return {
        "mean_dice": _mean_dice(rows, names).as_json(),
        "per_segment": {name: {"dice": _dice(member)} for name, member in members.items()},
    }


def _dice(rows: Sequence[Row]) -> dict[str, Any]:
    return mean_interval([p for p, _ in rows], [score.dice for _, score in rows]).as_json()


def mean_interval(patients: Sequence[str], values: Sequence[float | None]) -> Interval:
    """Mean of the values that exist, with its interval over patients."""
    kept = [
        (patient, value)
        for patient, value in zip(patients, values, strict=True)
        if value is not None
    ]
    numbers = np.array([value for _, value in kept], dtype=np.float64)
    return bootstrap(
        lambda weights_rn: weighted_mean(weights_rn, numbers),
        [patient for patient, _ in kept],
        value=float(numbers.mean()) if len(numbers) else None,
    )


def _summarise(rows: Sequence[Row]) -> dict[str, Any]:
    names = list(dict.fromkeys(score.segment for _, score in rows))
    return {
        "mean_dice": _mean_dice(rows, names).as_json(),
        "per_segment": {
            name: _segment([row for row in rows if row[1].segment == name]) for name in names
        },
    }


def _segment(rows: Sequence[Row]) -> dict[str, Any]:
    patients = [patient for patient, _ in rows]
    interval = partial(mean_interval, patients)
    missed = sum(score.is_missed for _, score in rows)
    return {
        "dice": interval([score.dice for _, score in rows]).as_json(),
        "hd95_mm": {
            **interval([score.hd95_mm for _, score in rows]).as_json(),
            "missed": missed,
        },
        "nsd": interval([score.nsd for _, score in rows]).as_json(),
        "jaccard": interval([score.jaccard for _, score in rows]).as_json(),
        "assd_mm": interval([score.assd_mm for _, score in rows]).as_json(),
        "volume_error_ml": interval([score.volume_error_ml for _, score in rows]).as_json(),
        "volume_error_percent": interval(
            [score.volume_error_percent for _, score in rows]
        ).as_json(),
        "bland_altman": _agreement(rows),
        **_lesions(rows),
    }


def _agreement(rows: Sequence[Row]) -> dict[str, Any]:
    known = [(patient, score.volume_error_ml) for patient, score in rows]
    kept = [(patient, error) for patient, error in known if error is not None]
    return bland_altman([patient for patient, _ in kept], [error for _, error in kept])


def _lesions(rows: Sequence[Row]) -> dict[str, Any]:
    """The part `lesions`, only where the segment is one."""
    counts = [(patient, score.lesions) for patient, score in rows]
    kept = [(patient, count) for patient, count in counts if count is not None]
    if not kept:
        return {}
    return {"lesions": summarise_lesions([p for p, _ in kept], [count for _, count in kept])}


def _mean_dice(rows: Sequence[Row], names: Sequence[str]) -> Interval:
    """Mean over segments of each segment's mean, so that a rare lesion counts like an organ."""
    kept = [(patient, score.segment, score.dice) for patient, score in rows]
    groups = [[row for row in kept if row[1] == name and row[2] is not None] for name in names]
    groups = [group for group in groups if group]
    if not groups:
        return Interval(None, None, 0)
    patients, places = shared_patients([[patient for patient, _, _ in group] for group in groups])
    values = [np.array([dice for _, _, dice in group], dtype=np.float64) for group in groups]

    def statistic(weights_rp: NDArray[np.float64]) -> NDArray[np.float64]:
        return mean_of_means(
            [
                weighted_mean(weights_rp[:, place], own)
                for place, own in zip(places, values, strict=True)
            ]
        )

    value = float(np.mean([own.mean() for own in values]))
    return bootstrap(statistic, patients, value=value, n=sum(map(len, values)))
