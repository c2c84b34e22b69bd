"""One prediction against the truth of its case."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import ConfigError
from medmtl.data.mask_rules import grid_refusal, label_refusal
from medmtl.inference.score_findings import score_findings
from medmtl.metrics.scores import CaseScore, SegmentScore, score_segment
from medmtl.metrics.surface import TOLERANCE_MM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema, SegmentSpec
    from medmtl.core.prediction import Prediction, VolumePrediction
    from medmtl.core.volume import Volume
    from medmtl.data.cases import Case

__all__ = ["answers_by_row", "check_truth", "score_case"]


def check_truth(truth: Volume, image: Geometry, *, schema: LabelSchema, source: str) -> None:
    """Refuse a label map that does not lie on its image's grid or holds labels of no segment.

    Args:
        truth: Label map.
        image: Grid of the image.
        schema: What its values mean.
        source: File relative to the data root, for the message.

    Raises:
        InputRefusedError: Naming what was found and what was expected.
    """
    refusal = grid_refusal(truth.geometry, image, source=source, stage="evaluate")
    if refusal is None:
        known = [segment.label for segment in schema.segments]
        values = np.unique(truth.array).tolist()
        refusal = label_refusal(values, known, source=source, stage="evaluate")
    if refusal is not None:
        raise refusal


def score_case(
    case: Case,
    prediction: Prediction,
    truths: Mapping[str, Volume],
    *,
    schema: LabelSchema,
    tolerance_mm: float = TOLERANCE_MM,
) -> CaseScore:
    """Measure everything whose truth is known; segments and findings are matched by name.

    Args:
        case: Its findings and which segments were annotated.
        prediction: What the model answered.
        truths: True label map per volume id, for the volumes that have one.
        schema: Of the manifest; its labels are those of the true label maps.
        tolerance_mm: Of the normalised surface Dice.

    Raises:
        ConfigError: If model and manifest have no segment and no finding in common, or an answer
            is not on the grid of its truth.
    """
    _check_common_names(prediction, schema)
    answered = answers_by_row(case, prediction)
    segments: list[SegmentScore] = []
    for row in case.volumes:
        if row.volume_id in truths and row.volume_id in answered:
            segments += _score_volume(
                prediction,
                answered[row.volume_id],
                truths[row.volume_id],
                volume_id=row.volume_id,
                segments=[s for s in schema.segments if s.name in row.annotated_segments],
                tolerance_mm=tolerance_mm,
            )
    own_ids = {volume_id: answer.volume.id for volume_id, answer in answered.items()}
    classes = prediction.diagnosis_set
    return CaseScore(
        case_id=case.case_id,
        patient_id=case.patient_id,
        segments=tuple(segments),
        findings=tuple(score_findings(case, prediction, truths, schema, own_ids)),
        not_analysed=tuple(sorted(truths.keys() - answered.keys())),
        flags=tuple(sorted({f"{flag.severity}: {flag.code}" for flag in prediction.flags})),
        slice_mm=_slice_mm(prediction.volumes),
        diagnosis_set=None if classes is None else classes.members,
    )


def _slice_mm(volumes: Sequence[VolumePrediction]) -> float | None:
    """Largest voxel spacing, to 0.01 mm; None where the volumes of a case differ in it."""
    found = {round(float(max(part.volume.geometry.spacing_mm)), 2) for part in volumes}
    return found.pop() if len(found) == 1 else None


def answers_by_row(case: Case, prediction: Prediction) -> dict[str, VolumePrediction]:
    """Answers by the manifest's volume id; a model may call a volume by a name of its own."""
    ids = {row.image: row.volume_id for row in case.volumes}
    return {ids.get(v.volume.path, v.volume.id): v for v in prediction.volumes}


def _check_common_names(prediction: Prediction, schema: LabelSchema) -> None:
    segments = {segment.name for segment in prediction.segments}
    findings = {finding.name for finding in prediction.findings}
    if segments & set(schema.segment_names) or findings & set(schema.finding_names):
        return
    message = (
        f"model {prediction.model.name} and the manifest have no name in common: the model answers "
        f"{sorted(segments | findings)}, the manifest knows "
        f"{sorted({*schema.segment_names, *schema.finding_names})}."
    )
    raise ConfigError(message)


def _score_volume(
    prediction: Prediction,
    answer: VolumePrediction,
    truth: Volume,
    *,
    volume_id: str,
    segments: Sequence[SegmentSpec],
    tolerance_mm: float,
) -> Iterator[SegmentScore]:
    if answer.label_map.shape != truth.array.shape or not answer.volume.geometry.is_close(
        truth.geometry
    ):
        message = (
            f"volume {volume_id}: the predicted label map {answer.label_map.shape} is not on the "
            f"grid of the source image {truth.array.shape}."
        )
        raise ConfigError(message)
    own = {s.name: s for s in prediction.segments if s.volume == answer.volume.id}
    for segment in segments:
        if segment.name in own:
            agreement = own[segment.name].uncertainty
            score = score_segment(
                answer.label_map == own[segment.name].label,
                truth.array == segment.label,
                geometry=truth.geometry,
                volume_id=volume_id,
                segment=segment.name,
                tolerance_mm=tolerance_mm,
                is_lesion=segment.is_lesion,
            )
            yield replace(score, pairwise_dice=agreement.pairwise_dice if agreement else None)
