"""segmentation.rtstruct.dcm: the masks of one volume as an RT Structure Set (PS3.3 A.19).

Written with pydicom, because no kept library serves: rt-utils reads the whole source folder,
exchanges row and column spacing, knows no multi-frame source and makes UIDs by chance.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian
from scipy.ndimage import find_objects

from medmtl.report.contours import polygons
from medmtl.report.dicom_planes import planes_of
from medmtl.report.dicom_segments import ABNORMAL, numbered
from medmtl.report.dicom_source import RESEARCH_ONLY
from medmtl.report.panel import colour_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from medmtl.report.dicom_planes import Planes
    from medmtl.report.dicom_segments import NumberedSegment
    from medmtl.report.dicom_source import DicomSource

__all__ = ["RT_STRUCTURE_SET", "make_rtstruct"]

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: PS3.3 C.8.8.5.4 still asks for it."""
_SERIES_NUMBER = 9104
_CONTOUR_DATA = Tag(0x3006, 0x0050)


def make_rtstruct(
    source: DicomSource, label_map: NDArray[Any], segments: Sequence[NumberedSegment]
) -> Dataset:
    """Build the structure set of one volume, one region of interest per segment.

    Contours lie in the planes of the volume. Where these are the source frames, each contour cites
    its frame; elsewhere (a resampled volume) only the series is cited.

    Args:
        source: Of the volume.
        label_map: Shape (i, j, k) of the volume, uint8 or uint16, 0 is background.
        segments: Those without a voxel are described without a contour.

    Raises:
        ValueError: If the label map holds a label that no segment has.
    """
    pixels = numbered(label_map, tuple(segments))
    structure_set = Dataset()
    structure_set.Modality = "RTSTRUCT"
    structure_set.SeriesInstanceUID = source.uid("rtstruct")
    structure_set.SeriesNumber = _SERIES_NUMBER
    structure_set.InstanceNumber = 1
    structure_set.SOPClassUID = RT_STRUCTURE_SET
    structure_set.SOPInstanceUID = source.uid("rtstruct", hashlib.sha256(pixels.data).hexdigest())
    structure_set.OperatorsName = None
    structure_set.FrameOfReferenceUID = source.frame_of_reference_uid
    structure_set.PositionReferenceIndicator = None
    _set_equipment(structure_set, source)
    source.finish(structure_set)
    _describe(structure_set, source)
    structure_set.StructureSetROISequence = _regions(source, segments)
    structure_set.ROIContourSequence = _contours(source, pixels, segments)
    structure_set.RTROIObservationsSequence = _observations(segments)
    structure_set.ApprovalStatus = "UNAPPROVED"
    structure_set.file_meta = _file_meta(structure_set)
    return structure_set


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    """Implicit VR, as the points of one contour may need more bytes than an explicit DS holds."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return meta


def _set_equipment(dataset: Dataset, source: DicomSource) -> None:
    equipment = source.equipment()
    dataset.Manufacturer = equipment["manufacturer"]
    dataset.ManufacturerModelName = equipment["manufacturer_model_name"]
    dataset.SoftwareVersions = equipment["software_versions"]
    dataset.DeviceSerialNumber = equipment["device_serial_number"]


def _describe(dataset: Dataset, source: DicomSource) -> None:
    """Label, dates and the images it is of; the content date is no attribute of a structure set."""
    dataset.StructureSetLabel = "RESEARCH USE"  # 16 characters at most
    dataset.StructureSetDescription = RESEARCH_ONLY
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.ContentDate, dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    series_items = source.referenced_series()
    for item in series_items:
        item.ContourImageSequence = item.ReferencedInstanceSequence
        del item.ReferencedInstanceSequence
    study, frame = Dataset(), Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = source.study_uid
    study.RTReferencedSeriesSequence = series_items
    frame.FrameOfReferenceUID = source.frame_of_reference_uid
    frame.RTReferencedStudySequence = DicomSequence([study])
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([frame])


def _regions(source: DicomSource, segments: Sequence[NumberedSegment]) -> DicomSequence:
    made_by = f"{source.model.name[:24]} {source.model.version[:12]} {source.model.sha256[:12]}"
    items = []
    for segment in segments:
        item = Dataset()
        item.ROINumber = segment.number
        item.ReferencedFrameOfReferenceUID = source.frame_of_reference_uid
        item.ROIName = segment.words
        item.ROIDescription = f"{RESEARCH_ONLY} {segment.tracking_id}"
        item.ROIVolume = f"{segment.result.volume_ml:.4f}"
        item.ROIGenerationAlgorithm = "AUTOMATIC"
        item.ROIGenerationDescription = made_by
        items.append(item)
    return DicomSequence(items)


def _observations(segments: Sequence[NumberedSegment]) -> DicomSequence:
    items = []
    for segment in segments:
        item = Dataset()
        item.ObservationNumber = segment.number
        item.ReferencedROINumber = segment.number
        item.RTROIIdentificationCodeSequence = DicomSequence([CodedConcept.from_code(segment.type)])
        # A lesion is no target volume: that would be a decision about treatment.
        item.RTROIInterpretedType = "" if segment.category == ABNORMAL else "ORGAN"
        item.ROIInterpreter = None
        items.append(item)
    return DicomSequence(items)


def _contours(
    source: DicomSource, pixels: NDArray[Any], segments: Sequence[NumberedSegment]
) -> DicomSequence:
    planes = planes_of(source.geometry, source.frames)
    found: dict[int, list[Dataset]] = {segment.number: [] for segment in segments}
    for k, plane in enumerate(pixels):
        for number, outline in _outlines(plane):
            found[number].append(_contour(source, planes, k, outline))
    items = []
    for segment in segments:
        item = Dataset()
        item.ROIDisplayColor = list(colour_of(segment.result.label))
        item.ReferencedROINumber = segment.number
        if found[segment.number]:
            item.ContourSequence = DicomSequence(found[segment.number])
        items.append(item)
    return DicomSequence(items)


def _outlines(plane: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Number and polygon of each piece in a plane, as (column, row)."""
    for number, box in enumerate(find_objects(plane), start=1):
        if box is None:
            continue
        rows, columns = box
        for outline in polygons(plane[box] == number):
            yield number, outline + np.array([columns.start, rows.start])


def _contour(source: DicomSource, planes: Planes, k: int, outline: NDArray[np.float64]) -> Dataset:
    row_mm, column_mm = planes.spacing_mm
    row, column = np.reshape(planes.orientation, (2, 3))
    steps = np.stack([row * column_mm, column * row_mm])
    points_lps = planes.positions_lps[k] + outline @ steps
    item = Dataset()
    if planes.is_source:
        item.ContourImageSequence = DicomSequence([_image(source, planes.cited[k][0])])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(outline)
    # Encoded here: pydicom takes microseconds for each of a million numbers.
    text = "\\".join([f"{value:.4f}" for value in points_lps.ravel().tolist()]).encode()
    text += b" " * (len(text) % 2)
    # Else pydicom would decode it in order to write it.
    item.set_original_encoding(True, True, default_encoding)
    item[_CONTOUR_DATA] = RawDataElement(
        _CONTOUR_DATA, "DS", len(text), text, 0, is_implicit_VR=True, is_little_endian=True
    )
    return item


def _image(source: DicomSource, index: int) -> Dataset:
    frame = source.frames[index]
    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    return item
