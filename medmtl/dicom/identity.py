"""What in a DICOM object tells who it is of, and what stands in its place (PS3.15 E.1).

The attributes are those of the Basic Application Level Confidentiality Profile, PS3.15 table
E.1-1 in its edition of 2026c, as the tables of `dicom-anonymizer` list them. Its own walk over a
data set is not used: it leaves what lies inside of sequences, and its UIDs are random.
"""

from __future__ import annotations

import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from pydicom.datadict import keyword_for_tag
from pydicom.multival import MultiValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from medmtl.core.pseudonym import Pseudonyms

__all__ = ["pseudonymous_patient", "pseudonymous_result"]

_TABLE = "dicomfields_2026c"
_METHOD = "PS3.15 Basic Profile by medmtl, keyed pseudonyms"
_STANDARD_ROOT = "1.2.840.10008."
_OF_A_STANDARD = frozenset({"CodingSchemeUID", "ContextGroupExtensionCreatorUID", "ContextUID"})
_OURS = frozenset(
    {
        "ContentDate", "ContentSequence", "ContentTime", "ContributionDescription",
        "DeviceSerialNumber", "ROIDescription", "ROIGenerationDescription", "ROIName",
        "SeriesDescription", "SourceImageSequence", "StructureSetDate", "StructureSetDescription",
        "StructureSetLabel", "StructureSetTime",
    }
)  # fmt: skip
"""Listed by the profile, but in a result of medmtl they name the model or cite by UID."""
_POSITION_REFERENCE_INDICATOR = (0x0020, 0x1040)
"""Typed by hand and copied into results; the profile trusts it, we do not."""
_UNKNOWN_DATE, _UNKNOWN_TIME = "19000101", "000000"
_NOBODY = "Removed"


def pseudonymous_patient(
    patient: Mapping[str, str], pseudonyms: Pseudonyms, *, study_uid: str
) -> dict[str, str]:
    """Patient and study attributes that tell nobody who it is; what has no entry is left out.

    Args:
        patient: As text by keyword, see `read_patient`.
        pseudonyms: What stands for what.
        study_uid: As in the source; tells patients apart where nothing else does.
    """
    person = _person(patient, study_uid)
    name = f"P-{pseudonyms.name('patient', person)}"
    found = {
        "PatientName": name,
        "PatientID": name,
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": _METHOD,
        "LongitudinalTemporalInformationModified": (
            "MODIFIED" if pseudonyms.dates == "shift" else "REMOVED"
        ),
    }
    date = _moved(patient.get("StudyDate", ""), pseudonyms, person)
    return found | ({"StudyDate": date} if date else {})


def pseudonymous_result(result: Dataset, pseudonyms: Pseudonyms) -> None:
    """Take the person out of a DICOM result of medmtl, in place; one that has none stays as it is.

    Args:
        result: A segmentation, report, map or structure set. Not for images: what their pixels
            and their makers' descriptions show is left as it is.
        pseudonyms: What stands for what.
    """
    if result.get("PatientIdentityRemoved") == "YES" and _METHOD in str(
        result.get("DeidentificationMethod", "")
    ):
        return
    patient = {
        keyword: str(result.get(keyword) or "")
        for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate",
                        "StudyDate")
    }  # fmt: skip
    study_uid = str(result.get("StudyInstanceUID", ""))
    person = _person(patient, study_uid)
    if "VerifyingObserverSequence" in result:  # a person signed it, and may have typed in it
        _clear_comments(result)
    _clean(result, pseudonyms, person)
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    for keyword, text in pseudonymous_patient(patient, pseudonyms, study_uid=study_uid).items():
        setattr(result, keyword, text)


def _person(patient: Mapping[str, str], study_uid: str) -> str:
    """What tells one patient from another: the ID, else name and birth date, else the study."""
    known = [patient.get(keyword, "") for keyword in ("PatientID", "IssuerOfPatientID")]
    if not known[0]:
        known = [patient.get(keyword, "") for keyword in ("PatientName", "PatientBirthDate")]
    return "\n".join(known) if any(known) else study_uid


def _moved(date: str, pseudonyms: Pseudonyms, person: str) -> str:
    """A date (YYYYMMDD, more may follow) of a patient moved by the rule; "" for none."""
    if not date or pseudonyms.dates == "remove":
        return ""
    try:
        day = datetime.datetime.strptime(date[:8], "%Y%m%d")  # noqa: DTZ007 - a day, no moment
        moved = day - datetime.timedelta(days=pseudonyms.shift_days(person))
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04d}{moved:%m%d}"


def _clean(dataset: Dataset, pseudonyms: Pseudonyms, person: str) -> None:
    for element in list(dataset):
        keyword = keyword_for_tag(element.tag)
        action = _actions().get((element.tag.group, element.tag.elem), "")
        if element.tag.is_private or (action.startswith("X") and keyword not in _OURS):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _clean(item, pseudonyms, person)
        elif element.VR == "UI":
            if keyword not in _OF_A_STANDARD:
                element.value = _each(element.value, lambda uid: _uid(uid, pseudonyms))
        elif element.VR in {"DA", "DT"} and keyword != "PatientBirthDate":  # it tells the age
            dates = _each(element.value, lambda date: _moved(date, pseudonyms, person))
            element.value = dates or (_UNKNOWN_DATE if _is_needed(action) else None)
        elif element.VR == "TM":
            element.value = _UNKNOWN_TIME if _is_needed(action) else None
        elif element.VR == "PN" or (action and keyword not in _OURS):
            element.value = _instead(element, action)


def _is_needed(action: str) -> bool:
    """Whether the profile wants a value in place of the former one."""
    return action.endswith("D")


def _clear_comments(item: Dataset) -> None:
    if "TextValue" in item:
        item.TextValue = _NOBODY
    for child in item.get("ContentSequence", ()):
        _clear_comments(child)


def _uid(uid: str, pseudonyms: Pseudonyms) -> str:
    return uid if uid.startswith(_STANDARD_ROOT) else pseudonyms.uid(uid)


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, MultiValue | list):
        return [change(str(one)) for one in value]
    return change(str(value)) if value else value


def _instead(element: DataElement, action: str) -> str | None:
    """Nothing, or a word where the standard wants one; numbers and bytes become nothing."""
    if not element.value or not _is_needed(action):
        return None
    if element.VR == "CS":
        return _NOBODY.upper()
    return _NOBODY if element.VR in {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"} else None


@cache
def _actions() -> dict[tuple[int, int], str]:
    """Tag to action code of the profile: "X", "Z", "D", "U", "X_Z", ..."""
    # Only where something is de-identified: importing it takes time.
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector

    table = dicom_anonymization_database_selector(_TABLE)
    listed = {
        tag: group.removesuffix("_TAGS")
        for group, tags in table.items()
        if group != "ALL_TAGS"
        for tag in tags
        if len(tag) == 2  # group and element; the others are ranges, of curves and overlays
    }
    return listed | {_POSITION_REFERENCE_INDICATOR: "Z"}
