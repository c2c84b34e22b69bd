"""What was measured on one case: the rows that every summary is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medmtl.metrics.lesions import LesionCounts, match_lesions
from medmtl.metrics.overlap import dice, jaccard_of_dice
from medmtl.metrics.surface import TOLERANCE_MM, normalised_surface_dice, surface_distances

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
        assd_mm: Average symmetric surface distance; None where either is empty.
        lesions: Pieces found one by one; None where the segment is no lesion.
        pairwise_dice: Agreement of the members of an ensemble or of test-time augmentation; None
            where there were none.
    """

    volume_id: str
    segment: str
    dice: float | None
    hd95_mm: float | None
    nsd: float | None
    is_missed: bool
    truth_ml: float
    predicted_ml: float
    assd_mm: float | None = None
    lesions: LesionCounts | None = None
    pairwise_dice: float | None = None

    @property
    def jaccard(self) -> float | None:
        """Overlap over union; None where prediction and truth are both empty."""
        return jaccard_of_dice(self.dice)

    @property
    def volume_error_ml(self) -> float | None:
        """Predicted minus true volume; None where both are empty: agreement on nothing is easy."""
        return self.predicted_ml - self.truth_ml if self.dice is not None else None

    @property
    def volume_error_percent(self) -> float | None:
        """The error as a share of the true volume; None where that is empty."""
        if self.truth_ml <= 0:
            return None
        return 100 * (self.predicted_ml - self.truth_ml) / self.truth_ml


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
        energy_in_true_segments: The same inside the true masks; None as above or where a volume
            has a map but no true mask.
        threshold: Operating point of the decision.
        probability_std: Spread over members; None where there were none.
        is_in_set: Whether the prediction set holds the truth; None where either is missing.
        abstains: Whether the prediction set has no single answer; None where there is none.
    """

    name: str
    truth: bool | None
    probability: float
    decision: bool
    pointing_game: float | None = None
    energy_in_segments: float | None = None
    energy_in_true_segments: float | None = None
    threshold: float = 0.5
    probability_std: float | None = None
    is_in_set: bool | None = None
    abstains: bool | None = None

    @property
    def is_wrong(self) -> bool:
        """Whether the decision differs from a known truth."""
        return self.truth is not None and self.decision != self.truth


@dataclass(frozen=True)
class CaseScore:
    """One case.

    Attributes:
        case_id: Case of the manifest.
        patient_id: Its patient; intervals resample patients.
        segments: What was measured on masks.
        findings: What was answered about findings.
        not_analysed: Volumes with a true mask that the model did not use.
        flags: Quality flags of the answer as "severity: code", sorted.
        slice_mm: Largest voxel spacing of the images analysed; None where they differ.
        diagnosis_set: Classes that are not ruled out, where findings exclude each other and the
            model has prediction sets.
    """

    case_id: str
    patient_id: str
    segments: tuple[SegmentScore, ...] = ()
    findings: tuple[FindingScore, ...] = ()
    not_analysed: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    slice_mm: float | None = None
    diagnosis_set: tuple[str, ...] | None = None

    @property
    def mean_dice(self) -> float | None:
        """Mean over everything in the case that has a Dice."""
        known = [score.dice for score in self.segments if score.dice is not None]
        return sum(known) / len(known) if known else None


def score_segment(
    prediction: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    *,
    geometry: Geometry,
    volume_id: str,
    segment: str,
    tolerance_mm: float = TOLERANCE_MM,
    is_lesion: bool = False,
) -> SegmentScore:
    """Measure one predicted mask against the true one on the same grid.

    Args:
        prediction: Mask of shape (i, j, k).
        truth: Mask of the same shape.
        geometry: Their grid.
        volume_id: Volume inside the study.
        segment: Name of the structure.
        tolerance_mm: Of the normalised surface Dice.
        is_lesion: Whether its pieces are counted one by one.
    """
    spacing_mm = geometry.spacing_mm
    distances = surface_distances(prediction, truth, spacing_mm=spacing_mm)
    lesions = None
    if is_lesion:
        lesions = match_lesions(prediction, truth, voxel_mm3=geometry.voxel_mm3)
    return SegmentScore(
        volume_id=volume_id,
        segment=segment,
        dice=dice(prediction, truth),
        hd95_mm=distances.hd95_mm if distances else None,
        nsd=normalised_surface_dice(
            prediction, truth, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm
        ),
        is_missed=bool(prediction.any()) != bool(truth.any()),
        truth_ml=float(truth.sum() * geometry.voxel_mm3 / 1000),
        predicted_ml=float(prediction.sum() * geometry.voxel_mm3 / 1000),
        assd_mm=distances.assd_mm if distances else None,
        lesions=lesions,
    )
