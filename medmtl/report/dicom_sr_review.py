"""findings.v2.sr.dcm: a report that carries what reviewers said, in place of the one before it.

The content of the model's own report stays as it is. Each reviewed measurement group (TID 1411,
TID 1501 of PS3.16) gets one coded item per reviewer, with the reviewer as its observation context
(TID 1002) and the time as its observation time. The earlier versions are named as predecessors
(PS3.3 C.17.2.3); none of them is changed.
"""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from highdicom.sr import (
    CodeContentItem,
    ContentSequence,
    PnameContentItem,
    RelationshipTypeValues,
    TextContentItem,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.sr.codedict import codes
from pydicom.valuerep import PersonName

from medmtl.report.dicom_segments import tracking_id
from medmtl.report.dicom_source import made_uid
from medmtl.report.dicom_sr_groups import own_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medmtl.core.review import FindingVerdict, MaskVerdict, Review

__all__ = ["ANSWERS", "reviewed_report", "signature_time"]

ANSWERS = {
    "agree": "Agrees with the decision",
    "disagree": "Disagrees with the decision",
    "unsure": "Unsure of the decision",
    "accepted": "Mask accepted",
    "needs_correction": "Mask needs correction",
    "corrected": "Mask corrected, another stands in its place",
}
"""Meaning of each coded answer of the private scheme."""

_VERDICT = own_code("reviewer-verdict", "Verdict of a reviewer")
_GROUP, _TRACKING = "125007", "112039"


def reviewed_report(
    original: Dataset,
    earlier: Sequence[Dataset],
    reviews: Sequence[Review],
    *,
    volume_id: str,
) -> Dataset:
    """Build the version of a report that holds the verdicts.

    Args:
        original: The report that the model's run wrote.
        earlier: Every later version so far, oldest first; they and the original become
            predecessors.
        reviews: Each reviewer's signed review that holds now. They replace those of earlier
            versions; without any, the report is unverified again.
        volume_id: Of the report; verdicts on the masks of other volumes stand in the reports of
            those.

    Raises:
        ValueError: If a review is not signed.
    """
    if not all(review.is_signed for review in reviews):
        raise ValueError("Only signed reviews enter a report. Sign the case, then write it.")
    reviews = sorted(reviews, key=lambda review: (review.reviewed_at, review.reviewer))
    report = copy.deepcopy(original)
    for group in _groups(report):
        _add_verdicts(group, reviews, volume_id)
    for review in reviews:
        if review.comment:
            item = _comment(review, review.comment, RelationshipTypeValues.CONTAINS)
            _append(report, item)
    _identify(report, [original, *earlier], reviews)
    return report


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        if _name(child) == _GROUP:
            yield child
        else:
            yield from _groups(child)


def _name(item: Dataset) -> str:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].get("CodeValue", "")) if concept else ""


def _add_verdicts(group: Dataset, reviews: Sequence[Review], volume_id: str) -> None:
    tracked = next(
        (str(item.TextValue) for item in group.ContentSequence if _name(item) == _TRACKING), ""
    )
    is_segment = any(item.ValueType == "IMAGE" for item in group.ContentSequence)
    for review in reviews:
        verdict: FindingVerdict | MaskVerdict | None = (
            _of_segment(review, volume_id, tracked)
            if is_segment
            else _of_finding(review, volume_id, tracked)
        )
        if verdict is not None:
            _append(group, _verdict(review, verdict.answer, verdict.comment))


def _of_finding(review: Review, volume_id: str, tracked: str) -> FindingVerdict | None:
    for verdict in review.findings:
        if tracked == tracking_id(review.case_id, volume_id, verdict.finding):
            return verdict
    return None


def _of_segment(review: Review, volume_id: str, tracked: str) -> MaskVerdict | None:
    """A segment's own verdict, else that on the whole label map of the volume."""
    whole = None
    for verdict in review.masks:
        if verdict.volume != volume_id:
            continue
        if verdict.segment is None:
            whole = verdict
        elif tracked == tracking_id(review.case_id, volume_id, verdict.segment):
            return verdict
    return whole


def _verdict(review: Review, answer: str, comment: str) -> CodeContentItem:
    item = CodeContentItem(
        name=_VERDICT,
        value=own_code(answer.replace("_", "-"), ANSWERS[answer]),
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    item.ObservationDateTime = _date_time(review.reviewed_at)
    item.ContentSequence = ContentSequence(_observer(review))
    if comment:
        item.ContentSequence.append(
            TextContentItem(codes.DCM.Comment, comment, RelationshipTypeValues.HAS_PROPERTIES)
        )
    return item


def _comment(review: Review, comment: str, relationship: RelationshipTypeValues) -> TextContentItem:
    item = TextContentItem(codes.DCM.Comment, comment, relationship)
    item.ObservationDateTime = _date_time(review.reviewed_at)
    item.ContentSequence = ContentSequence(_observer(review))
    return item


def _observer(review: Review) -> list[Any]:
    """TID 1002: a person, by name."""
    context = RelationshipTypeValues.HAS_OBS_CONTEXT
    return [
        CodeContentItem(codes.DCM.ObserverType, codes.DCM.Person, context),
        PnameContentItem(codes.DCM.PersonObserverName, _person(review.reviewer), context),
    ]


def _person(reviewer: str) -> PersonName:
    """A name as it was given; one without parts is a family name (PS3.5 6.2.1.1)."""
    plain = reviewer.replace("\\", " ").replace("=", " ").strip()[:63]
    return PersonName(plain if "^" in plain else f"{plain}^")


def _date_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S") + "+0000"


def _append(container: Dataset, item: Dataset) -> None:
    container.ContentSequence = DicomSequence([*container.ContentSequence, item])


def _identify(report: Dataset, versions: Sequence[Dataset], reviews: Sequence[Review]) -> None:
    said = json.dumps([review.as_json() for review in reviews], sort_keys=True)
    digest = hashlib.sha256(said.encode()).hexdigest()
    report.SOPInstanceUID = made_uid(*(str(one.SOPInstanceUID) for one in versions), digest)
    report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
    report.InstanceNumber = len(versions) + 1
    latest = reviews[-1].reviewed_at.astimezone(UTC) if reviews else datetime.now(UTC)
    report.ContentDate, report.ContentTime = latest.strftime("%Y%m%d"), latest.strftime("%H%M%S")
    report.PredecessorDocumentsSequence = DicomSequence([_predecessors(report, versions)])
    if reviews:
        report.VerificationFlag = "VERIFIED"
        report.VerifyingObserverSequence = DicomSequence([_signature(one) for one in reviews])


def _predecessors(report: Dataset, versions: Sequence[Dataset]) -> Dataset:
    study, series = Dataset(), Dataset()
    references = []
    for version in versions:
        reference = Dataset()
        reference.ReferencedSOPClassUID = version.SOPClassUID
        reference.ReferencedSOPInstanceUID = version.SOPInstanceUID
        references.append(reference)
    series.SeriesInstanceUID = report.SeriesInstanceUID
    series.ReferencedSOPSequence = DicomSequence(references)
    study.StudyInstanceUID = report.StudyInstanceUID
    study.ReferencedSeriesSequence = DicomSequence([series])
    return study


def _signature(review: Review) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = _person(review.reviewer)
    item.VerifyingObserverIdentificationCodeSequence = DicomSequence([])
    item.VerifyingOrganization = "Not stated; research use only"  # type 1: never empty
    item.VerificationDateTime = signature_time(review)
    return item


def signature_time(review: Review) -> str:
    """When a review was signed, as a report says it; to the second."""
    return _date_time(review.reviewed_at)
