"""The measurement groups of a structured report (TID 1411 and TID 1501, PS3.16)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from medmtl.core.labels import LEFT, RIGHT
from medmtl.report.dicom_segments import ANATOMY, tracking_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core import labels, prediction
    from medmtl.core.flags import Flag
    from medmtl.report.dicom_seg import SegObject
    from medmtl.report.dicom_segments import NumberedSegment
    from medmtl.report.dicom_source import DicomSource

__all__ = [
    "finding_group",
    "flag_group",
    "measurement_group",
    "own_code",
    "procedure",
    "segment_group",
]

_PROCEDURES = {
    "CT": Code("77477000", "SCT", "Computed tomography"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "PT": Code("82918005", "SCT", "Positron emission tomography"),
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
_STANDARD_MR_NAMES = {
    "lv_ed_volume": Code("18026-5", "LN", "Left Ventricular End Diastolic Volume"),
    "lv_es_volume": Code("18148-7", "LN", "Left Ventricular End Systolic Volume"),
    "lv_ejection_fraction": Code("8811-2", "LN", "Left ventricular ejection fraction by MR"),
    "rv_ejection_fraction": Code("8818-7", "LN", "Right ventricular ejection fraction by MR"),
}
"""Measurements of the heart in MR with a LOINC code in CID 12200 or CID 3833."""
_SIDES = tuple(Code(side.value, side.scheme, side.meaning) for side in (LEFT, RIGHT))
_UNIT_WORDS = {"1": "no units", "mL": "milliliter", "mm": "millimeter", "%": "percent", "g": "gram"}
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")


def procedure(modality: str) -> Code:
    """Procedure reported."""
    return _PROCEDURES.get(modality, _ANY_PROCEDURE)


def own_code(value: str, meaning: str) -> Code:
    """A code of the private scheme; long values go into Long Code Value (PS3.3 8.8)."""
    return Code(value, "99MEDMTL", meaning[:64])


def _unit(unit: str) -> Code:
    return Code(unit, "UCUM", _UNIT_WORDS.get(unit, unit))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _tracking(source: DicomSource, kind: str, name: str) -> TrackingIdentifier:
    return TrackingIdentifier(
        uid=source.uid(kind, name),
        identifier=tracking_id(source.case_id, source.volume_id, name),
    )


def _algorithm(source: DicomSource) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=source.model.name,
        version=source.model.version,
        parameters=[f"bundle_sha256={source.model.sha256}"],
    )


def segment_group(
    source: DicomSource, seg: SegObject, segment: NumberedSegment
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Volume and mean intensity of one segment; an empty one has the volume 0 and no mean."""
    result = segment.result
    measurements = [Measurement(codes.SCT.Volume, round(result.volume_ml, 4), _unit("mL"))]
    if result.mean_intensity is not None and math.isfinite(result.mean_intensity):
        measurements.append(
            Measurement(
                own_code("mean-intensity", "Mean of the stored or rescaled voxel values"),
                round(result.mean_intensity, 3),
                _HU if source.is_hounsfield else _unit("1"),
                derivation=codes.SCT.Mean,
            )
        )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=segment.tracking_uid, identifier=segment.tracking_id
        ),
        referenced_segment=_reference(source, seg, segment.number),
        finding_category=segment.category,
        finding_type=segment.type,
        finding_sites=_sites(segment),
        algorithm_id=_algorithm(source),
        measurements=measurements,
    )


def _sites(segment: NumberedSegment) -> list[FindingSite]:
    """The structure on its side of the body, where its code says one (TID 1411)."""
    if segment.category != ANATOMY or segment.modifier is None or segment.modifier not in _SIDES:
        return []
    return [FindingSite(segment.type, laterality=segment.modifier)]


def _reference(source: DicomSource, seg: SegObject, number: int) -> ReferencedSegment:
    series = {frame.series_uid for frame in source.frames}
    images = {frame.sop_instance_uid: frame.sop_class_uid for frame in source.frames}
    many = len(series) > 1  # slices of several series: the images are named one by one
    return ReferencedSegment(
        sop_class_uid=seg.head.SOPClassUID,
        sop_instance_uid=seg.head.SOPInstanceUID,
        segment_number=number,
        source_images=[SourceImageForSegmentation(kind, uid) for uid, kind in images.items()]
        if many
        else None,
        source_series=None if many else SourceSeriesForSegmentation(series.pop()),
    )


def finding_group(
    source: DicomSource, finding: prediction.FindingResult, code: labels.Code | None
) -> MeasurementsAndQualitativeEvaluations:
    """Probability and threshold; whether it is present; whether the probability is calibrated.

    The finding's own code names the evaluation, with Present or Absent as its value, so that no
    reader takes an absent finding for one.
    """
    name = (
        Code(code.value, code.scheme, code.meaning[:64])
        if code is not None
        else own_code(finding.name, _words(finding.name))
    )
    state = ("calibrated", "Calibrated") if finding.calibrated else (
        "not-calibrated", "Not calibrated"
    )  # fmt: skip
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(source, "finding", finding.name),
        algorithm_id=_algorithm(source),
        measurements=[
            Measurement(codes.DCM.Probability, round(finding.probability, 6), _unit("1")),
            Measurement(codes.DCM.ThresholdValue, round(finding.threshold, 6), _unit("1")),
        ],
        qualitative_evaluations=[
            QualitativeEvaluation(
                name, codes.SCT.Present if finding.decision else codes.SCT.Absent
            ),
            QualitativeEvaluation(
                own_code("calibration-state", "Calibration state of the probability"),
                own_code(*state),
            ),
        ],
    )


def measurement_group(
    source: DicomSource, measurements: Sequence[prediction.Measurement]
) -> list[MeasurementsAndQualitativeEvaluations]:
    """The numbers derived from masks; not those that only the network read."""
    standard = _STANDARD_MR_NAMES if source.modality == "MR" else {}
    known = [
        Measurement(
            standard.get(m.name) or own_code(m.name, _words(m.name)),
            round(m.value, 4),
            _unit(m.unit),
        )
        for m in measurements
        if m.value is not None and math.isfinite(m.value) and not m.name.startswith("network_")
    ]
    if not known:
        return []
    return [
        MeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking(source, "measurements", "study measurements"),
            algorithm_id=_algorithm(source),
            measurements=known,
        )
    ]


def flag_group(source: DicomSource, flags: Sequence[Flag]) -> MeasurementsAndQualitativeEvaluations:
    """The quality flags by their codes; that there is none is said too."""
    values = {
        flag.code: f"{flag.severity}: {_words(flag.code.replace('-', ' '))}" for flag in flags
    }
    none = {"none": "No quality flag was raised"}
    name = own_code("quality-flag", "Quality flag")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(source, "flags", "quality flags"),
        qualitative_evaluations=[
            QualitativeEvaluation(name, own_code(code, meaning))
            for code, meaning in (values or none).items()
        ],
    )
