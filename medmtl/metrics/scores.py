"""What was measured on one case: the rows that every summary is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.metrics.overlap import dice
from medmtl.metrics.surface import TOLERANCE_MM, hd95_mm, normalised_surface_dice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["CaseScore", "FindingScore", "SegmentScore", "score_segment"]


@dataclass(frozen=True)
class SegmentScore:
    """One segment of one volume.

    Attributes:
        volume_id: Volume inside the study.
        segment: Name of the structure.
        dice: None where prediction and truth are both empty.
        hd95_mm: None where either is empty.
        nsd: Normalised surface Dice; None where both are empty.
        is_missed: Whether exactly one of prediction and truth is empty.
        truth_ml: True volume.
        predicted_ml: Predicted volume.
    """

    volume_id: str
    segment: str
    dice: float | None
    hd95_mm: float | None
    nsd: float | None
    is_missed: bool
    truth_ml: float
    predicted_ml: float


@dataclass(frozen=True)
class FindingScore:
    """One finding of one case.

    Attributes:
        name: Name of the finding.
        truth: None where unknown.
        probability: In 0..1.
        decision: Whether the model calls it present.
        pointing_game: Share of the volumes whose map peaks in the relevant segments; None where
            the finding is not present, or has no map or no mask.
        energy_in_segments: Share of the map's energy inside the predicted relevant segments; None
            as above.
    """

    name: str
    truth: bool | None
    probability: float
    decision: bool
    pointing_game: float | None = None
    energy_in_segments: float | None = None


@dataclass(frozen=True)
class CaseScore:
    """One case; `not_analysed` names volumes with a true mask that the model did not use."""

    case_id: str
    patient_id: str
    segments: tuple[SegmentScore, ...] = ()
    findings: tuple[FindingScore, ...] = ()
    not_analysed: tuple[str, ...] = ()


def score_segment(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    geometry: Geometry,
    volume_id: str,
    segment: str,
    tolerance_mm: float = TOLERANCE_MM,
) -> SegmentScore:
    """Measure one predicted mask against the true one on the same grid.

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        geometry: Their grid.
        volume_id: Volume inside the study.
        segment: Name of the structure.
        tolerance_mm: Of the normalised surface Dice.
    """
    spacing_mm = geometry.spacing_mm
    return SegmentScore(
        volume_id=volume_id,
        segment=segment,
        dice=dice(prediction, truth),
        hd95_mm=hd95_mm(prediction, truth, spacing_mm=spacing_mm),
        nsd=normalised_surface_dice(
            prediction, truth, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm
        ),
        is_missed=bool(prediction.any()) != bool(truth.any()),
        truth_ml=float(truth.sum() * geometry.voxel_mm3 / 1000),
        predicted_ml=float(prediction.sum() * geometry.voxel_mm3 / 1000),
    )
