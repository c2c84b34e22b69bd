"""A bundle that answers for studies: volumes in, one Prediction out."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from medmtl.core.errors import BundleError, ConfigError, InputRefusedError
from medmtl.core.flags import Flag
from medmtl.core.prediction import (
    FindingResult,
    Measurement,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.evidence.cam import cam_volume
from medmtl.evidence.contradictions import (
    check_activation,
    check_contradictions,
    check_measurements,
)
from medmtl.evidence.fractions import segment_fractions
from medmtl.evidence.localisation import energy_in_segments
from medmtl.evidence.masks import check_masks
from medmtl.evidence.quality import check_input
from medmtl.inference.backend import check_backend, give_engine
from medmtl.inference.bundle import find_bundle, load_bundle, load_members, shipped_bundles
from medmtl.inference.channels import parse_channels
from medmtl.inference.finding_answers import FindingAnswers, answer_findings
from medmtl.inference.imported import ImportedModel
from medmtl.inference.load_imported import ImportedPredictor, load_imported
from medmtl.inference.routes import OwnRoute, route_of
from medmtl.inference.select_input import other_series_flags, select_volumes
from medmtl.inference.stage_clock import StageClock
from medmtl.inference.stages import Staged, stages_of
from medmtl.inference.uncertainty import METHODS, gather_members
from medmtl.inference.uncertainty_report import with_uncertainty
from medmtl.inference.view_mean import mean_over_views
from medmtl.postprocess.cardiac import cardiac_measurements
from medmtl.postprocess.components import clean_components
from medmtl.postprocess.measure import measure_segments
from medmtl.postprocess.torso import torso_measurements
from medmtl.transforms.preprocessing import NetworkInput, PreprocessingConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.runs import Runs
    from medmtl.core.study import Listing, Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.inference.bundle import Bundle
    from medmtl.inference.bundle_settings import BundleSettings
    from medmtl.inference.joint_pass import JointPass
    from medmtl.inference.stages import Stages
    from medmtl.networks.joint import JointNet

logger = logging.getLogger(__name__)

__all__ = ["AutoPredictor", "Predictor", "arranged", "choose_device", "load_predictor"]

SOURCE_MEASUREMENTS = {"cardiac": cardiac_measurements, "torso": torso_measurements}
"""Measurements on the source grid, by the name of the head's measurement set; plain volumes are
reported with the segments."""


class Predictor(Staged):
    """One bundle, loaded once, used for many studies.

    Args:
        bundle: The loaded bundle; its network is moved to `device`.
        device: Where the network runs.
        cam: Findings for which activation maps are computed.
        uncertainty: "none", "tta" (further passes over views of the input) or "ensemble" (over the
            bundle's further weights); it never changes the answer, only says how far it spreads.
        backend: Of `medmtl.inference.backend.BACKENDS`.
        cache: Folder of networks converted for a backend; None keeps none.
        speed: Of `medmtl.inference.operating_point.SPEEDS`.

    Raises:
        BundleError: If an ensemble is asked of a bundle that has none.
        ConfigError: If the backend that was asked for cannot run the network.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: torch.device,
        cam: Sequence[str],
        uncertainty: str = "none",
        backend: str = "torch",
        cache: Path | None = None,
        speed: str = "balanced",
    ) -> None:
        self.bundle = bundle
        self.speed = speed
        self.point = bundle.settings.operating_point(speed)
        self.device = device
        self.schema = bundle.settings.label_schema()
        if is_masks_only(bundle.settings):
            message = f"Bundle {bundle.folder.name}: imported; load it with load_predictor."
            raise BundleError(message)
        self.net = bundle.net.to(device)
        self.route = route_of(bundle, device=device, point=self.point)
        self.net.requires_grad_(requires_grad=False)
        self.cam = tuple(name for name in self.schema.finding_names if name in cam)
        self.uncertainty = uncertainty
        self.further_nets: tuple[JointNet, ...] = ()
        if uncertainty == "ensemble":
            nets = load_members(bundle)
            self.further_nets = tuple(net.requires_grad_(False).to(device) for net in nets)
        if not isinstance(self.route, OwnRoute):
            self.backend = "torch"
            return
        give = partial(
            give_engine,
            settings=bundle.settings,
            device=device,
            cache=cache,
            precision=self.point.precision,
            compiler=self.point.compiler,
        )
        chosen = _chosen_backend(backend, self.point.backend, device)
        try:
            self.backend = give(self.net, backend=chosen)
        except ConfigError as error:
            if backend != "auto":
                raise
            logger.warning("%s: %s", bundle.settings.name, error)
            self.backend = give(self.net, backend="auto")
        for net in self.further_nets:
            give(net, backend="openvino" if self.backend == "int8" else self.backend)

    @property
    def identity(self) -> ModelIdentity:
        """Which model answers."""
        return self.bundle.identity

    @property
    def settings(self) -> Mapping[str, Any]:
        """What makes one result differ from another."""
        settings = {"device": self.device.type, "backend": self.backend, "cam": list(self.cam)}
        # Without uncertainty the settings, and so the finished cases, are those of before.
        asked = {} if self.uncertainty == "none" else {"uncertainty": self.uncertainty}
        asked |= {} if self.speed == "balanced" else {"speed": self.speed}
        return settings | asked

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volumes to read, by the rule of `select_input`."""
        return select_volumes(study, self.bundle.settings)

    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        """Masks, diagnoses and evidence for the volumes that `select` named, in that order."""
        clock = StageClock()
        unread_flags = other_series_flags(study, volumes)
        phase_flags: list[Flag] = []
        phase_facts: list[Measurement] = []
        is_cine = self._is_cine(volumes)
        if is_cine:  # the network finds the two phases, so there is nothing to prepare before
            yield
            clock.go_on()
            volumes, phase_flags, phase_facts = self._choose(volumes)
            clock.stop("network")
        else:
            volumes = _renamed(volumes, self.net.config.volumes)
        flags = [*unread_flags, *phase_flags]
        ranges = self.bundle.settings.ranges
        for volume in volumes:
            flags += [*volume.flags, *(check_input(volume, ranges) if ranges else ())]
        inputs = [self.route.prepare(volume) for volume in volumes]
        clock.stop("preprocess")
        if not is_cine:
            yield
            clock.go_on()
        answer = self._answer(study, inputs)
        clock.stop("network")
        members = None
        if self.uncertainty != "none":
            members = gather_members(
                self.uncertainty,
                [self.net, *self.further_nets],
                inputs,
                answer=answer,
                settings=self.bundle.settings,
                run=partial(self.route.run, covariates=study.covariates),
            )
            clock.stop("uncertainty")
        yield
        clock.go_on()
        masks = self._masks(volumes, inputs, answer)
        answer = replace(answer, logits=[])  # half a gigabyte of a CT that nothing reads any more
        prediction = self._report(study, masks, inputs, answer, flags, phase_facts)
        clock.stop("postprocess")
        if members is not None:
            prediction = with_uncertainty(
                prediction, members, inputs, settings=self.bundle.settings, method=self.uncertainty
            )
            clock.stop("uncertainty")
        return replace(prediction, timings_s=clock.seconds)

    def _answer(self, study: Study, inputs: Sequence[NetworkInput]) -> JointPass:
        """One pass, or the mean over the views of the operating point."""
        names = self.schema.finding_names
        run = partial(self.route.run, self.net, covariates=study.covariates)
        first = run(inputs, cam_findings=[names.index(name) for name in self.cam])
        views = self.point.further_views()
        return mean_over_views(first, inputs, views, run=run) if views else first

    def _is_cine(self, volumes: Sequence[Volume]) -> bool:
        """Whether the phases must still be chosen."""
        is_single = self.bundle.settings.input.kind == "single"
        return not is_single and _last_names(volumes) != list(self.net.config.volumes)

    def _choose(
        self, volumes: Sequence[Volume]
    ) -> tuple[tuple[Volume, ...], list[Flag], list[Measurement]]:
        """End diastole and end systole of a cine, named as the network does."""
        wanted = self.bundle.settings.input
        slots = self.net.config.volumes
        named = _last_names(volumes)
        if wanted.phase_segment is None:
            raise InputRefusedError(
                "study",
                stage="select",
                code="phases-not-named",
                found=f"volumes {', '.join(named)}",
                expected=f"volumes named {', '.join(slots)}: this model has no masks to find them",
                advice="Name the files by their phases, or use a model with segmentation.",
            )
        class_index = self.net.config.segments.index(wanted.phase_segment) + 1
        ed, es, curve_ml = self.route.phases(self.net, volumes, class_index=class_index)
        facts = [
            Measurement("ed_phase", float(ed), "1", f"cine of {len(volumes)} phases"),
            Measurement("es_phase", float(es), "1", f"cine of {len(volumes)} phases"),
        ]
        flags = []
        if curve_ml[es] > 0.9 * curve_ml[ed]:
            flags.append(
                Flag(
                    "phases-alike",
                    "warning",
                    f"The {wanted.phase_segment} changes only from {curve_ml[ed]:.0f} to "
                    f"{curve_ml[es]:.0f} mL over the cycle; the phases may be incomplete.",
                )
            )
        return _renamed([volumes[ed], volumes[es]], slots), flags, facts

    def _masks(
        self, volumes: Sequence[Volume], inputs: Sequence[NetworkInput], answer: JointPass
    ) -> tuple[VolumePrediction, ...]:
        """The label map of each volume, on its own grid."""
        return tuple(
            VolumePrediction(volume, *self._label_map(volume, prepared, logits))
            for volume, prepared, logits in zip(volumes, inputs, answer.logits, strict=True)
        )

    def _report(
        self,
        study: Study,
        masks: Sequence[VolumePrediction],
        inputs: Sequence[NetworkInput],
        answer: JointPass,
        flags: list[Flag],
        phase_facts: list[Measurement],
    ) -> Prediction:
        settings = self.bundle.settings
        segments: list[SegmentResult] = []
        for mask in masks:
            measured = measure_segments(mask.volume, mask.label_map, self.schema, runs=mask.runs)
            segments += measured
            flags += check_masks(
                self.schema,
                mask.label_map,
                segments=measured,
                rules=settings.mask_rules,
                runs=mask.runs,
            )
        measurements = [*phase_facts, *self._measurements(study, masks, answer, segments)]
        for mask in masks:
            said, found = self.route.facts(study, mask.volume, mask.label_map)
            flags, measurements = [*flags, *said], [*measurements, *found]
        logits = answer.finding_logits
        answered = None if logits is None else answer_findings(settings, logits.tolist())
        if answered is not None and self.speed != "balanced":  # coverage holds where it was fitted
            answered = replace(answered, sets={}, classes=None)
        findings = [] if answered is None else self._findings(masks, inputs, answer, answered)
        flags += _abstentions(answered)
        flags += check_contradictions(
            self.schema,
            segments=segments,
            findings=findings,
            min_lesion_ml=max(0.1, settings.components.min_lesion_ml),
        )
        flags += check_measurements(settings.rules, measurements=measurements, findings=findings)
        with_maps = [finding for finding in findings if finding.cams and finding.decision]
        flags += check_activation(self.schema, findings=with_maps, min_share=settings.cam.min_share)
        if self.cam and answer.finding_logits is not None and not answer.cams:
            flags.append(
                Flag("activation-not-computed", "info", "The volume is too large for maps.")
            )
        return Prediction(
            model=self.identity,
            volumes=tuple(masks),
            segments=tuple(segments),
            measurements=tuple(measurements),
            findings=tuple(findings),
            flags=tuple(dict.fromkeys(flags)),
            timings_s={},
            notice=settings.notice,
            schema=self.schema,
            diagnosis_set=None if answered is None else answered.classes,
        )

    def _label_map(
        self, volume: Volume, prepared: NetworkInput, logits: torch.Tensor
    ) -> tuple[NDArray[Any], Runs]:
        restored = self.route.label_map(volume, prepared, logits)
        rules = self.bundle.settings.components
        return clean_components(restored, volume.geometry, self.schema, rules=rules)

    def _measurements(
        self,
        study: Study,
        masks: Sequence[VolumePrediction],
        answer: JointPass,
        measured: Sequence[SegmentResult],
    ) -> list[Measurement]:
        """On the source grid, and the very numbers that the diagnosis head read."""
        head, measure = self.net.config.head, self.net.measure
        if head is None or head.measurements is None or measure is None:
            return []
        on_source: Sequence[Measurement] = ()
        if (take := SOURCE_MEASUREMENTS.get(head.measurements)) is not None:
            by_id = {mask.volume.id: mask for mask in masks}
            on_source = take(by_id, self.schema, covariates=study.covariates, measured=measured)
        values = answer.measurements.tolist()
        read = [
            Measurement(
                _input_name(name), None if math.isnan(value) else value, unit, "network input"
            )
            for name, unit, value in zip(measure.names, measure.units, values, strict=True)
        ]
        return [*on_source, *read]

    def _findings(
        self,
        masks: Sequence[VolumePrediction],
        inputs: Sequence[NetworkInput],
        answer: JointPass,
        answered: FindingAnswers,
    ) -> list[FindingResult]:
        used = tuple(_input_name(name) for name in self.net.measurement_names)
        fractions: dict[str, Any] = {}
        results = []
        for index, spec in enumerate(self.bundle.settings.findings):
            maps = self._maps(answer.cams.get(index, []), inputs, masks)
            for mask, cam in zip(masks, maps, strict=False):
                if mask.volume.id not in fractions:
                    fractions[mask.volume.id] = segment_fractions(
                        mask.label_map,
                        mask.volume.geometry,
                        cam.geometry,
                        labels=[segment.label for segment in self.schema.segments],
                        runs=mask.runs,
                    )
            energy = {}
            if maps:
                energy = energy_in_segments(maps, list(fractions.values()), schema=self.schema)
            results.append(
                FindingResult(
                    name=spec.name,
                    probability=answered.probabilities[spec.name],
                    threshold=spec.threshold,
                    decision=answered.decisions[spec.name],
                    # Calibrated at "balanced" and nowhere else.
                    calibrated=spec.calibrated and self.speed == "balanced",
                    cams={cam.id: cam for cam in maps},
                    cam_energy_in_segments=energy,
                    measurements=used,
                    contributions=self._contributions(answer, index),
                    prediction_set=answered.sets.get(spec.name),
                )
            )
        return results

    def _contributions(self, answer: JointPass, index: int) -> dict[str, float]:
        """By the names under which case.json gives the values."""
        head = self.net.config.head
        if answer.contributions is None or head is None:
            return {}
        names = [*(_input_name(name) for name in self.net.measurement_names), *head.covariates]
        values = answer.contributions[index].tolist()
        return {name: value for name, value in zip(names, values, strict=True) if value}

    @staticmethod
    def _maps(
        maps: Sequence[torch.Tensor],
        inputs: Sequence[NetworkInput],
        masks: Sequence[VolumePrediction],
    ) -> list[Volume]:
        return [
            cam_volume(cam, prepared.geometry, volume_id=mask.volume.id)
            for cam, prepared, mask in zip(maps, inputs, masks, strict=False)
        ]


def _last_names(volumes: Sequence[Volume]) -> list[str]:
    return [volume.id.rsplit("_", 1)[-1].lower() for volume in volumes]


AnyPredictor: TypeAlias = Predictor | ImportedPredictor


class AutoPredictor(Staged):
    """Gives each study to the first shipped bundle whose input it fits."""

    def __init__(self, predictors: Sequence[AnyPredictor]) -> None:
        self.predictors = tuple(predictors)

    @property
    def identity(self) -> ModelIdentity:
        """All shipped models together."""
        digests = "".join(predictor.identity.sha256 for predictor in self.predictors)
        return ModelIdentity("auto", "1", hashlib.sha256(digests.encode()).hexdigest())

    @property
    def settings(self) -> Mapping[str, Any]:
        """Those of every model."""
        return {p.identity.name: dict(p.settings) for p in self.predictors}

    def _fitting(self, study: Study) -> tuple[AnyPredictor, Sequence[VolumeRef]]:
        problems = []
        for predictor in self.predictors:
            try:
                return predictor, predictor.select(study)
            except InputRefusedError as error:
                if error.code != "no-fitting-volume":  # it fits, and may not be read
                    raise
                problems.append(error)
        first = problems[0]
        raise InputRefusedError(
            first.source,
            stage=first.stage,
            code=first.code,
            found=first.found,
            expected=", or ".join(problem.expected for problem in problems),
            advice=first.advice,
        )

    def select(self, study: Study) -> Sequence[VolumeRef]:
        """The volumes of the fitting model."""
        return self._fitting(study)[1]

    def stages(self, study: Study, volumes: Sequence[Volume]) -> Stages:
        """The answer of the fitting model."""
        return stages_of(self._fitting(study)[0], study, volumes)


def load_predictor(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    backend: str = "torch",
    cam: str = "all",
    uncertainty: str = "none",
    cache: Path | None = None,
    channels: Sequence[str] = (),
    speed: str | None = None,
) -> AnyPredictor | AutoPredictor:
    """Load a model once.

    Args:
        model: Name of a shipped bundle or its folder; None lets each study find its own.
        device: "auto", "cpu" or "cuda".
        backend: "auto", "torch", "openvino" or "int8".
        cam: "all", "none", or finding names joined by commas.
        uncertainty: "none", "tta" or "ensemble"; see `Predictor`.
        cache: Folder of networks converted for a backend; None keeps none.
        channels: `NAME=SERIES`, for an imported model of several input channels.
        speed: "fast", "balanced" or "best"; None is balanced, and best for an imported model.

    Raises:
        BundleError: If the bundle is missing or altered, or has no ensemble that was asked for.
        ConfigError: If device, backend, uncertainty, speed or a finding's name is unknown, or a
            bundle does not have the speed.
    """
    if uncertainty not in METHODS:
        expected = ", ".join(METHODS)
        raise ConfigError(f"--uncertainty: found {uncertainty!r}, expected one of {expected}.")
    chosen = choose_device(device)
    check_backend(backend, chosen)
    load = partial(
        _load_one,
        device=chosen,
        cam=cam,
        uncertainty=uncertainty,
        backend=backend,
        cache=cache,
        channels=channels,
        speed=speed,
    )
    if model is None and channels:
        raise ConfigError("--channel: no model is named. Name the imported one with --model.")
    if model is not None:
        return load(find_bundle(model))
    shipped = shipped_bundles()
    if not shipped:
        raise BundleError("No model bundle is installed. Name a bundle's folder with --model.")
    return AutoPredictor([load(folder) for folder in shipped.values()])


def _load_one(
    folder: Path,
    *,
    cam: str,
    device: torch.device,
    channels: Sequence[str],
    speed: str | None,
    **options: Any,
) -> AnyPredictor:
    bundle = load_bundle(folder)
    wanted = _cam_findings(cam, bundle)
    chosen = parse_channels(channels, [one.name for one in bundle.settings.input.channels])
    is_own = isinstance(bundle.settings.preprocessing, PreprocessingConfig)
    if is_masks_only(bundle.settings):
        return load_imported(bundle, device=device, channels=chosen, speed=speed, **options)
    if not is_own:
        if speed not in (None, "balanced"):
            raise ConfigError(
                "--speed: a diagnosis on an imported encoder has one, its authors' own steps. "
                "Leave it out."
            )
        if options.get("backend") not in (None, "auto", "torch"):
            raise ConfigError("--backend: an imported encoder runs on torch only. Leave it out.")
        if bundle.settings.regions and options.get("uncertainty", "none") != "none":
            raise ConfigError("--uncertainty: a model of regions has none. Leave it out.")
    return Predictor(bundle, cam=wanted, device=device, speed=speed or "balanced", **options)


def is_masks_only(settings: BundleSettings) -> bool:
    """Whether the bundle is an imported network as it came, without a diagnosis."""
    is_own = isinstance(settings.preprocessing, PreprocessingConfig)
    return not is_own and not settings.findings


def arranged(listing: Listing, analyser: object) -> Listing:
    """NIfTI files that are channels of one case joined, where the model reads several."""
    if isinstance(analyser, ImportedModel):
        return analyser.input.arrange(listing)
    return listing


def _chosen_backend(backend: str, of_point: str, device: torch.device) -> str:
    """The user's backend; where that is "auto", the operating point's, if it can run here."""
    if backend != "auto" or of_point == "auto":
        return backend
    try:
        check_backend(of_point, device)
    except ConfigError:
        return "auto"
    return of_point


def _cam_findings(cam: str, bundle: Bundle) -> tuple[str, ...]:
    names = [finding.name for finding in bundle.settings.findings]
    if cam in ("all", "none"):
        return tuple(names) if cam == "all" else ()
    wanted = [part.strip() for part in cam.split(",") if part.strip()]
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        raise ConfigError(
            f"--cam: unknown findings {', '.join(unknown)}; model {bundle.identity.name} has "
            f"{', '.join(names)}, or say all or none."
        )
    return tuple(wanted)


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" prefers CUDA.

    Raises:
        ConfigError: If the name is unknown or there is no CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"Device {name!r}: expected auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "Device cuda: no CUDA device was found. Use --device cpu, or install the CUDA build "
            "of torch (docs/install.md)."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _renamed(volumes: Sequence[Volume], slots: Sequence[str]) -> tuple[Volume, ...]:
    """Volumes under the names by which the network knows them."""
    return tuple(replace(volume, id=slot) for volume, slot in zip(volumes, slots, strict=True))


def _input_name(name: str) -> str:
    return f"network_{name}"


def _abstentions(answered: FindingAnswers | None) -> list[Flag]:
    """A set without a single answer is said, whatever the decision at the threshold."""
    if answered is None:
        return []
    open_sets = {name: found for name, found in answered.sets.items() if found.abstains}
    if answered.classes is not None:
        open_sets = {"the diagnosis": answered.classes} if answered.classes.abstains else {}
    return [
        Flag(
            "finding-abstains",
            "warning",
            f"No single answer for {name} at {found.coverage:.0%} coverage: "
            f"{' or '.join(found.members) or 'unlike all calibration cases'}.",
        )
        for name, found in open_sets.items()
    ]
