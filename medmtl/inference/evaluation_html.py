"""report.html of an evaluation: what the page shows, taken from the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.inference.score_picture import load_picture
from medmtl.metrics.curves import precision_recall_points, roc_points
from medmtl.metrics.scores import CaseScore
from medmtl.report.evaluation_cases import CaseLine, Wrong
from medmtl.report.evaluation_page import EvaluationPlots, evaluation_page
from medmtl.report.table import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medmtl.metrics.curves import Points

    Result = CaseScore | Failure

__all__ = ["report_page"]


def report_page(
    record: Mapping[str, Any], results: Sequence[Result], *, records: Path | None = None
) -> str:
    """The text of report.html, one file that needs nothing else.

    Args:
        record: The content of metrics.json.
        results: One score or failure per case.
        records: Folder of scores and pictures; None for a report without pictures.
    """
    scores = [result for result in results if isinstance(result, CaseScore)]
    findings = list(record["diagnosis"]["per_finding"])
    return evaluation_page(
        record,
        cases=[_line(score, load_picture(records, score.case_id)) for score in scores],
        failures=[result for result in results if isinstance(result, Failure)],
        plots=EvaluationPlots(
            dice=_dice(scores),
            volumes_ml=_volumes_ml(scores),
            roc=_curves(scores, findings, roc_points),
            precision_recall=_curves(scores, findings, precision_recall_points),
        ),
    )


def _line(score: CaseScore, picture: bytes | None) -> CaseLine:
    several = len({part.volume_id for part in score.segments}) > 1
    dice = [
        (_name(part.segment, part.volume_id, several), part.dice)
        for part in score.segments
        if part.dice is not None
    ]
    return CaseLine(
        case_id=score.case_id,
        mean_dice=score.mean_dice,
        worst=tuple(sorted(dice, key=lambda pair: pair[1])),
        wrong=tuple(
            Wrong(part.name, part.probability, bool(part.truth))
            for part in score.findings
            if part.is_wrong
        ),
        flags=score.flags,
        picture=picture,
    )


def _name(segment: str, volume_id: str, several: bool) -> str:
    words = segment.replace("_", " ")
    return f"{words}, {volume_id}" if several else words


def _dice(scores: Sequence[CaseScore]) -> dict[str, list[float]]:
    """Dice by segment and volume."""
    parts = [part for score in scores for part in score.segments]
    several = len({part.volume_id for part in parts}) > 1
    found: dict[str, list[float]] = {}
    for part in sorted(parts, key=lambda part: part.segment):
        if part.dice is not None:
            name = _name(part.segment, part.volume_id, several)
            found.setdefault(name, []).append(part.dice)
    return found


def _volumes_ml(scores: Sequence[CaseScore]) -> dict[str, Points]:
    """True and predicted volumes by segment, where at least one of the masks is not empty."""
    found: dict[str, Points] = {}
    for score in scores:
        for part in score.segments:
            if part.volume_error_ml is not None:
                truth, predicted = found.setdefault(part.segment, ([], []))
                truth.append(part.truth_ml)
                predicted.append(part.predicted_ml)
    return found


def _curves(scores: Sequence[CaseScore], findings: Sequence[str], points: Any) -> dict[str, Points]:
    curves = {}
    for name in findings:
        rows = [part for score in scores for part in score.findings if part.name == name]
        found = points([row.truth for row in rows], np.array([row.probability for row in rows]))
        if found is not None:
            curves[name] = found
    return curves
