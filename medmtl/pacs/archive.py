"""An archive behind DICOMweb: QIDO-RS, WADO-RS and STOW-RS (PS3.18 10.4 to 10.6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient

from medmtl.pacs.errors import PacsError
from medmtl.pacs.image_files import short_hash
from medmtl.pacs.retry import Retry, status_of
from medmtl.pacs.tls import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from medmtl.pacs.address import PacsQuery
    from medmtl.pacs.credentials import Credentials

__all__ = ["Archive", "InstanceRef", "StudyEntry"]

_STUDY_UID, _SERIES_UID = "0020000D", "0020000E"
_SOP_CLASS_UID, _SOP_INSTANCE_UID, _MODALITY = "00080016", "00080018", "00080060"
_STUDY_INSTANCES = "00201208"  # Number of Study Related Instances
_PAGE = 1000
_CHUNK_BYTES = 2**28
_NO_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.66.",  # registrations, fiducials, segmentations
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.88.",  # structured reports, key object selections
    "1.2.840.10008.5.1.4.1.1.11.",  # presentation states
    "1.2.840.10008.5.1.4.1.1.104.",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.481.",  # radiotherapy
    "1.2.840.10008.5.1.4.1.1.9.",  # waveforms
)


@dataclass(frozen=True)
class StudyEntry:
    """A study in the archive, and how many instances it says to have (None: it does not say)."""

    uid: str
    instances: int | None


@dataclass(frozen=True)
class InstanceRef:
    """Where an instance is in the archive."""

    study_uid: str
    series_uid: str
    sop_uid: str


class _Authorisation(requests.auth.AuthBase):
    """Sets the header by itself, so that neither .netrc nor the address decides who asks."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = self._header
        return request


