"""What every written DICOM object shares: patient, study, frame of reference, UIDs, equipment.

Equal input, model and answer give equal bytes: UIDs are UUIDv5 (PS3.5 B.2) over what the object
says, and the content date and time are those of the source study, never the clock.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID

from medmtl.core.durable import durable_file
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from highdicom import AlgorithmIdentificationSequence

    from medmtl.core.geometry import Geometry
    from medmtl.core.prediction import ModelIdentity
    from medmtl.core.source import SourceFrame
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume

__all__ = ["RESEARCH_ONLY", "DicomSource", "NoDicomSourceError", "made_uid", "save_dicom"]

RESEARCH_ONLY = "For research use only, not for clinical decisions."

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "medmtl.dicom")
_NO_DATE, _NO_TIME = "19000101", "000000"
"""Content date and time where the source study says none."""
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "AccessionNumber", "StudyID", "ReferringPhysicianName",
)  # fmt: skip


class NoDicomSourceError(MedmtlError):
    """A DICOM object was asked for, but the source cannot be cited in it."""


def medmtl_version() -> str:
    """The installed version."""
    try:
        return version("medmtl")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, eq=False)
class DicomSource:
    """The source of one volume and the model that read it.

    Attributes:
        case_id: Folder name of the case.
        volume_id: Folder name of the volume.
        study_uid: As in the source, or made from the case where it says none; series likewise.
        frame_of_reference_uid: As in the source, or made from the series where it says none.
        modality: Of the source.
        geometry: Grid of the volume.
        frames: In slice order.
        patient: Patient and study attributes as text by keyword.
        model: The model that answered.
        is_hounsfield: Whether the voxels are HU.
    """

    case_id: str
    volume_id: str
    study_uid: str
    frame_of_reference_uid: str
    modality: str
    geometry: Geometry
    frames: tuple[SourceFrame, ...]
    patient: Mapping[str, str]
    model: ModelIdentity
    is_hounsfield: bool = False

    @classmethod
    def of(cls, study: Study, volume: Volume, model: ModelIdentity) -> DicomSource:
        """Gather what a written object needs; reads the first source header again.

        Raises:
            NoDicomSourceError: If the volume is no DICOM, or instances without UIDs.
            InputRefusedError: If the source file is not there any more.
        """
        source = volume.source
        if source is None or not source.frames:
            raise NoDicomSourceError(
                f"Volume {volume.id} is no DICOM image: a SEG, SR or parametric map needs the "
                "patient, study and frame of reference of its source. Use --formats nifti."
            )
        if not all(frame.sop_instance_uid and frame.sop_class_uid for frame in source.frames):
            raise NoDicomSourceError(
                f"Volume {volume.id}: source images without SOP class or instance UID cannot be "
                "cited. Export the series again from its source."
            )
        made_series = made_uid(study.case_id, "series")
        frames = tuple(
            frame if frame.series_uid else replace(frame, series_uid=made_series)
            for frame in source.frames
        )
        made = made_uid(study.case_id, frames[0].series_uid, "frame of reference")
        return cls(
            case_id=study.case_id,
            volume_id=volume.id,
            study_uid=study.study_uid or made_uid(study.case_id, "study"),
            frame_of_reference_uid=volume.frame_of_reference_uid or made,
            modality=volume.modality,
            geometry=volume.geometry,
            frames=frames,
            patient=source.read_patient(),
            model=model,
            is_hounsfield=volume.is_hounsfield,
        )

    def uid(self, *words: str) -> UID:
        """The same UID for the same source, model and words."""
        first, last = self.frames[0], self.frames[-1]
        ends = (f"{frame.sop_instance_uid}/{frame.frame_number}" for frame in (first, last))
        return made_uid(
            self.case_id, self.study_uid, *ends, self.volume_id, self.model.name,
            self.model.sha256, *words,
        )  # fmt: skip

    @property
    def model_uid(self) -> UID:
        """The model as a device, whatever it looks at."""
        return made_uid("model", self.model.name, self.model.version, self.model.sha256)

    @property
    def description(self) -> str:
        """Series description of every object, at most 64 characters."""
        return f"medmtl {self.model.name[:24]} {self.model.version[:12]} RESEARCH USE ONLY"[:64]

    @property
    def software(self) -> list[str]:
        """Software Versions: medmtl and the model."""
        return [f"medmtl {medmtl_version()}"[:64], f"{self.model.name} {self.model.version}"[:64]]

    def equipment(self) -> dict[str, Any]:
        """The equipment arguments of highdicom's images."""
        return {
            "manufacturer": "medmtl",
            "manufacturer_model_name": self.model.name[:64],
            "software_versions": self.software,
            "device_serial_number": self.model.sha256[:64],
        }

    def algorithm(self) -> AlgorithmIdentificationSequence:
        """Name, version and checksum of the model (PS3.3 10.16)."""
        from highdicom import AlgorithmIdentificationSequence  # takes a second
        from pydicom.sr.codedict import codes  # and this a quarter

        return AlgorithmIdentificationSequence(
            name=self.model.name[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=self.model.version[:64],
            source="medmtl",
            parameters={"bundle_sha256": self.model.sha256},
        )

    def template(self, *, rows: int, columns: int) -> Dataset:
        """A source image without identity, of the size that highdicom is to write."""
        first = self.frames[0]
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = first.sop_class_uid, first.sop_instance_uid
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_uid, first.series_uid
        image.FrameOfReferenceUID = self.frame_of_reference_uid
        image.Modality, image.Rows, image.Columns = self.modality, rows, columns
        image.ImagePositionPatient = [str(round(v, 6)) for v in first.position_lps]
        image.ImageOrientationPatient = [f"{v:.9f}" for v in first.orientation]
        # Another spacing than the written one: highdicom would put its copy in place of ours.
        image.PixelSpacing = ["1000", "1000"]
        image.SliceThickness = "1"
        for keyword in _TYPE_2:
            setattr(image, keyword, None)
        # A classic SOP class: highdicom would look for functional groups in an enhanced one.
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        return image

    def referenced_series(self) -> DicomSequence:
        """Referenced Series Sequence with every source instance once (PS3.3 C.12.1.1.2.2)."""
        by_series: dict[str, dict[str, str]] = {}
        for frame in self.frames:
            by_series.setdefault(frame.series_uid, {})[frame.sop_instance_uid] = frame.sop_class_uid
        return DicomSequence(
            [_series_item(series, instances) for series, instances in by_series.items()]
        )

    def finish(self, dataset: Dataset) -> None:
        """Give an object the patient and study of its source, and take the clock out of it."""
        dataset.SpecificCharacterSet = "ISO_IR 192"
        for keyword in _TYPE_2:
            setattr(dataset, keyword, self.patient.get(keyword))
        for keyword, text in self.patient.items():
            setattr(dataset, keyword, text)
        dataset.StudyInstanceUID = self.study_uid
        dataset.ContentDate = self.patient.get("StudyDate", _NO_DATE)
        dataset.ContentTime = self.patient.get("StudyTime", _NO_TIME)
        dataset.SeriesDescription = self.description
        for keyword in ("InstanceCreationDate", "InstanceCreationTime", "SourceImageSequence"):
            if keyword in dataset:
                delattr(dataset, keyword)
        for item in dataset.get("ContributingEquipmentSequence", ()):
            item.pop("ContributionDateTime", None)
        for keyword in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in dataset.get(keyword, ()):
                item.DimensionOrganizationUID = self.uid("dimensions")


def _series_item(series_uid: str, instances: Mapping[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    references = []
    for instance_uid, class_uid in instances.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = class_uid
        reference.ReferencedSOPInstanceUID = instance_uid
        references.append(reference)
    item.ReferencedInstanceSequence = DicomSequence(references)
    return item


def made_uid(*words: str) -> UID:
    """The same UID for the same words (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, chr(10).join(words)).int}")


def save_dicom(path: Path, dataset: Dataset) -> None:
    """Write a Part 10 file that is on the disk when the call returns.

    Raises:
        OSError: If it cannot be written; nothing is left of it then.
    """
    with durable_file(path) as stream:
        dataset.save_as(stream, enforce_file_format=True)
