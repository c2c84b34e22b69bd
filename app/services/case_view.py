"""A case.json as records for the case page: findings, segments, measurements, flags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from app.services.advice import advice_for
from app.services.words import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.services.models import ModelFacts

__all__ = [
    "CaseView",
    "FindingView",
    "FlagView",
    "MeasurementView",
    "SegmentView",
    "measurement_label",
    "view_of_case",
]

_NETWORK = "network_"  # measurements of the network's own input, beside those of the final masks
_MOST_SHARES = 4


@dataclass(frozen=True)
class MeasurementView:
    """A number derived from masks; `value` is None where it could not be derived.

    `contribution` is how far it moved the logit of the finding it stands with, and `typical` mean
    and standard deviation over the training cases, where these are known.
    """

    name: str
    value: float | None
    unit: str
    source: str
    contribution: float | None = None
    typical: tuple[float, float] | None = None

    @property
    def typical_text(self) -> str:
        """Mean and standard deviation of the training cases; empty where they are not known."""
        return "" if self.typical is None else "{:.4g} ± {:.4g}".format(*self.typical)

    @property
    def text(self) -> str:
        """Value and unit; a ratio has no unit."""
        if self.value is None:
            return "not derived"
        return f"{self.value:.4g}" if self.unit == "1" else f"{self.value:.4g} {self.unit}"


@dataclass(frozen=True)
class FindingView:
    """One finding with its evidence.

    Attributes:
        name: Snake-case name.
        probability: In 0..1.
        threshold: From it on, the finding is called present.
        is_present: The decision.
        is_calibrated: Whether the probability was calibrated.
        interval: (low, high) over the members of the run; None where no spread was computed.
        std: Their standard deviation.
        agreement: Share of the members with the same decision.
        prediction_set: Members of the conformal set; None without one.
        coverage: Of the set.
        maps: File of the activation map by volume id, relative to the case folder.
        shares: Share of the activation in each segment, largest first.
        measurements: What the decision read, that which moved it most first where that is known.
    """

    name: str
    probability: float
    threshold: float
    is_present: bool
    is_calibrated: bool
    interval: tuple[float, float] | None
    std: float | None
    agreement: float | None
    prediction_set: tuple[str, ...] | None
    coverage: float | None
    maps: Mapping[str, str]
    shares: tuple[tuple[str, float], ...]
    measurements: tuple[MeasurementView, ...]


@dataclass(frozen=True)
class SegmentView:
    """One segment of one volume.

    Attributes:
        volume: Id of the volume.
        label: In its label map.
        name: Snake-case name.
        volume_ml: 0 for an empty one.
        mean_intensity: None for an empty one.
        pairwise_dice: Agreement of the members of the run; None where none was computed.
        expected_ml: Volumes of the training cases, (1st, 99th percentile); None where not known.
    """

    volume: str
    label: int
    name: str
    volume_ml: float
    mean_intensity: float | None
    pairwise_dice: float | None
    expected_ml: tuple[float, float] | None

    @property
    def is_outside(self) -> bool:
        """Whether the volume lies outside of the training cases' range."""
        return self.expected_ml is not None and not (
            self.expected_ml[0] <= self.volume_ml <= self.expected_ml[1]
        )


@dataclass(frozen=True)
class FlagView:
    """One quality flag in words, with what to do about it."""

    code: str
    severity: str
    message: str
    advice: str

    def is_about(self, finding: str) -> bool:
        """Whether it speaks of a finding."""
        return finding in self.message

    @property
    def text(self) -> str:
        """The message as a sentence, without the names' underscores."""
        words = self.message.replace("_", " ")
        return words[:1].upper() + words[1:]


@dataclass(frozen=True)
class CaseView:
    """One case as the page shows it.

    Attributes:
        volumes: Ids of its volumes.
        findings: In the model's order.
        segments: Of every volume.
        measurements: Of the final masks; those of the network's input stand with the findings.
        flags: Worst first.
        classes: Members of the conformal set of exclusive findings; None without one.
        notice: The model's own caution.
        method: Where the spread comes from, "" without one.
        members: How many answers it was taken over.
    """

    volumes: tuple[str, ...]
    findings: tuple[FindingView, ...]
    segments: tuple[SegmentView, ...]
    measurements: tuple[MeasurementView, ...]
    flags: tuple[FlagView, ...]
    classes: tuple[str, ...] | None
    notice: str
    method: str
    members: int

    def finding(self, name: str | None) -> FindingView | None:
        """The finding of that name."""
        return next((finding for finding in self.findings if finding.name == name), None)


