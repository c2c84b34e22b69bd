"""Do masks, measurements, activation and diagnosis agree? Flags on the whole study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator

from medmtl.core.flags import Flag

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.core.labels import FindingSpec, LabelSchema
    from medmtl.core.prediction import FindingResult, Measurement, SegmentResult

__all__ = ["MeasurementRule", "check_activation", "check_contradictions", "check_measurements"]


class MeasurementRule(BaseModel):
    """Where a finding's decision is `is_present`, the measurement must lie in low..high.

    Attributes:
        finding: Finding name of the schema.
        is_present: The decision that the rule speaks about.
        measurement: Name of the measurement.
        low: Smallest value that agrees, in the measurement's own unit; None for no limit.
        high: Largest value that agrees; None for no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    finding: str
    is_present: bool
    measurement: str
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    @model_validator(mode="after")
    def _has_limit(self) -> MeasurementRule:
        if self.low is None and self.high is None:
            raise ValueError(f"Rule on {self.finding}: give low, high or both. Found neither.")
        return self

    def agrees(self, value: float) -> bool:
        """Whether the value lies in low..high."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        """The limits in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


def check_contradictions(
    schema: LabelSchema,
    *,
    segments: Sequence[SegmentResult],
    findings: Sequence[FindingResult],
    min_lesion_ml: float = 0.1,
) -> tuple[Flag, ...]:
    """Flags where a finding and the lesion mask that it requires disagree.

    Codes: finding-without-lesion, lesion-without-finding.

    Args:
        schema: Findings and their `requires_segment`.
        segments: Results of all volumes; the largest lesion volume of any counts.
        findings: Decisions.
        min_lesion_ml: A smaller lesion mask says nothing.
    """
    decisions = {finding.name: finding for finding in findings}
    flags: list[Flag] = []
    for spec in schema.findings:
        volumes_ml = [part.volume_ml for part in segments if part.name == spec.requires_segment]
        if volumes_ml and spec.name in decisions:
            finding = decisions[spec.name]
            flags += _lesion_flags(spec, finding, max(volumes_ml), min_lesion_ml)
    return tuple(flags)


def _lesion_flags(
    spec: FindingSpec, finding: FindingResult, lesion_ml: float, min_lesion_ml: float
) -> Iterator[Flag]:
    called = f"{spec.name} is called {'present' if finding.decision else 'absent'} (probability "
    called += f"{finding.probability:.2f})"
    if finding.decision and lesion_ml < min_lesion_ml:
        yield Flag(
            "finding-without-lesion",
            "warning",
            f"{called}, but the mask of {spec.requires_segment} holds {lesion_ml:.2f} mL, less "
            f"than {min_lesion_ml:g} mL. Look for the lesion in the image.",
        )
    if not finding.decision and lesion_ml >= min_lesion_ml:
        yield Flag(
            "lesion-without-finding",
            "warning",
            f"{called}, but the mask of {spec.requires_segment} holds {lesion_ml:.2f} mL. Look "
            "whether the mask shows a lesion or a mistake.",
        )


def check_measurements(
    rules: Sequence[MeasurementRule],
    *,
    measurements: Sequence[Measurement],
    findings: Sequence[FindingResult],
) -> tuple[Flag, ...]:
    """Flags where a decision and a measurement of the masks disagree; unknown values never do.

    Code: finding-against-measurement.
    """
    values = {item.name: item for item in measurements}
    decisions = {finding.name: finding.decision for finding in findings}
    flags = []
    for rule in rules:
        item = values.get(rule.measurement)
        if item is None or item.value is None or decisions.get(rule.finding) != rule.is_present:
            continue
        if not rule.agrees(item.value):
            decision = "present" if rule.is_present else "absent"
            message = (
                f"{rule.finding} is called {decision}, but {item.name} is {item.value:.3g} "
                f"{item.unit} where {rule} is expected. Check the masks, then the diagnosis."
            )
            flags.append(Flag("finding-against-measurement", "warning", message))
    return tuple(flags)


def check_activation(
    schema: LabelSchema, *, findings: Sequence[FindingResult], min_share: float
) -> tuple[Flag, ...]:
    """Flags of findings called present whose activation map does not support them.

    Codes: activation-empty (the map is zero everywhere), activation-outside-organ.

    Args:
        schema: Findings and the segments inside which their evidence is expected.
        findings: With activation maps; those without are left out.
        min_share: Smallest share of the activation in these segments, 0..1. A coarse map leaks
            over the edge of a small organ, so choose it from the training cases.
    """
    specs = {spec.name: spec for spec in schema.findings}
    flags: list[Flag] = []
    for finding in findings:
        if finding.decision and finding.cams and finding.name in specs:
            flags += _activation_flags(specs[finding.name], finding, min_share)
    return tuple(flags)


def _activation_flags(
    spec: FindingSpec, finding: FindingResult, min_share: float
) -> Iterator[Flag]:
    if not any((cam.array > 0).any() for cam in finding.cams.values()):
        yield Flag(
            "activation-empty",
            "warning",
            f"{spec.name} is called present, but no place in the image supports it: its "
            "activation map is zero everywhere. Rely on the measurements only.",
        )
        return
    share = sum(finding.cam_energy_in_segments.get(name, 0.0) for name in spec.segments)
    if spec.segments and share < min_share:
        yield Flag(
            "activation-outside-organ",
            "warning",
            f"{spec.name} is called present, but only {100 * share:.0f} % of its activation lies "
            f"in {', '.join(spec.segments)}, expected is at least {100 * min_share:.0f} %. The "
            "network may have looked at something else.",
        )
