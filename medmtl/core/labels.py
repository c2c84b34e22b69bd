"""What a model can answer: the segments of a label map and the findings of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEFT", "NO_FINDING", "RIGHT", "Code", "FindingSpec", "LabelSchema", "SegmentSpec"]

NO_FINDING = "none"
"""Class of a case without any of the findings, where findings exclude each other."""


@dataclass(frozen=True)
class Code:
    """A coded concept, by default of SNOMED CT (coding scheme "SCT", DICOM PS3.16).

    Attributes:
        value: The code itself.
        meaning: In words.
        scheme: Coding scheme.
        modifier: What the structure has beside its type, such as LEFT.
    """

    value: str
    meaning: str
    scheme: str = "SCT"
    modifier: Code | None = None


LEFT = Code("7771000", "Left")
RIGHT = Code("24028007", "Right")
"""Sides of the body (CID 244)."""


@dataclass(frozen=True)
class SegmentSpec:
    """One structure of the label map.

    Attributes:
        label: Voxel value, 1..65535.
        name: Snake-case name, unique in the schema.
        code: SNOMED CT type of the structure.
        is_lesion: Whether zero, one or many separate pieces are normal.
        expected_ml: Volumes seen in training, (1st, 99th percentile); None where not known.
    """

    label: int
    name: str
    code: Code | None = None
    is_lesion: bool = False
    expected_ml: tuple[float, float] | None = None


@dataclass(frozen=True)
class FindingSpec:
    """One diagnosis label.

    Attributes:
        name: Snake-case name, unique in the schema.
        code: SNOMED CT code of the finding.
        segments: Names of the segments inside which its evidence is expected.
        requires_segment: A lesion segment that must not be empty when the finding is present,
            and must be empty when it is absent; None where no such rule holds.
    """

    name: str
    code: Code | None = None
    segments: tuple[str, ...] = ()
    requires_segment: str | None = None


@dataclass(frozen=True)
class LabelSchema:
    """Segments and findings of a model or manifest.

    Attributes:
        segments: In label order; label 0 is background and not listed.
        findings: In the order of the network's outputs.
        findings_exclusive: Whether at most one finding can be present (ACDC groups).
    """

    segments: tuple[SegmentSpec, ...] = ()
    findings: tuple[FindingSpec, ...] = ()
    findings_exclusive: bool = False

    @property
    def segment_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return tuple(segment.name for segment in self.segments)

    @property
    def finding_names(self) -> tuple[str, ...]:
        """Names in the order of the network's outputs."""
        return tuple(finding.name for finding in self.findings)
