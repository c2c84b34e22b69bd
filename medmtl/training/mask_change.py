"""What a training did to the masks of the network that it started from, and the gate on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import MedmtlError
from medmtl.data.sources import network_rows
from medmtl.data.volume_file import read_volume_file
from medmtl.metrics.overlap import dice

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from medmtl.data.cases import Case
    from medmtl.data.sources import DataSource
    from medmtl.inference.bundle_settings import SegmentSettings
    from medmtl.training.encoder_features import CaseFeatures

__all__ = ["MasksLostError", "check_masks_kept", "mask_change"]

Found = dict[str, dict[str, list[float]]]
_BEFORE, _AFTER, _AGREEMENT = "dice_before", "dice_after", "agreement"


class MasksLostError(MedmtlError):
    """The masks lost more than the run allowed; no bundle was written."""


def mask_change(
    cases: Iterable[tuple[DataSource, Case, CaseFeatures, CaseFeatures]],
    segments: Sequence[SegmentSettings],
    volumes: Sequence[str],
) -> dict[str, Any]:
    """Dice to the truth before and after, and of the two with each other.

    Args:
        cases: Each with its features before and after the training.
        segments: Of the network.
        volumes: Names of the network's volumes.

    Returns:
        JSON: for `dice_before`, `dice_after` and `agreement` the mean by segment, None where no
        truth is known; `loss`, the largest loss of a segment, to the truth where there is one and
        to the masks before where there is none; `equal_voxels`, share of voxels that stayed.
    """
    found: Found = {name: {} for name in (_BEFORE, _AFTER, _AGREEMENT)}
    equal, voxels, count = 0, 0, 0
    for source, case, before, after in cases:
        count += 1
        for row, name in zip(network_rows(case, volumes), volumes, strict=True):
            old, new = before.labels[name], after.labels[name]
            equal, voxels = equal + int((old == new).sum()), voxels + old.size
            truth = None
            if row.segmentation:
                truth = read_volume_file(source.data_root, row.segmentation).array
            labels = {s.name: s.label for s in source.manifest.schema.segments}
            for segment in segments:
                one, other = old == segment.label, new == segment.label
                _add(found, _AGREEMENT, segment.name, one, other)
                if truth is not None and segment.name in row.annotated_segments:
                    real = truth == labels[segment.name]
                    _add(found, _BEFORE, segment.name, one, real)
                    _add(found, _AFTER, segment.name, other, real)
    means = {kind: _means(values) for kind, values in found.items()}
    losses = [
        means[_BEFORE][name] - means[_AFTER].get(name, 0.0)
        if name in means[_BEFORE]
        else 1 - agreement
        for name, agreement in means[_AGREEMENT].items()
    ]
    share = equal / voxels if voxels else None
    return {"n_cases": count, **{kind: _summary(values) for kind, values in means.items()}} | {
        "loss": max(losses, default=None),
        "equal_voxels": share,
    }


def _add(
    found: Found, kind: str, segment: str, one: NDArray[np.bool_], other: NDArray[np.bool_]
) -> None:
    value = dice(one, other)
    if value is not None:
        found[kind].setdefault(segment, []).append(value)


def _means(values: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}


def _summary(means: Mapping[str, float]) -> dict[str, Any]:
    mean = float(np.mean(list(means.values()))) if means else None
    return {"mean": mean, "per_segment": dict(means)}


def check_masks_kept(change: Mapping[str, Any], *, max_loss: float) -> None:
    """The gate.

    Raises:
        MasksLostError: If a segment lost more than `max_loss`.
    """
    loss = change["loss"]
    if loss is None or loss <= max_loss:
        return
    against = "to the truth" if change[_BEFORE]["mean"] is not None else "to the masks before"
    raise MasksLostError(
        f"encoder: the masks lost {loss:.4f} Dice {against} in the worst segment, at most "
        f"encoder.max_dice_loss = {max_loss:g} is allowed. No bundle was written. Freeze more of "
        "the encoder, lower trainer.lr or encoder.layer_decay, or train longer on masks."
    )
