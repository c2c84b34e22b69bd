"""A small picture per case, kept beside its score, so that a report can show what went wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.durable import replace_file
from medmtl.inference.case_store import output_errors
from medmtl.inference.score_case import answers_by_row
from medmtl.report.evaluation_picture import comparison_png

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema
    from medmtl.core.prediction import Prediction, VolumePrediction
    from medmtl.core.volume import Volume
    from medmtl.data.cases import Case

__all__ = ["load_picture", "save_picture"]


def load_picture(records: Path | None, case_id: str) -> bytes | None:
    """The picture of a case; None where there is none."""
    try:
        return None if records is None else _path(records, case_id).read_bytes()
    except OSError:
        return None


def save_picture(
    records: Path,
    case: Case,
    prediction: Prediction,
    truths: Mapping[str, Volume],
    *,
    schema: LabelSchema,
) -> None:
    """Draw truth and answer side by side and keep the PNG.

    Args:
        records: Folder of the scores.
        case: The case.
        prediction: What the model answered.
        truths: True label map per volume id of the manifest.
        schema: Of the manifest.

    Raises:
        OutputError: If the folder cannot be written.
    """
    answers = answers_by_row(case, prediction)
    rows = {row.volume_id: row for row in case.volumes}
    pairs = []
    for volume_id, answer in answers.items():
        labels = (
            _shared_labels(prediction, answer, schema, rows[volume_id].annotated_segments)
            if volume_id in truths
            else {}
        )
        truth = _in_labels_of_model(truths[volume_id], labels) if labels else None
        pairs.append((answer, truth))
    if not pairs:
        return
    with output_errors(f"Picture of case {case.case_id}"):
        records.mkdir(parents=True, exist_ok=True)
        replace_file(_path(records, case.case_id), comparison_png(pairs))


def _shared_labels(
    prediction: Prediction,
    answer: VolumePrediction,
    schema: LabelSchema,
    annotated: tuple[str, ...],
) -> dict[int, int]:
    """The model's label of each of the manifest's labels that both know and somebody looked for."""
    own = {s.name: s.label for s in prediction.segments if s.volume == answer.volume.id}
    return {
        segment.label: own[segment.name]
        for segment in schema.segments
        if segment.name in annotated and segment.name in own
    }


def _in_labels_of_model(truth: Volume, labels: Mapping[int, int]) -> NDArray[Any]:
    """The true label map in the model's labels, so that both pictures have the same colours."""
    table = np.zeros(max([*labels, int(truth.array.max())]) + 1, dtype=np.uint16)
    for label, own in labels.items():
        table[label] = own
    return table[truth.array.astype(np.int64)]


def _path(records: Path, case_id: str) -> Path:
    return records / f"{case_id}.png"
