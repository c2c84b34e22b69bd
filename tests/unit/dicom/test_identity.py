"""What identifies a person is replaced or gone; what stands in its place follows rules on paper."""

from __future__ import annotations

import datetime

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medmtl.core.pseudonym import Pseudonyms
from medmtl.dicom.identity import _actions, pseudonymous_patient, pseudonymous_result
from medmtl.dicom.patient import PATIENT_KEYWORDS

NAMES = Pseudonyms("s" * 32)
KEPT = {"PatientName", "PatientID", "StudyDate", "PatientIdentityRemoved", "DeidentificationMethod",
        "LongitudinalTemporalInformationModified"}  # fmt: skip


def _patient(**attributes: str) -> dict[str, str]:
    return pseudonymous_patient(attributes, NAMES, study_uid="1.2.3")


def test_what_has_no_pseudonym_is_left_out() -> None:
    every = dict.fromkeys(PATIENT_KEYWORDS, "Planted") | {"StudyDate": "20200131"}
    found = _patient(**every)
    assert set(found) == KEPT
    assert "Planted" not in "".join(found.values())


@pytest.mark.parametrize(
    ("days", "first", "second"),
    [(1, "20200228", "20200229"), (366, "20200101", "20210101"), (21, "19991231", "20000121")],
)
def test_intervals_stay(days: int, first: str, second: str) -> None:
    one, other = (
        datetime.date.fromisoformat(_patient(PatientID="P", StudyDate=date)["StudyDate"])
        for date in (first, second)
    )
    assert (other - one).days == days
    assert one < datetime.date.fromisoformat(first)


@pytest.mark.parametrize("date", ["20201340", "x", "00010101", ""])
def test_a_date_that_is_none_is_left_out(date: str) -> None:
    assert "StudyDate" not in _patient(PatientID="P", StudyDate=date)


def test_no_date_is_left_where_none_is_wanted() -> None:
    names = Pseudonyms("s" * 32, "remove")
    found = pseudonymous_patient({"StudyDate": "20200131"}, names, study_uid="1.2.3")
    assert "StudyDate" not in found
    assert found["LongitudinalTemporalInformationModified"] == "REMOVED"


def test_who_is_the_same_patient() -> None:
    def who(study_uid: str = "1.2.3", **attributes: str) -> str:
        return pseudonymous_patient(attributes, NAMES, study_uid=study_uid)["PatientID"]

    assert who(PatientID="P") == who("9.9", PatientID="P", PatientName="Other")
    assert who(PatientID="P") != who(PatientID="P", IssuerOfPatientID="elsewhere")
    assert who(PatientName="N", PatientBirthDate="19700101") == who(
        "9.9", PatientName="N", PatientBirthDate="19700101"
    )
    assert who(PatientName="N") != who(PatientName="N", PatientBirthDate="19700101")
    assert who("1.2.3") != who("9.9")  # nothing tells them apart but the study


@pytest.mark.parametrize(
    ("keyword", "action"),
    [
        ("PatientName", "Z"), ("PatientID", "Z_D"), ("PatientBirthDate", "Z"),
        ("PatientAge", "X"), ("PatientComments", "X"), ("StudyInstanceUID", "U"),
        ("SOPInstanceUID", "U"), ("FrameOfReferenceUID", "U"), ("PersonName", "D"),
        ("InstitutionAddress", "X"), ("AccessionNumber", "Z"), ("Modality", None),
    ],
)  # fmt: skip
def test_the_profile_is_that_of_the_standard(keyword: str, action: str | None) -> None:
    """PS3.15 table E.1-1, by hand."""
    tag = Tag(tag_for_keyword(keyword))
    assert _actions().get((tag.group, tag.elem)) == action


def test_a_result_loses_its_person_at_every_depth_and_only_once() -> None:
    result, inner = Dataset(), Dataset()
    result.file_meta = FileMetaDataset()
    inner.PatientComments, inner.PersonName, inner.DateTime = "x", "Doe^Jane", "20200131101112"
    inner.ReferencedSOPInstanceUID, inner.ReferencedSOPClassUID = "1.2.5", "1.2.840.10008.1.1"
    inner.private_block(0x0011, "Doe", create=True).add_new(1, "LO", "Doe")
    result.ContentSequence = Sequence([inner])
    result.StudyInstanceUID, result.SOPInstanceUID = "1.2.3", "1.2.4"
    result.PatientID, result.PatientBirthDate, result.StudyDate = "P", "19700101", "20200131"
    result.SeriesDescription, result.InstitutionName = "medmtl", "Doe Clinic"
    pseudonymous_result(result, NAMES)
    assert "Doe" not in str(result)
    assert "PatientComments" not in inner
    assert inner.ReferencedSOPInstanceUID == NAMES.uid("1.2.5")
    assert inner.ReferencedSOPClassUID == "1.2.840.10008.1.1"
    assert result.file_meta.MediaStorageSOPInstanceUID == NAMES.uid("1.2.4")
    assert not result.PatientBirthDate
    assert inner.DateTime == result.StudyDate  # moved alike; the time of day is gone
    assert result.SeriesDescription == "medmtl"
    once = str(result)
    pseudonymous_result(result, NAMES)
    assert str(result) == once