def view_of_case(record: Mapping[str, Any], model: ModelFacts | None) -> CaseView:
    """The records of a case.json.

    Args:
        record: Its content.
        model: What is known of its model; None where its bundle was not found.

    Raises:
        KeyError: If a field of schema version 1 is missing.
    """
    typical = _typical(record, model)
    measured = {
        one["name"]: replace(_measurement(one), typical=typical.get(measurement_name(one["name"])))
        for one in record["measurements"]
    }
    spread = record.get("uncertainty", {})
    classes = record.get("diagnosis_set")
    severities = ("error", "warning", "info")
    flags = [_flag(flag) for flag in record["quality"]["flags"]]
    return CaseView(
        volumes=tuple(volume["id"] for volume in record["source"]["volumes"]),
        findings=tuple(_finding(one, measured) for one in record["findings"]),
        segments=tuple(_segment(one, model) for one in record["segments"]),
        measurements=tuple(m for m in measured.values() if not m.name.startswith(_NETWORK)),
        flags=tuple(sorted(flags, key=lambda flag: severities.index(flag.severity))),
        classes=None if classes is None else tuple(classes["classes"]),
        notice=record.get("notice", ""),
        method=spread.get("method", ""),
        members=len(spread.get("members", ())),
    )


def _typical(
    record: Mapping[str, Any], model: ModelFacts | None
) -> Mapping[str, tuple[float, float]]:
    """By name without prefix; nothing where the model reads another number of measurements."""
    read = [one["name"] for one in record["measurements"] if one["name"].startswith(_NETWORK)]
    known = model.measured if model else ()
    if len(read) != len(known):
        return {}
    return dict(zip((measurement_name(name) for name in read), known, strict=True))


def _measurement(record: Mapping[str, Any]) -> MeasurementView:
    return MeasurementView(record["name"], record["value"], record["unit"], record["from"])


def _finding(record: Mapping[str, Any], measured: Mapping[str, MeasurementView]) -> FindingView:
    spread, evidence = record.get("uncertainty"), record["evidence"]
    shares = sorted(
        ((name, float(share)) for name, share in evidence["cam_energy_in_segments"].items()
         if share), key=lambda item: -item[1],
    )  # fmt: skip
    members = record.get("prediction_set")
    return FindingView(
        name=record["name"],
        probability=float(record["probability"]),
        threshold=float(record["threshold"]),
        is_present=bool(record["decision"]),
        is_calibrated=bool(record["calibrated"]),
        interval=(spread["low"], spread["high"]) if spread else None,
        std=spread["std"] if spread else None,
        agreement=spread["agreement"] if spread else None,
        prediction_set=None if members is None else tuple(members),
        coverage=record.get("coverage"),
        maps=dict(record["cam"]),
        shares=tuple(shares[:_MOST_SHARES]),
        measurements=_read_by_decision(evidence, measured),
    )


def _read_by_decision(
    evidence: Mapping[str, Any], measured: Mapping[str, MeasurementView]
) -> tuple[MeasurementView, ...]:
    moved = {name: float(value) for name, value in evidence.get("contributions", {}).items()}
    read = [measured[name] for name in evidence["measurements"] if name in measured]
    read.sort(key=lambda one: -abs(moved.get(one.name, 0.0)))  # stable: without them as written
    return tuple(replace(one, contribution=moved.get(one.name)) for one in read)


def _segment(record: Mapping[str, Any], model: ModelFacts | None) -> SegmentView:
    return SegmentView(
        volume=record["volume"],
        label=int(record["label"]),
        name=record["name"],
        volume_ml=float(record["volume_ml"]),
        mean_intensity=record["mean_intensity"],
        pairwise_dice=record.get("uncertainty", {}).get("pairwise_dice"),
        expected_ml=model.expected_ml.get(record["name"]) if model else None,
    )


def _flag(record: Mapping[str, Any]) -> FlagView:
    code, severity = record["code"], record["severity"]
    return FlagView(code, severity, record["message"], advice_for(code, severity))


def measurement_label(name: str) -> str:
    """A measurement's name for a reader, without the prefix of the network's input."""
    return plain(measurement_name(name))


def measurement_name(name: str) -> str:
    """The same measurement of the network's input and of the final masks has one name."""
    return name.removeprefix(_NETWORK)
