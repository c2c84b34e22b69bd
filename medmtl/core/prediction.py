"""What one study's analysis gives back. Everything a report needs, nothing that needs torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from medmtl.core.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.core.flags import Flag
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume

__all__ = [
    "ChannelSource",
    "Covariates",
    "FindingResult",
    "FindingUncertainty",
    "Measurement",
    "ModelIdentity",
    "Prediction",
    "PredictionSet",
    "SegmentResult",
    "SegmentUncertainty",
    "UncertaintySource",
    "VolumePrediction",
]


@dataclass(frozen=True)
class Covariates:
    """Clinical covariates of a study; None where unknown. Unknown is not zero."""

    age_years: float | None = None
    sex: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class ChannelSource:
    """Which series or file of the study was one input channel of the network.

    Attributes:
        name: Of the channel, as the model calls it.
        series_uid: Of the series, "" for NIfTI.
        path: First source file relative to the input.
        matched_by: "option", "number", "name" or "modality".
        is_resampled: Whether it was brought to the grid of the first channel.
    """

    name: str
    series_uid: str
    path: str
    matched_by: str
    is_resampled: bool


@dataclass(frozen=True)
class UncertaintySource:
    """Which further answers the spread was taken over.

    Attributes:
        method: "tta" (test-time augmentation) or "ensemble".
        members: Names of the answers, that of the case itself first.
    """

    method: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class SegmentUncertainty:
    """How far the members' masks of one segment agree, on the network's own grid.

    Attributes:
        pairwise_dice: Mean Dice over all pairs of members; a pair of empty masks has none, and
            None is left where no pair has one.
        min_pairwise_dice: The smallest.
        volume_ml_std: Standard deviation of the members' volumes.
    """

    pairwise_dice: float | None
    min_pairwise_dice: float | None
    volume_ml_std: float


@dataclass(frozen=True)
class FindingUncertainty:
    """How far the members' probabilities of one finding agree, each through the calibration.

    Attributes:
        mean: Of the members.
        std: Standard deviation over the members.
        low: Smallest.
        high: Largest.
        agreement: Share of the members whose decision is that of the case.
    """

    mean: float
    std: float
    low: float
    high: float
    agreement: float


@dataclass(frozen=True)
class SegmentResult:
    """One segment of one volume; `mean_intensity` is None where the segment is empty."""

    volume: str
    label: int
    name: str
    volume_ml: float
    voxels: int
    mean_intensity: float | None
    uncertainty: SegmentUncertainty | None = None


@dataclass(frozen=True)
class Measurement:
    """A number derived from masks; `value` is None where it could not be derived.

    Attributes:
        name: Snake-case name, such as "lv_ejection_fraction".
        value: The number in `unit`.
        unit: UCUM unit, such as "mL", "mm", "%", "mL/m2", "1".
        source: What it was derived from, for example "ed:left_ventricle_cavity" ("from" in JSON).
    """

    name: str
    value: float | None
    unit: str
    source: str


@dataclass(frozen=True)
class PredictionSet:
    """The answers that conformal prediction does not rule out.

    Attributes:
        members: "present" and "absent" for one finding, names of classes for exclusive ones.
        coverage: At least this share of such sets holds the truth, on exchangeable cases.
    """

    members: tuple[str, ...]
    coverage: float

    @property
    def abstains(self) -> bool:
        """Whether the set gives no single answer: several are left, or none is like the cases."""
        return len(self.members) != 1


@dataclass(frozen=True, eq=False)
class FindingResult:
    """One diagnosis label of a study.

    Attributes:
        name: Finding name of the schema.
        probability: In 0..1, calibrated where `calibrated` says so.
        threshold: Operating point.
        decision: Whether the finding is called present.
        calibrated: Whether the probability went through the bundle's calibration.
        cams: Activation map in 0..1 per volume id, on its own coarse grid.
        cam_energy_in_segments: Share of the map's energy inside each segment, 0..1.
        measurements: Names of the measurements that the decision used.
        contributions: How far each of them, and each covariate, moved the logit from that of the
            mean training patient; empty where the model cannot tell.
        prediction_set: Of "present" and "absent", what is not ruled out; None where the bundle
            has no conformal quantile.
        uncertainty: Where it was asked for.
    """

    name: str
    probability: float
    threshold: float
    decision: bool
    calibrated: bool
    cams: Mapping[str, Volume] = field(default_factory=dict)
    cam_energy_in_segments: Mapping[str, float] = field(default_factory=dict)
    measurements: tuple[str, ...] = ()
    contributions: Mapping[str, float] = field(default_factory=dict)
    prediction_set: PredictionSet | None = None
    uncertainty: FindingUncertainty | None = None


@dataclass(frozen=True, eq=False)
class VolumePrediction:
    """Masks of one volume.

    Attributes:
        volume: The source volume that was analysed (image and grid).
        label_map: Shape of the source volume, uint8 or uint16, 0 is background.
        known_runs: Of the label map, where they were found before.
    """

    volume: Volume
    label_map: NDArray[Any]
    known_runs: Runs | None = None

    @cached_property
    def runs(self) -> Runs:
        """Of the label map, found once for all that measures it."""
        return self.known_runs or Runs.of_volume(self.label_map)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The whole answer for one study.

    `diagnosis_set` holds the classes that are not ruled out, where findings exclude each other and
    the bundle has a conformal quantile; `uncertainty` is None where it was not asked for;
    `channels` is empty where the network has one input channel.
    """

    model: ModelIdentity
    volumes: tuple[VolumePrediction, ...]
    segments: tuple[SegmentResult, ...]
    measurements: tuple[Measurement, ...]
    findings: tuple[FindingResult, ...]
    flags: tuple[Flag, ...]
    timings_s: Mapping[str, float]
    notice: str = "Research software, not a medical device."
    schema: LabelSchema | None = None
    diagnosis_set: PredictionSet | None = None
    uncertainty: UncertaintySource | None = None
    channels: tuple[ChannelSource, ...] = ()
