"""The segments of a volume as DICOM names them: numbers, codes, colours, tracking identities."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.coding import Code

from medmtl.report.panel import colour_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.uid import UID

    from medmtl.core import labels
    from medmtl.core.labels import SegmentSpec
    from medmtl.core.prediction import Prediction, SegmentResult
    from medmtl.report.dicom_source import DicomSource

__all__ = ["NumberedSegment", "numbered", "segments_of", "tracking_id"]

ANATOMY = Code("123037004", "SCT", "Anatomical Structure")
ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
LESION = Code("52988006", "SCT", "Lesion")
"""Categories (CID 7150), and types for segments that the bundle gives no code."""


@dataclass(frozen=True, eq=False)
class NumberedSegment:
    """One segment of a label map.

    Attributes:
        number: From 1 without gaps, in label order, as PS3.3 C.8.20.2 wants it.
        result: Label, name and measurements.
        category: SNOMED CT category.
        type: SNOMED CT type.
        modifier: Of the type, such as the side of the body; None where there is none.
        tracking_id: Unique inside medmtl's results; no identity.
        tracking_uid: Unique everywhere.
    """

    number: int
    result: SegmentResult
    category: Code
    type: Code
    modifier: Code | None
    tracking_id: str
    tracking_uid: UID

    @property
    def words(self) -> str:
        """The name as a label, at most 64 characters."""
        return self.result.name.replace("_", " ")[:64]

    def description(self, source: DicomSource) -> SegmentDescription:
        """The item of the Segment Sequence."""
        description = SegmentDescription(
            segment_number=self.number,
            segment_label=self.words,
            segmented_property_category=self.category,
            segmented_property_type=self.type,
            algorithm_type="AUTOMATIC",
            algorithm_identification=source.algorithm(),
            tracking_uid=self.tracking_uid,
            tracking_id=self.tracking_id,
            display_color=CIELabColor.from_rgb(*colour_of(self.result.label)),
        )
        if self.modifier is not None:  # PS3.3 table 10-19: inside the item of the type
            (kind,) = description.SegmentedPropertyTypeCodeSequence
            kind.SegmentedPropertyTypeModifierCodeSequence = [CodedConcept.from_code(self.modifier)]
        return description


def tracking_id(case_id: str, volume_id: str, name: str) -> str:
    """What tells one segment or finding of a volume from all others, at most 64 characters."""
    whole = f"{case_id[:20]}:{volume_id[:12]}:{name}"
    if len(whole) <= 64:
        return whole
    return f"{whole[:55]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def segments_of(source: DicomSource, prediction: Prediction) -> tuple[NumberedSegment, ...]:
    """The segments of one volume in label order, empty ones too."""
    specs = {spec.name: spec for spec in prediction.schema.segments} if prediction.schema else {}
    results = [result for result in prediction.segments if result.volume == source.volume_id]
    results.sort(key=lambda result: result.label)
    return tuple(
        _numbered(number, result, specs.get(result.name), source)
        for number, result in enumerate(results, start=1)
    )


def _numbered(
    number: int, result: SegmentResult, spec: SegmentSpec | None, source: DicomSource
) -> NumberedSegment:
    is_lesion = spec is not None and spec.is_lesion
    known = spec.code if spec is not None else None
    fallback = LESION if is_lesion else TISSUE
    return NumberedSegment(
        number=number,
        result=result,
        category=ABNORMAL if is_lesion else ANATOMY,
        type=_dicom(known) if known else fallback,
        modifier=_dicom(known.modifier) if known and known.modifier else None,
        tracking_id=tracking_id(source.case_id, source.volume_id, result.name),
        tracking_uid=source.uid("segment", result.name),
    )


def _dicom(code: labels.Code) -> Code:
    return Code(code.value, code.scheme, code.meaning[:64])


def numbered(
    label_map: NDArray[np.uint8] | NDArray[np.uint16], segments: tuple[NumberedSegment, ...]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The label map with segment numbers in place of labels, as planes (K, J, I).

    Raises:
        ValueError: If a voxel has a label that no segment has.
    """
    unknown = 65535 if label_map.dtype == np.uint16 or len(segments) > 254 else 255
    dtype = np.uint8 if unknown == 255 else np.uint16
    table = np.full(np.iinfo(label_map.dtype).max + 1, unknown, dtype=dtype)
    table[0] = 0
    for segment in segments:
        table[segment.result.label] = segment.number
    columns, rows, count = label_map.shape
    planes = np.empty((count, rows, columns), dtype=dtype)
    for k in range(count):
        planes[k] = table[label_map[:, :, k].T]
    if planes.max() == unknown:
        message = "The label map holds a label that no segment has."
        raise ValueError(message)
    return planes
