"""findings.sr.dcm: the answer for one volume as a structured report (TID 1500, PS3.16).

One measurement group (TID 1411) per segment, citing it in the segmentation; one (TID 1501) per
finding with probability, threshold, decision and calibration state; one for the study's other
measurements; one for the quality flags. Words that no standard has a code for are of the private
scheme 99MEDMTL.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from medmtl.report.dicom_source import RESEARCH_ONLY
from medmtl.report.dicom_sr_groups import (
    finding_group,
    flag_group,
    measurement_group,
    procedure,
    segment_group,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.report.dicom_seg import SegObject
    from medmtl.report.dicom_segments import NumberedSegment
    from medmtl.report.dicom_source import DicomSource

__all__ = ["make_sr"]

_SERIES_NUMBER = 9103


def make_sr(
    source: DicomSource,
    prediction: Prediction,
    *,
    seg: SegObject | None,
    segments: Sequence[NumberedSegment],
) -> Comprehensive3DSR:
    """Build the report of one volume.

    The findings and the measurements of the whole study stand in the report of every volume.

    Args:
        source: Of the volume.
        prediction: The whole answer.
        seg: Segmentation that the report cites; None where the model has no segments.
        segments: The segments of this volume.
    """
    report = _report(source, prediction, seg, segments)
    content = json.dumps(report[0].to_json_dict(), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()
    sr = Comprehensive3DSR(
        evidence=[*_evidence(source), *([seg.head] if seg is not None else [])],
        content=report[0],
        series_instance_uid=source.uid("sr"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=source.uid("sr", digest),
        instance_number=1,
        manufacturer="medmtl",
        is_complete=True,
        coding_schemes=[_own_scheme()],
    )
    equipment = source.equipment()
    sr.ManufacturerModelName = equipment["manufacturer_model_name"]
    sr.SoftwareVersions = equipment["software_versions"]
    sr.DeviceSerialNumber = equipment["device_serial_number"]
    source.finish(sr)
    return sr


def _own_scheme() -> CodingSchemeIdentificationItem:
    return CodingSchemeIdentificationItem(
        designator="99MEDMTL", name="medmtl private codes", responsible_organization="medmtl"
    )


def _report(
    source: DicomSource,
    prediction: Prediction,
    seg: SegObject | None,
    segments: Sequence[NumberedSegment],
) -> MeasurementReport:
    groups: list[object] = []
    if seg is not None:
        groups += [segment_group(source, seg, segment) for segment in segments]
    specs = prediction.schema.findings if prediction.schema else ()
    by_name = {spec.name: spec.code for spec in specs}
    groups += [finding_group(source, f, by_name.get(f.name)) for f in prediction.findings]
    groups += measurement_group(source, prediction.measurements)
    groups.append(flag_group(source, prediction.flags))
    report = MeasurementReport(
        observation_context=_observer(source),
        procedure_reported=procedure(source.modality),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    for text in _statements(source, prediction):
        report[0].ContentSequence.append(
            TextContentItem(name=codes.DCM.Comment, value=text[:1024], relationship_type="CONTAINS")
        )
    return report


def _statements(source: DicomSource, prediction: Prediction) -> list[str]:
    model = source.model
    on_masks = [m for m in prediction.measurements if not m.name.startswith("network_")]
    unknown = [m.name for m in on_masks if m.value is None]
    lines = [
        RESEARCH_ONLY,
        prediction.notice,
        f"Model {model.name} {model.version}, SHA-256 {model.sha256}.",
        *(f"{flag.severity}: {flag.code}: {flag.message}" for flag in prediction.flags),
    ]
    if unknown:
        lines.append(f"Could not be measured: {', '.join(unknown)}.")
    return lines


def _observer(source: DicomSource) -> ObservationContext:
    """The device that observed: the model, by name, version and checksum."""
    device = DeviceObserverIdentifyingAttributes(
        uid=source.model_uid,
        name=f"{source.model.name} {source.model.version}"[:64],
        manufacturer_name="medmtl",
        model_name=source.model.name[:64],
        serial_number=source.model.sha256,
    )
    context = ObserverContext(
        observer_type=codes.DCM.Device, observer_identifying_attributes=device
    )
    return ObservationContext(observer_device_context=context)


def _evidence(source: DicomSource) -> list[Dataset]:
    """One bare data set per source instance; the first carries the patient's attributes, empty."""
    found: dict[str, Dataset] = {}
    for frame in source.frames:
        if frame.sop_instance_uid in found:
            continue
        image = source.template(rows=1, columns=1) if not found else Dataset()
        image.StudyInstanceUID = source.study_uid
        image.SeriesInstanceUID = frame.series_uid
        image.SOPClassUID, image.SOPInstanceUID = frame.sop_class_uid, frame.sop_instance_uid
        found[frame.sop_instance_uid] = image
    return list(found.values())
