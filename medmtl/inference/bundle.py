"""Model bundles: a folder of `bundle.toml`, `weights.safetensors`, `card.md`, `metrics.json`.

No pickle and no code. `bundle.toml` holds the SHA-256 of the other files; the model's identity is
the SHA-256 of `bundle.toml`, so that it covers weights, thresholds and calibration alike.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from medmtl.core.errors import BundleError, ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import ModelIdentity
from medmtl.evidence.contradictions import MeasurementRule
from medmtl.evidence.input_ranges import InputRanges
from medmtl.evidence.masks import MaskRules
from medmtl.inference.operating_point import SPEEDS, OperatingPoint
from medmtl.inference.plans_window import SlidingWindow
from medmtl.networks.joint import JointNet, NetworkConfig
from medmtl.postprocess.calibration import Calibration
from medmtl.postprocess.components import ComponentRules
from medmtl.postprocess.conformal import BinaryConformal, ClassConformal
from medmtl.transforms.any_grid import AnyPreprocessing
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing
from medmtl.transforms.settings import PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

__all__ = [
    "Bundle",
    "BundleSettings",
    "ChannelSettings",
    "FindingSettings",
    "InputSettings",
    "PartSettings",
    "RegionSettings",
    "SegmentSettings",
    "find_bundle",
    "load_bundle",
    "load_folds",
    "load_members",
    "load_parts",
    "shipped_bundles",
    "verify_bundle",
    "write_bundle",
]

_SETTINGS, _WEIGHTS = "bundle.toml", "weights.safetensors"
_HASHED = (_WEIGHTS, "card.md", "metrics.json")

MemberFile = Annotated[str, Field(pattern=r"^weights_[A-Za-z0-9_-]+\.safetensors$")]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeSettings(_Strict):
    """A coded concept."""

    value: str
    meaning: str
    scheme: str = "SCT"


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
        modality: DICOM modality; of several channels that of the first.
        channels: In the order of an imported network that sees several volumes together; else none.
        kind: "single" takes one volume; "phase_pair" takes end diastole and end systole, chosen
            from a cine by the volume of `phase_segment`.
        phase_segment: Segment whose volume is largest at end diastole and smallest at end systole.
        min_slices: Fewest slices of a volume.
    """

    modality: str
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
    """

    weights: Annotated[tuple[MemberFile | Literal["weights.safetensors"], ...], Field(min_length=1)]
    network: NetworkConfig
    intensities: tuple[ChannelIntensity, ...]
    sliding_window: SlidingWindow


class BundleSettings(_Strict):
    """`bundle.toml`.

    `conformal` is the prediction set of exclusive findings. `ensemble` names further weights of
    the same network, such as those of the folds: they never change the answer, only say how far
    it would have been another one. `folds` names further weights of an imported network, whose
    logits are averaged, as its authors do; `sliding_window` and `regions` are of such a network.
    `parts` are several such networks with one grid; `network` and `sliding_window` are then those
    of the first.
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
            f"add [speeds.{speed}] to its {_SETTINGS}."
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


@dataclass(frozen=True, eq=False)
class Bundle:
    """A loaded bundle: checked settings, identity and the network in evaluation mode."""

    settings: BundleSettings
    identity: ModelIdentity
    net: JointNet
    folder: Path


def _code(code: CodeSettings | None) -> Code | None:
    return Code(code.value, code.meaning, code.scheme) if code else None


def shipped_bundles() -> dict[str, Path]:
    """Bundles that travel with the package, by name."""
    root = Path(str(files("medmtl"))) / "bundles"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{_SETTINGS}"))}


def find_bundle(model: str | Path) -> Path:
    """The folder of a shipped bundle's name or of a path.

    Raises:
        BundleError: If there is neither.
    """
    shipped = shipped_bundles()
    if str(model) in shipped:
        return shipped[str(model)]
    folder = Path(model)
    if (folder / _SETTINGS).is_file():
        return folder
    raise BundleError(
        f"Model {str(model)!r}: found no such bundle, expected a folder with {_SETTINGS} or one of "
        f"{', '.join(shipped) or 'no shipped bundles'}. See `medmtl models list`."
    )


