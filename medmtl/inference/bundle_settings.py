"""The fields of `bundle.toml`, and what must fit together among them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveFloat, model_validator

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.input_ranges import InputRanges
from medmtl.evidence.masks import MaskRules
from medmtl.inference.operating_point import SPEEDS, OperatingPoint
from medmtl.inference.plans_window import SlidingWindow
from medmtl.networks.joint import NetworkConfig
from medmtl.postprocess.calibration import Calibration
from medmtl.postprocess.components import ComponentRules
from medmtl.postprocess.conformal import BinaryConformal, ClassConformal
from medmtl.transforms.any_grid import AnyPreprocessing
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BundleSettings",
    "CamSettings",
    "ChannelSettings",
    "CodeSettings",
    "FindingSettings",
    "InputSettings",
    "PartSettings",
    "RegionSettings",
    "SegmentSettings",
]

MemberFile = Annotated[str, Field(pattern=r"^weights_[A-Za-z0-9_-]+\.safetensors$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeSettings(_Strict):
    """A coded concept; see core.labels.Code."""

    value: str
    meaning: str
    scheme: str = "SCT"
    modifier: CodeSettings | None = None

    @classmethod
    def of(cls, code: Code | None) -> CodeSettings | None:
        """As `bundle.toml` has it."""
        return cls.model_validate(asdict(code)) if code else None


class SegmentSettings(_Strict):
    """One structure; see core.labels.SegmentSpec."""

    label: Annotated[int, Field(ge=1, le=65535)]
    name: str
    code: CodeSettings | None = None
    is_lesion: bool = False
    expected_ml: tuple[FiniteFloat, FiniteFloat] | None = None


class FindingSettings(_Strict):
    """One diagnosis label with its calibration.

    The calibrated probability is sigmoid(scale * logit + offset) (Platt scaling; temperature
    scaling where the offset is zero), or linear between `knots` of (logit, probability) (isotonic
    regression). `conformal` holds the limits of the prediction set.
    """

    name: str
    code: CodeSettings | None = None
    segments: tuple[str, ...] = ()
    requires_segment: str | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    scale: PositiveFloat = 1.0
    offset: FiniteFloat = 0.0
    calibrated: bool = False
    knots: tuple[tuple[FiniteFloat, Probability], ...] | None = None
    conformal: BinaryConformal | None = None

    @model_validator(mode="after")
    def _is_monotone(self) -> FindingSettings:
        self.calibration()
        return self

    def calibration(self) -> Calibration:
        """The map from the raw logit to the calibrated probability."""
        return Calibration(self.scale, self.offset, self.knots or ())


class ChannelSettings(_Strict):
    """One of several input channels of an imported network; see `medmtl.inference.channels`."""

    name: str
    modality: str


class InputSettings(_Strict):
    """What a study must hold.

    Attributes:
        modality: DICOM modality; of several channels that of the first. Only a training that
            starts from an encoder, which knows it, may leave it out.
        channels: In the order of an imported network that sees several volumes together; else none.
        kind: "single" takes one volume; "phase_pair" takes end diastole and end systole, chosen
            from a cine by the volume of `phase_segment`.
        phase_segment: Segment whose volume is largest at end diastole and smallest at end systole.
        min_slices: Fewest slices of a volume.
    """

    modality: str = ""
    channels: tuple[ChannelSettings, ...] = ()
    kind: Literal["single", "phase_pair"] = "single"
    phase_segment: str | None = None
    min_slices: Annotated[int, Field(ge=1)] = 1


class CamSettings(_Strict):
    """Which activation maps are computed, and how much must lie inside the organ.

    Attributes:
        method: Of a feature map and its gradient; or "attribution", for a head that reads
            measurements and no features: what it rests on, drawn where it was measured.
        levels: Encoder levels of the maps; "attribution" has none.
        min_share: Less of the map than this inside the finding's segments raises a flag.
    """

    method: Literal["gradcam", "gradcam++", "layercam", "attribution"] = "layercam"
    levels: tuple[int, ...] = (-2,)
    min_share: Annotated[float, Field(ge=0, le=1)] = 0.2


class RegionSettings(_Strict):
    """One output of an imported network that answers for overlapping regions.

    Attributes:
        name: Of the whole region.
        paints: Label that its voxels get; a later region paints over an earlier one.
        labels: Labels that make up the region, once all are painted.
    """

    name: str
    paints: Annotated[int, Field(ge=1, le=65535)]
    labels: tuple[Annotated[int, Field(ge=1, le=65535)], ...]


class PartSettings(_Strict):
    """One of several imported networks that share a grid and name different segments.

    Attributes:
        weights: Files of this part, whose logits are averaged; those of the first part begin with
            the bundle's own weights.
        network: Its network, with its segments in the order of its outputs.
        intensities: How each channel is normalised for it.
        sliding_window: Its patch and mirroring.
        source: Which file of which folds it was imported from.
    """

    weights: Annotated[tuple[MemberFile | Literal["weights.safetensors"], ...], Field(min_length=1)]
    network: NetworkConfig
    intensities: tuple[ChannelIntensity, ...]
    sliding_window: SlidingWindow
    source: str | None = None


class BundleSettings(_Strict):
    """`bundle.toml`.

    `conformal` is the prediction set of exclusive findings. `ensemble` names further weights of
    the same network, such as those of the folds: they never change the answer, only say how far
    it would have been another one. `folds` names further weights of an imported network, whose
    logits are averaged, as its authors do; `sliding_window` and `regions` are of such a network.
    `parts` are several such networks with one grid; `network` and `sliding_window` are then those
    of the first. `source` says which file of which folds such a network was imported from.
    `speeds` are the operating points beside "balanced", at which the bundle was calibrated.
    """

    schema_version: Literal[1] = 1
    name: str
    version: str
    licence: str
    intended_use: str
    limits: str
    notice: str
    findings_exclusive: bool = False
    sha256: dict[str, str] = Field(default_factory=dict)
    input: InputSettings
    preprocessing: AnyPreprocessing
    network: NetworkConfig
    ranges: InputRanges | None = None
    cam: CamSettings = Field(default_factory=CamSettings)
    segments: tuple[SegmentSettings, ...] = ()
    findings: tuple[FindingSettings, ...] = ()
    rules: tuple[MeasurementRule, ...] = ()
    components: ComponentRules = Field(default_factory=ComponentRules)
    mask_rules: MaskRules = Field(default_factory=MaskRules)
    conformal: ClassConformal | None = None
    ensemble: tuple[MemberFile, ...] | None = None
    speeds: dict[Literal["fast", "best"], OperatingPoint] = Field(default_factory=dict)
    folds: tuple[MemberFile, ...] | None = None
    sliding_window: SlidingWindow | None = None
    regions: tuple[RegionSettings, ...] = ()
    parts: tuple[PartSettings, ...] = ()
    source: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> BundleSettings:
        """The network's outputs have no names of their own: another order would swap answers."""
        if problems := [text for text, is_wrong in self._contradictions() if is_wrong]:
            raise ValueError("; ".join(problems))
        return self

    def _contradictions(self) -> Iterator[tuple[str, bool]]:
        network, head = self.network, self.network.head
        segments = tuple(segment.name for segment in self.segments)
        of_parts = [name for part in self.parts for name in part.network.segments]
        if self.parts:
            yield "parts must name each segment once", sorted(of_parts) != sorted(segments)
            yield (
                "parts belong to preprocessing nnunet_plans without folds, regions and findings, "
                "and network is that of the first",
                not isinstance(self.preprocessing, PlansPreprocessing)
                or bool(self.folds or self.regions or self.findings)
                or self.parts[0].network != network,
            )
            segments = network.segments
        findings = tuple(finding.name for finding in self.findings)
        labels = [segment.label for segment in self.segments]
        wanted = 1 if self.input.kind == "single" else 2
        yield "input.modality is missing", not self.input.modality
        yield (
            f"segments {segments} must be network.segments {network.segments}",
            (segments != network.segments),
        )
        yield (
            f"findings {findings} must be network.findings {network.findings}",
            (findings != network.findings),
        )
        yield f"labels {labels} must ascend", labels != sorted(set(labels))
        yield (
            f"input {self.input.kind} needs {wanted} network.volumes",
            (len(network.volumes) != wanted),
        )
        yield (
            f"input.phase_segment {self.input.phase_segment} is no segment",
            self.input.kind == "phase_pair"
            and network.has_segmentation
            and self.input.phase_segment not in segments,
        )
        yield "a rule names an unknown finding", not {r.finding for r in self.rules} <= {*findings}
        yield (
            f"cam.levels {self.cam.levels} must be among network.head.levels",
            (head is not None and head.embedding > 0 and not {*self.cam.levels} <= {*head.levels}),
        )
        yield (
            "cam.method attribution needs a head that reads measurements and no features "
            "(network.head.measurements, embedding 0, detach_measurements false)",
            self.cam.method == "attribution"
            and (
                head is None
                or head.embedding > 0
                or head.measurements is None
                or head.detach_measurements
            ),
        )
        yield (
            "a network without segmentation has no segments",
            not network.has_segmentation and bool(segments),
        )
        is_nnunet = isinstance(self.preprocessing, PlansPreprocessing)
        is_imported = not isinstance(self.preprocessing, PreprocessingConfig)
        is_joint = is_imported and bool(findings)
        yield (
            "sliding_window, folds and regions belong to preprocessing nnunet_plans",
            is_nnunet != (self.sliding_window is not None)
            or (not is_nnunet and bool(self.folds or self.regions)),
        )
        yield (
            f"regions must paint the labels {labels}, and only they need no background",
            bool(self.regions) == network.has_background
            or (bool(self.regions) and sorted(r.paints for r in self.regions) != labels),
        )
        names = [channel.name.casefold() for channel in self.input.channels]
        yield (
            f"input.channels {names} must fit network.in_channels {network.in_channels}, and only "
            "an imported network has several",
            network.in_channels != max(1, len(names))
            or len(names) == 1
            or len(set(names)) != len(names)
            or (bool(names) and not is_imported),
        )
        yield (
            "preprocessing.channels must fit network.in_channels",
            isinstance(self.preprocessing, PlansPreprocessing)
            and len(self.preprocessing.channels) != network.in_channels,
        )
        yield (
            "findings of an imported network need network.slice_context 0 and network.sharing hard",
            is_joint and (network.slice_context > 0 or network.sharing != "hard"),
        )
        yield (
            f"cam.method {self.cam.method} needs a whole feature map at once; an imported network "
            "sees patches: layercam or attribution",
            is_joint and self.cam.method not in ("layercam", "attribution"),
        )
        yield (
            "findings need an imported network of one input channel and one part",
            is_joint and (network.in_channels > 1 or bool(self.parts)),
        )
        yield "an imported network has one operating point", is_imported and bool(self.speeds)
        yield (
            "conformal needs exclusive findings and one quantile for each and for none",
            self.conformal is not None
            and not (
                self.findings_exclusive and len(self.conformal.quantiles) == len(findings) + 1
            ),
        )

    def operating_point(self, speed: str) -> OperatingPoint:
        """What `--speed` means for this bundle.

        Raises:
            ConfigError: If the speed is unknown, or the bundle does not have it.
        """
        if speed not in SPEEDS:
            raise ConfigError(f"--speed: found {speed!r}, expected one of {', '.join(SPEEDS)}.")
        for name, point in self.speeds.items():
            if name == speed:
                return point
        if speed == "balanced":
            return OperatingPoint()
        raise ConfigError(
            f"--speed {speed}: model {self.name} has no such operating point. Use balanced, or "
            f"add [speeds.{speed}] to its bundle.toml."
        )

    def label_schema(self) -> LabelSchema:
        """The segments and findings as core nouns."""
        return LabelSchema(
            segments=tuple(
                SegmentSpec(s.label, s.name, _code(s.code), s.is_lesion, s.expected_ml)
                for s in self.segments
            ),
            findings=tuple(
                FindingSpec(f.name, _code(f.code), f.segments, f.requires_segment)
                for f in self.findings
            ),
            findings_exclusive=self.findings_exclusive,
        )


def _code(code: CodeSettings | None) -> Code | None:
    return Code(code.value, code.meaning, code.scheme, _code(code.modifier)) if code else None
