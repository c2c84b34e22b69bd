"""What a manifest says: a data set's label schema, and its cases with their truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medmtl.core.prediction import Covariates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medmtl.core.labels import LabelSchema

__all__ = ["Case", "Manifest", "VolumeRow"]


@dataclass(frozen=True)
class VolumeRow:
    """One volume of a case; paths are relative to the data root, with forward slashes.

    Attributes:
        volume_id: Name of the volume inside its case, such as "ed".
        image: Image file.
        segmentation: Label map on the grid of the image; None where there is none.
        sha256: Of the image file, lower-case hex; None where not stated.
        annotated_segments: Names of the segments that were looked for in this volume; a segment
            that is not among them is unknown, not absent.
        attributes: Further columns of the table, such as vendor, with their text; empty cells are
            left out.
    """

    volume_id: str
    image: str
    segmentation: str | None = None
    sha256: str | None = None
    annotated_segments: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One study with its diagnosis.

    Attributes:
        case_id: Unique in the manifest.
        patient_id: Pseudonym; a patient is in one split and one fold only.
        split: Such as "train", "val", "test"; "" where not assigned.
        fold: Cross-validation fold; None where not assigned.
        volumes: At least one.
        findings: Every finding of the schema; None is unknown, which is not absent.
        covariates: What is known of age, sex, height and weight.
    """

    case_id: str
    patient_id: str
    split: str
    fold: int | None
    volumes: tuple[VolumeRow, ...]
    findings: Mapping[str, bool | None] = field(default_factory=dict)
    covariates: Covariates = field(default_factory=Covariates)

    @property
    def attributes(self) -> dict[str, str]:
        """Further columns in which no two rows of the case differ; an empty cell is no value."""
        found: dict[str, set[str]] = {}
        for volume in self.volumes:
            for name, value in volume.attributes.items():
                found.setdefault(name, set()).add(value)
        return {name: values.pop() for name, values in found.items() if len(values) == 1}

    @property
    def has_truth(self) -> bool:
        """Whether there is anything to measure against: a mask, or a known finding."""
        has_mask = any(volume.segmentation for volume in self.volumes)
        return has_mask or any(value is not None for value in self.findings.values())


@dataclass(frozen=True)
class Manifest:
    """A data set.

    Attributes:
        name: Short name.
        licence: Of the images and their labels.
        citation: What a user of the data must cite.
        source: Where the data comes from.
        modality: DICOM modality of all images, "" where mixed or unknown.
        schema: Segments of the label maps and findings of the diagnosis.
        cases: In the order of the table.
    """

    name: str
    licence: str
    citation: str
    source: str
    modality: str
    schema: LabelSchema
    cases: tuple[Case, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that occur, sorted."""
        return tuple(sorted({case.split for case in self.cases}))

    def in_split(self, split: str) -> tuple[Case, ...]:
        """The cases of one split."""
        return tuple(case for case in self.cases if case.split == split)