def read_settings(folder: Path) -> tuple[BundleSettings, ModelIdentity]:
    """The settings and identity of a bundle, without its weights.

    Raises:
        BundleError: If `bundle.toml` is missing or wrong.
    """
    path = folder / _SETTINGS
    try:
        content = path.read_bytes()
        settings = BundleSettings.model_validate(tomllib.loads(content.decode("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"Bundle {folder.name}: {_SETTINGS} cannot be read ({type(error).__name__})."
        raise BundleError(f"{message} Install the bundle again.") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise BundleError(f"Bundle {folder.name}: {_SETTINGS}: {problems}.") from error
    digest = hashlib.sha256(content).hexdigest()
    return settings, ModelIdentity(settings.name, settings.version, digest)


def verify_bundle(folder: Path) -> BundleSettings:
    """Recompute every checksum of a bundle.

    Raises:
        BundleError: Naming the first file that is missing or altered.
    """
    settings, _ = read_settings(folder)
    for name in (*_HASHED, *_further(settings)):
        _checked_bytes(folder, name, settings)
    return settings


def _further(settings: BundleSettings) -> Iterator[str]:
    """Weights besides those of the network that answers, or answers first."""
    yield from settings.ensemble or ()
    yield from settings.folds or ()
    for part in settings.parts:
        yield from (name for name in part.weights if name != _WEIGHTS)


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle; the weights are hashed from the very bytes that are then used.

    Raises:
        BundleError: If a file is missing or altered, or the weights do not fit the network.
    """
    settings, identity = read_settings(folder)
    return Bundle(settings, identity, _load_net(folder, _WEIGHTS, settings), folder)


def load_members(bundle: Bundle) -> tuple[JointNet, ...]:
    """The further networks of a bundle with an ensemble, in evaluation mode.

    Raises:
        BundleError: If the bundle has none, or a file is missing or altered.
    """
    if not bundle.settings.ensemble:
        raise BundleError(
            f"Bundle {bundle.folder.name}: found no `ensemble` in {_SETTINGS}, expected the "
            "weights of several folds. Use test-time augmentation (tta) instead."
        )
    return tuple(
        _load_net(bundle.folder, name, bundle.settings) for name in bundle.settings.ensemble
    )


def load_folds(bundle: Bundle) -> tuple[JointNet, ...]:
    """All networks whose logits are averaged, the first of them first; the others give masks only.

    Raises:
        BundleError: If a file is missing or altered.
    """
    settings = bundle.settings
    masks = settings.network.model_copy(update={"findings": (), "head": None})
    further = (
        _load_net(bundle.folder, name, settings, network=masks) for name in settings.folds or ()
    )
    return (bundle.net, *further)


def load_parts(bundle: Bundle) -> Iterator[tuple[PartSettings, list[JointNet]]]:
    """Every part with its networks, loaded when it is its turn.

    Raises:
        BundleError: If a file is missing or altered.
    """
    settings = bundle.settings
    for part in settings.parts:
        nets = [
            _load_net(bundle.folder, name, settings, network=part.network) for name in part.weights
        ]
        yield part, nets


def _load_net(
    folder: Path, name: str, settings: BundleSettings, *, network: NetworkConfig | None = None
) -> JointNet:
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _checked_bytes(folder, name, settings)
    try:
        net = JointNet(network or settings.network)
        _fill(net, load(content))
    except (SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise BundleError(
            f"Bundle {folder.name}: the weights do not fit the network that {_SETTINGS} describes. "
            "Install the bundle again."
        ) from error
    return net.eval()


def _fill(net: JointNet, weights: Mapping[str, Tensor]) -> None:
    """Load the weights into the network.

    Raises:
        RuntimeError: If names or shapes differ.
    """
    if weights.keys() != net.state_dict().keys() - _aliases(net):
        raise RuntimeError("the names of the weights differ")
    net.load_state_dict({name: _full(value) for name, value in weights.items()}, strict=False)


def _aliases(net: JointNet) -> set[str]:
    """Second names of tensors: MONAI's DynUNet registers each block twice."""
    seen: set[int] = set()
    aliases = set()
    for name, value in net.state_dict(keep_vars=True).items():
        if id(value) in seen:
            aliases.add(name)
        seen.add(id(value))
    return aliases


def _full(value: Tensor) -> Tensor:
    """Half precision on disk, single precision in use."""
    return value.float() if value.dtype.is_floating_point else value


def _checked_bytes(folder: Path, name: str, settings: BundleSettings) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        message = f"Bundle {folder.name}: {name} cannot be read ({type(error).__name__})."
        raise BundleError(f"{message} Install the bundle again.") from error
    found, expected = hashlib.sha256(content).hexdigest(), settings.sha256.get(name)
    if found != expected:
        raise BundleError(
            f"Bundle {folder.name}: {name} has SHA-256 {found[:12]}.., expected "
            f"{(expected or 'none')[:12]}... The file was altered or damaged; install it again."
        )
    return content


def write_bundle(
    folder: Path,
    settings: BundleSettings,
    weights: Mapping[str, Tensor],
    *,
    card: str,
    metrics_json: str,
    members: Mapping[str, Mapping[str, Tensor]] | None = None,
    folds: Mapping[str, Mapping[str, Tensor]] | None = None,
    parts: Mapping[str, Mapping[str, Tensor]] | None = None,
    is_half: bool = True,
) -> BundleSettings:
    """Write a bundle; each weight is stored once.

    Args:
        folder: Made if need be.
        settings: Without checksums.
        weights: Of the network that answers.
        card: The model card.
        metrics_json: What was measured.
        members: Further weights of the same network by name, such as "fold0", for the spread of
            an ensemble.
        folds: Further weights whose logits are averaged with those of `weights`.
        parts: Further weights by file name, as `settings.parts` names them.
        is_half: Store large tensors in half precision.

    Returns:
        The settings with the checksums filled in.
    """
    import tomli_w
    from safetensors.torch import save

    aliases = _aliases(JointNet(settings.network))

    def stored(values: Mapping[str, Tensor]) -> bytes:
        store = _half if is_half else _contiguous
        kept = {name: store(value) for name, value in values.items() if name not in aliases}
        return bytes(save(kept))

    def files_of(sets: Mapping[str, Mapping[str, Tensor]] | None) -> dict[str, bytes]:
        return {f"weights_{name}.safetensors": stored(w) for name, w in (sets or {}).items()}

    further, averaged = files_of(members), files_of(folds)
    contents = {
        _WEIGHTS: stored(weights),
        **further,
        **averaged,
        **{name: stored(values) for name, values in (parts or {}).items()},
        "card.md": card.encode("utf-8"),
        "metrics.json": metrics_json.encode("utf-8"),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    update = {
        "sha256": digests,
        "ensemble": tuple(further) or None,
        "folds": tuple(averaged) or None,
    }
    complete = BundleSettings.model_validate(settings.model_dump() | update)
    document = complete.model_dump(mode="json", exclude_none=True)
    contents[_SETTINGS] = tomli_w.dumps(document).encode("utf-8")
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return complete


def _half(value: Tensor) -> Tensor:
    """Large tensors in half precision; statistics and biases stay as they are."""
    value = _contiguous(value)
    is_large = value.dtype.is_floating_point and value.numel() >= 4096
    return value.half() if is_large else value


def _contiguous(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous()