@dataclass(frozen=True)
class Archive:
    """Questions to one archive; every method raises PacsError (or its subclass) when it fails."""

    client: DICOMwebClient = field(repr=False)
    retry: Retry = field(default_factory=Retry)

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        credentials: Credentials | None = None,
        tls: TlsFiles | None = None,
        retry: Retry | None = None,
        timeout_s: float = 60.0,
    ) -> Archive:
        """Prepare the questions; nothing is sent yet.

        Args:
            url: Root of the DICOMweb service.
            credentials: Sent with every request.
            tls: Whom to trust, and the certificate to show to an archive that asks for one.
            retry: How often a request is made.
            timeout_s: Without any byte from the archive.
        """
        tls = tls or TlsFiles()
        session = requests.Session()
        session.trust_env = False  # no secret of ~/.netrc, no setting that nobody sees
        session.verify = True if tls.ca_file is None else str(tls.ca_file)
        if tls.certificate is not None:
            session.cert = (str(tls.certificate), str(tls.key or tls.certificate))
        if credentials is not None:
            session.auth = _Authorisation(credentials.header)
        # One piece, with its length: not every server takes chunked uploads.
        client = DICOMwebClient(
            url, session=session, permissive_uid=True, timeout=timeout_s, chunk_size=_CHUNK_BYTES
        )
        # Its own retries send nothing the second time where the upload was in chunks.
        client.set_http_retry_params(retry=False)
        return cls(client, retry or Retry())

    def studies(self, query: PacsQuery) -> tuple[StudyEntry, ...]:
        """The studies that match, each once, in the order of the archive."""
        found: dict[str, StudyEntry] = {}
        search = self._search_all_series if query.series else self._search_studies
        for filters in _study_filters(query):
            for item in self._pages("The query of studies", search, filters):
                uid = _value(item, _STUDY_UID)
                count = _value(item, _STUDY_INSTANCES)
                if uid and _is_wanted(uid, query.studies):
                    found.setdefault(uid, StudyEntry(uid, int(count) if count.isdigit() else None))
        return tuple(found.values())

    def images(self, study_uid: str, query: PacsQuery) -> tuple[InstanceRef, ...]:
        """The images of a study that match; no segmentations, reports or maps. In stable order."""
        what = f"The query of study {short_hash(study_uid)}"
        series = {
            uid
            for item in self._pages(what, self._search_series(study_uid))
            if _is_wanted(uid := _value(item, _SERIES_UID), query.series)
            and query.modality in {"", _value(item, _MODALITY)}
        }
        items = self._pages(what, self._search_instances(study_uid))
        refs = {
            InstanceRef(study_uid, _value(item, _SERIES_UID), _value(item, _SOP_INSTANCE_UID))
            for item in items
            if _value(item, _SERIES_UID) in series
            and not _value(item, _SOP_CLASS_UID).startswith(_NO_IMAGES)
        }
        return tuple(sorted(refs, key=lambda ref: (ref.series_uid, ref.sop_uid)))

    def stored(self, study_uid: str, series_uid: str) -> frozenset[str]:
        """The instance UIDs that the archive holds of a series; none where it knows no such one."""
        items = self._pages(
            f"The query of series {short_hash(series_uid)}",
            self._search_instances(study_uid, series_uid),
        )
        return frozenset(_value(item, _SOP_INSTANCE_UID) for item in items)

    def retrieve(self, ref: InstanceRef) -> pydicom.Dataset:
        """An instance as it was stored, in its own transfer syntax."""
        what = f"The retrieval of instance {short_hash(ref.sop_uid)}"

        def get() -> pydicom.Dataset:
            try:
                return self.client.retrieve_instance(ref.study_uid, ref.series_uid, ref.sop_uid)
            except (pydicom.errors.InvalidDicomError, EOFError, IndexError, KeyError):
                raise ValueError(what) from None

        instance = self.retry.call(what, get)
        if str(instance.get("SOPInstanceUID", "")) != ref.sop_uid:
            raise PacsError(f"{what} failed: the archive sent another instance.")
        return instance

    def store(self, instance: pydicom.Dataset) -> None:
        """Send an instance; returns when the archive says that it holds it."""
        uid = str(instance.SOPInstanceUID)
        what = f"The upload of instance {short_hash(uid)}"
        answer = self.retry.call(what, lambda: self.client.store_instances([instance]))
        if any(_is_of(item, uid) for item in answer.get("FailedSOPSequence") or ()):
            raise PacsError(f"{what} failed: the archive refused to store it.")
        if any(_is_of(item, uid) for item in answer.get("ReferencedSOPSequence") or ()):
            return
        if uid not in self.stored(str(instance.StudyInstanceUID), str(instance.SeriesInstanceUID)):
            raise PacsError(f"{what} failed: the archive did not keep it.")

    def _search_studies(self, **paging: Any) -> list[Any]:
        return list(self.client.search_for_studies(fields=[_STUDY_INSTANCES], **paging))

    def _search_all_series(self, **paging: Any) -> list[Any]:
        return list(self.client.search_for_series(fields=[_STUDY_UID], **paging))

    def _search_series(self, study_uid: str) -> Callable[..., list[Any]]:
        return lambda **paging: list(self.client.search_for_series(study_uid, **paging))

    def _search_instances(
        self, study_uid: str, series_uid: str | None = None
    ) -> Callable[..., list[Any]]:
        fields = [_SOP_CLASS_UID, _SERIES_UID]
        return lambda **paging: list(
            self.client.search_for_instances(study_uid, series_uid, fields=fields, **paging)
        )

    def _pages(
        self, what: str, search: Callable[..., list[Any]], filters: Mapping[str, str] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """All results; an archive that knows no offset sends its first page again and ends it.

        Without filters the search is inside of a study, which the archive may not hold.
        """
        seen: set[str] = set()
        while True:
            page = self.retry.call(
                what, partial(_searched, search, filters=filters, offset=len(seen))
            )
            fresh = {key: item for item in page if (key := _key(item)) not in seen}
            yield from fresh.values()
            seen.update(fresh)
            if not fresh:
                return


def _searched(
    search: Callable[..., list[Any]], *, filters: Mapping[str, str] | None, offset: int
) -> list[Any]:
    try:
        items = search(search_filters=dict(filters or {}), limit=_PAGE, offset=offset)
    except requests.HTTPError as error:
        # Some archives answer so for a study they do not hold; all of them have a list of studies.
        if status_of(error) == 404 and filters is None:
            return []
        raise
    if not all(isinstance(item, dict) for item in items):
        raise ValueError("no DICOM JSON")
    return items


def _study_filters(query: PacsQuery) -> Iterator[dict[str, str]]:
    """One set of matching keys per question (PS3.18 8.3.4): the conditions hold together."""
    shared = {
        "PatientID": query.patient,
        "StudyDate": query.date,
        "Modality" if query.series else "ModalitiesInStudy": query.modality,
    }
    for study in query.studies or ("",):
        for series in query.series or ("",):
            filters = shared | {"StudyInstanceUID": study, "SeriesInstanceUID": series}
            yield {key: value for key, value in filters.items() if value}


def _is_wanted(uid: str, wanted: tuple[str, ...]) -> bool:
    return not wanted or uid in wanted


def _key(item: Mapping[str, Any]) -> str:
    return "\n".join(_value(item, tag) for tag in (_STUDY_UID, _SERIES_UID, _SOP_INSTANCE_UID))


def _value(item: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute in the DICOM JSON model (PS3.18 F.2), "" where none."""
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _is_of(item: pydicom.Dataset, uid: str) -> bool:
    return str(item.get("ReferencedSOPInstanceUID", "")) == uid
