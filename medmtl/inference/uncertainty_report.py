"""The spread of the members of a case, as numbers per segment and per finding.

Pairwise Dice after Roy et al. 2019 (doi 10.1016/j.neuroimage.2019.03.042).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from statistics import fmean, pstdev
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.prediction import FindingUncertainty, SegmentUncertainty, UncertaintySource
from medmtl.inference.finding_answers import answer_findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.uncertainty import Member
    from medmtl.transforms.preprocessing import NetworkInput

__all__ = ["finding_uncertainty", "segment_uncertainty", "with_uncertainty"]


def with_uncertainty(
    prediction: Prediction,
    members: Sequence[Member],
    inputs: Sequence[NetworkInput],
    *,
    settings: BundleSettings,
    method: str,
) -> Prediction:
    """The same answer, with the spread of the members beside each segment and finding.

    Args:
        prediction: The answer of the case.
        members: Its own answer first.
        inputs: One per volume of the prediction, in its order.
        settings: Of the bundle.
        method: "tta" or "ensemble".
    """
    volumes = [mask.volume.id for mask in prediction.volumes]
    names = [segment.name for segment in settings.segments]
    spread = finding_uncertainty(members, settings)
    segments = []
    for segment in prediction.segments:
        at = volumes.index(segment.volume)
        agreement = segment_uncertainty(
            members,
            volume=at,
            class_index=names.index(segment.name) + 1,
            voxel_ml=inputs[at].geometry.voxel_mm3 / 1000.0,
        )
        segments.append(replace(segment, uncertainty=agreement))
    return replace(
        prediction,
        segments=tuple(segments),
        findings=tuple(
            replace(finding, uncertainty=spread.get(finding.name))
            for finding in prediction.findings
        ),
        uncertainty=UncertaintySource(method, tuple(member.name for member in members)),
    )


def segment_uncertainty(
    members: Sequence[Member], *, volume: int, class_index: int, voxel_ml: float
) -> SegmentUncertainty:
    """Agreement of the members on one segment of one volume.

    Args:
        members: At least two.
        volume: Position of the volume.
        class_index: Of the segment, background counted as 0.
        voxel_ml: Volume of a voxel of the network grid.
    """
    masks = [member.labels[volume] == class_index for member in members]
    sizes = [int(np.count_nonzero(mask)) for mask in masks]
    dices = [
        2 * int(np.count_nonzero(masks[a] & masks[b])) / (sizes[a] + sizes[b])
        for a, b in combinations(range(len(masks)), 2)
        if sizes[a] + sizes[b]
    ]
    return SegmentUncertainty(
        pairwise_dice=float(np.mean(dices)) if dices else None,
        min_pairwise_dice=min(dices) if dices else None,
        volume_ml_std=float(np.std(sizes)) * voxel_ml,
    )


def finding_uncertainty(
    members: Sequence[Member], settings: BundleSettings
) -> dict[str, FindingUncertainty]:
    """Spread of the calibrated probabilities, by finding; the first member is the case itself."""
    logits = [member.finding_logits for member in members if member.finding_logits is not None]
    answers = [answer_findings(settings, row) for row in logits]
    return {
        spec.name: _spread(
            [answer.probabilities[spec.name] for answer in answers],
            [answer.decisions[spec.name] for answer in answers],
        )
        for spec in settings.findings
        if answers
    }


def _spread(probabilities: list[float], decisions: list[bool]) -> FindingUncertainty:
    return FindingUncertainty(
        mean=fmean(probabilities),
        std=pstdev(probabilities),
        low=min(probabilities),
        high=max(probabilities),
        agreement=fmean(decision == decisions[0] for decision in decisions),
    )
