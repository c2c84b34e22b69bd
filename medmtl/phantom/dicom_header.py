"""Headers of generated DICOM images: everything that CT and MR have in common.

Attribute types follow PS3.3 (2024): type 1 present with a value, type 2 present or empty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["NOTICE", "Patient", "StudyUids", "image_header", "place_slice", "stable_uid", "write"]

NOTICE = "medmtl phantom, not a patient"
_DATE, _TIME = "20240101", "120000"


@dataclass(frozen=True)
class Patient:
    """Whose body the header says it is: a number, never a person."""

    code: str
    sex: str
    age_years: int
    height_cm: float | None = None
    weight_kg: float | None = None


@dataclass(frozen=True)
class StudyUids:
    """The UIDs of one generated study with one series."""

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str


def stable_uid(*parts: object) -> str:
    """A UID under 2.25 (PS3.5 B.2) that depends on nothing but `parts`."""
    digest = hashlib.sha256("\n".join(map(str, ("medmtl phantom", *parts))).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _text_number(value: float) -> str:
    """A decimal string of at most 16 characters (PS3.5 6.2)."""
    for digits in range(12, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    return str(round(value))


def image_header(
    sop_class_uid: str, *, uids: StudyUids, patient: Patient, instance: int, modality: str
) -> Dataset:
    """Patient, study, series, equipment and common image attributes of one instance."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = stable_uid(uids.series_uid, instance)
    _describe_patient(header, patient)
    header.StudyInstanceUID = uids.study_uid
    header.StudyDate, header.StudyTime = _DATE, _TIME
    header.ReferringPhysicianName = ""
    header.StudyID = "1"
    header.AccessionNumber = ""
    header.StudyDescription = NOTICE
    header.Modality = modality
    header.SeriesInstanceUID = uids.series_uid
    header.SeriesNumber = 1
    header.SeriesDate, header.SeriesTime = _DATE, _TIME
    header.SeriesDescription = NOTICE
    header.PatientPosition = "HFS"
    header.FrameOfReferenceUID = uids.frame_of_reference_uid
    header.PositionReferenceIndicator = ""
    header.Manufacturer = "medmtl"
    header.ManufacturerModelName = "phantom"
    header.SoftwareVersions = "medmtl"
    header.InstanceNumber = instance
    header.AcquisitionNumber = 1
    header.AcquisitionDate, header.AcquisitionTime = _DATE, _TIME
    header.ContentDate, header.ContentTime = _DATE, _TIME
    header.BurnedInAnnotation = "NO"
    header.LossyImageCompression = "00"
    return header


def _describe_patient(header: Dataset, patient: Patient) -> None:
    header.PatientName = f"PHANTOM^{patient.code}"
    header.PatientID = f"PHANTOM-{patient.code}"
    header.PatientBirthDate = ""
    header.PatientSex = patient.sex
    header.PatientAge = f"{patient.age_years:03d}Y"
    if patient.height_cm is not None:
        header.PatientSize = _text_number(patient.height_cm / 100)
    if patient.weight_kg is not None:
        header.PatientWeight = _text_number(patient.weight_kg)
    header.PatientComments = NOTICE


def place_slice(header: Dataset, geometry: Geometry, *, k: int, slice_thickness_mm: float) -> None:
    """Image plane attributes of slice `k` (PS3.3 C.7.6.2)."""
    column_mm, row_mm, slice_mm = geometry.spacing_mm
    right, down, normal = geometry.direction.T
    position = geometry.affine_lps @ np.array([0, 0, k, 1.0])
    header.ImagePositionPatient = [_text_number(value) for value in position[:3]]
    header.ImageOrientationPatient = [_text_number(value) for value in (*right, *down)]
    # Spacing between rows comes first (PS3.3 10.7.1.3).
    header.PixelSpacing = [_text_number(row_mm), _text_number(column_mm)]
    header.SliceThickness = _text_number(slice_thickness_mm)
    header.SpacingBetweenSlices = _text_number(slice_mm)
    header.SliceLocation = _text_number(float(position[:3] @ normal))


def write(path: Path, header: Dataset, pixels_ij: NDArray[np.uint16]) -> None:
    """Add unsigned 12-bit pixels, given as (column, row), and write the file."""
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Columns, header.Rows = pixels_ij.shape
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation = 0
    header.PixelData = np.ascontiguousarray(pixels_ij.T, dtype="<u2").tobytes()
    header.save_as(path, enforce_file_format=True)
