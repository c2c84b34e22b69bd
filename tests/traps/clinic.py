"""A folder as it comes from a clinic: good and bad series, strangers, identities planted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import BasicTextSRStorage, EncapsulatedPDFStorage

from tests.traps.expectation import Image
from tests.traps.series import (
    CORONAL,
    Series,
    assign,
    make_series,
    merged,
    save,
    write,
)
from tests.traps.strangers import stranger

TEXT_FIELDS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "RequestingPhysician", "PatientAddress", "PatientTelephoneNumbers", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StudyDescription",
    "SeriesDescription", "ProtocolName", "PatientComments", "ImageComments",
    "AdditionalPatientHistory", "RequestedProcedureDescription", "StationName",
    "PerformedProcedureStepDescription", "Occupation", "MilitaryRank", "ResponsiblePerson",
    "DerivationDescription", "AcquisitionComments", "StudyComments",
)  # fmt: skip
"""Every text field in which a name has been met in practice."""


@dataclass(frozen=True, eq=False)
class Clinic:
    """What lies in the folder.

    Attributes:
        images: Truth of the readable volumes: a CT and two phases of an MR.
        skipped: File names that are no image volumes.
    """

    images: tuple[Image, ...]
    skipped: tuple[str, ...]


def plant_everywhere(series: Series) -> None:
    """Identity tokens in every text field, a private tag and a nested sequence."""
    for dataset in series.datasets:
        for keyword in TEXT_FIELDS:
            assign(dataset, **{keyword: "Zzyzx^Quentin PID90417"})
        dataset.OtherPatientIDs = "PID90417"
        block = dataset.private_block(0x0029, "STONEBRIDGE", create=True)
        block.add_new(0x10, "LO", "Zzyzx Quentin")
        request = Dataset()
        request.AccessionNumber = "ACC77531"
        request.RequestedProcedureDescription = "Zzyzx"
        dataset.RequestAttributesSequence = [request]


def good_clinic(folder: Path) -> Clinic:
    """A CT, a two-phase coronal MR, a report and a PDF; nothing to refuse."""
    ct = make_series(series="ct")
    phases = [
        make_series(series="mr", modality="MR", direction=CORONAL, seed=5 + n,
                    first_instance=1 + 20 * n).set(TriggerTime=str(200 * n))
        for n in range(2)
    ]  # fmt: skip
    for series in (ct, *phases):
        plant_everywhere(series)
    ct.write(folder / "CT")
    write(folder / "MR", merged(*phases))
    save(stranger(BasicTextSRStorage, "SR"), folder / "report.dcm")
    save(stranger(EncapsulatedPDFStorage, "DOC"), folder / "letter.dcm")
    (folder / "notes.txt").write_text("Zzyzx Quentin\n")
    return Clinic(
        (ct.image, *(phase.image for phase in phases)), ("report.dcm", "letter.dcm", "notes.txt")
    )


def mixed_clinic(folder: Path) -> Clinic:
    """The same with a series without positions and one whose pixels are cut off."""
    clinic = good_clinic(folder)
    lost = make_series(series="lost").set(ImagePositionPatient=None)
    cut = make_series(series="cut")
    cut.datasets[2].PixelData = cut.datasets[2].PixelData[:-20]
    for series in (lost, cut):
        plant_everywhere(series)
    lost.write(folder / "LOST")
    cut.write(folder / "CUT")
    return clinic
