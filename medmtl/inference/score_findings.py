"""The findings of one prediction against their truth, and where its evidence lies."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.evidence.fractions import segment_fractions
from medmtl.evidence.localisation import energy_in_segments
from medmtl.metrics.localisation import is_peak_inside
from medmtl.metrics.scores import FindingScore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from medmtl.core.prediction import FindingResult, Prediction
    from medmtl.core.volume import Volume
    from medmtl.data.cases import Case

__all__ = ["score_findings"]


def score_findings(
    case: Case,
    prediction: Prediction,
    truths: Mapping[str, Volume],
    schema: LabelSchema,
    own_ids: Mapping[str, str],
) -> Iterator[FindingScore]:
    """Every finding that model and manifest both know; evidence only of those truly present.

    Args:
        case: Its true findings and which segments were annotated.
        prediction: What the model answered.
        truths: True label map per volume id of the manifest.
        schema: Of the manifest.
        own_ids: The model's id of each of the manifest's volumes.
    """
    relevant = {finding.name: finding.segments for finding in schema.findings}
    for answer in prediction.findings:
        if answer.name not in relevant:
            continue
        truth = case.findings.get(answer.name)
        segments = relevant[answer.name]
        cams = {i: answer.cams[own] for i, own in own_ids.items() if own in answer.cams}
        score = _answered(answer, truth)
        if truth and segments and cams:
            labels = _labels(schema, segments)
            score = replace(
                score,
                pointing_game=_pointing(case, cams, truths, labels),
                energy_in_segments=_energy(answer, segments),
                energy_in_true_segments=_true_energy(case, cams, truths, labels),
            )
        yield score


def _answered(answer: FindingResult, truth: bool | None) -> FindingScore:
    """Decision, spread and prediction set against the truth."""
    spread, found = answer.uncertainty, answer.prediction_set
    wanted = None if truth is None else ("present" if truth else "absent")
    return FindingScore(
        answer.name,
        truth,
        answer.probability,
        answer.decision,
        threshold=answer.threshold,
        probability_std=None if spread is None else spread.std,
        is_in_set=None if found is None or wanted is None else wanted in found.members,
        abstains=None if found is None else found.abstains,
    )


def _pointing(
    case: Case,
    cams: Mapping[str, Volume],
    truths: Mapping[str, Volume],
    labels: Mapping[str, int],
) -> float | None:
    """Share of the volumes whose map peaks in the segments where evidence is expected."""
    hits = []
    for volume_id in _judged_volumes(case, cams, truths, labels):
        mask = _any_of(truths[volume_id], labels)
        geometry = truths[volume_id].geometry
        hits.append(is_peak_inside(cams[volume_id], mask, geometry=geometry))
    known = [hit for hit in hits if hit is not None]
    return float(np.mean(known)) if known else None


def _judged_volumes(
    case: Case,
    cams: Mapping[str, Volume],
    truths: Mapping[str, Volume],
    labels: Mapping[str, int],
) -> list[str]:
    """Volumes with a map in which all segments were looked for: else a map may be right unseen."""
    return [
        row.volume_id
        for row in case.volumes
        if row.volume_id in truths
        and row.volume_id in cams
        and set(labels) <= set(row.annotated_segments)
    ]


def _true_energy(
    case: Case,
    cams: Mapping[str, Volume],
    truths: Mapping[str, Volume],
    labels: Mapping[str, int],
) -> float | None:
    """Share of the energy of all maps inside the true masks; None unless all have such masks."""
    judged = _judged_volumes(case, cams, truths, labels)
    if len(judged) < len(cams):
        return None
    masks = [_any_of(truths[volume_id], labels) for volume_id in judged]
    if not any(mask.any() for mask in masks):
        return None
    fractions = [
        segment_fractions(
            mask.astype(np.uint8),
            truths[volume_id].geometry,
            cams[volume_id].geometry,
            labels=(1,),
        )
        for volume_id, mask in zip(judged, masks, strict=True)
    ]
    merged = LabelSchema(segments=(SegmentSpec(1, "all"),))
    return energy_in_segments([cams[v] for v in judged], fractions, schema=merged)["all"]


def _any_of(truth: Volume, labels: Mapping[str, int]) -> NDArray[np.bool_]:
    return np.asarray(np.isin(truth.array, list(labels.values())))


def _energy(answer: FindingResult, segments: tuple[str, ...]) -> float | None:
    shares = [answer.cam_energy_in_segments.get(name) for name in segments]
    known = [share for share in shares if share is not None]
    return float(sum(known)) if known else None


def _labels(schema: LabelSchema, names: tuple[str, ...]) -> dict[str, int]:
    """Label of each of these segments in the true label map."""
    return {segment.name: segment.label for segment in schema.segments if segment.name in names}
