"""`dicomweb+https://HOST/PATH?study=UID`: a DICOMweb server, and which studies of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from medmtl.core.errors import ConfigError

__all__ = ["PacsAddress", "PacsQuery", "is_pacs_address", "parse_address"]

_PREFIX = "dicomweb+"
_ONE_VALUE = ("patient", "date", "modality")
_KEYS = ("study", "series", *_ONE_VALUE)
_UID = re.compile(r"[0-9.]{1,64}")  # PS3.5 9.1
_DATE = re.compile(r"\d{8}|\d{8}-(\d{8})?|-\d{8}")  # PS3.4 C.2.2.2.5
_MODALITY = re.compile(r"[A-Z0-9_]{1,16}")


@dataclass(frozen=True)
class PacsQuery:
    """Which studies; what is empty does not restrict.

    Attributes:
        studies: Study Instance UIDs, any of them.
        series: Series Instance UIDs, any of them; only these series are retrieved.
        patient: Patient ID. Identifies a person: it is in no repr, log or error.
        date: Study date, YYYYMMDD or a range YYYYMMDD-YYYYMMDD with one end open or none.
        modality: Of a series; only such series are retrieved.
    """

    studies: tuple[str, ...] = field(default=(), repr=False)
    series: tuple[str, ...] = field(default=(), repr=False)
    patient: str = field(default="", repr=False)
    date: str = ""
    modality: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it asks for every study of the archive."""
        return not any((self.studies, self.series, self.patient, self.date, self.modality))


@dataclass(frozen=True)
class PacsAddress:
    """A DICOMweb service (its root, without a slash at the end) and a query."""

    url: str
    query: PacsQuery = PacsQuery()


def is_pacs_address(text: str) -> bool:
    """Whether this names a server, not a file or folder."""
    return text.removeprefix(_PREFIX).lower().startswith(("http://", "https://"))


def parse_address(text: str) -> PacsAddress:
    """Read `[dicomweb+]http[s]://HOST[:PORT]/PATH[?study=UID&series=UID&patient=ID&date=RANGE]`.

    Raises:
        ConfigError: If it is malformed, or holds a password. The text is never quoted.
    """
    parts = urlsplit(text.removeprefix(_PREFIX))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise ConfigError(
            "the archive's address: expected http://HOST[:PORT]/PATH or https://..., with or "
            "without dicomweb+ before it."
        )
    if "@" in parts.netloc:
        raise ConfigError(
            "the archive's address: it holds a user name or password, which would be seen in the "
            "process list. Give them in a file with --credentials, or in the environment."
        )
    url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return PacsAddress(url, _query(parse_qsl(parts.query, keep_blank_values=True)))


def _query(pairs: list[tuple[str, str]]) -> PacsQuery:
    given: dict[str, list[str]] = {}
    for key, value in pairs:
        if key not in _KEYS:
            raise ConfigError(
                f"the archive's address: found {key[:20]!r} in the query, expected one of "
                f"{', '.join(_KEYS)}."
            )
        given.setdefault(key, []).append(value)
    for key in _ONE_VALUE:
        if len(given.get(key, ())) > 1:
            raise ConfigError(f"the archive's address: {key} is given twice, expected once.")
    for key, pattern, shape in (
        ("study", _UID, "a UID (digits and dots, at most 64)"),
        ("series", _UID, "a UID (digits and dots, at most 64)"),
        ("date", _DATE, "YYYYMMDD or YYYYMMDD-YYYYMMDD"),
        ("modality", _MODALITY, "a DICOM modality such as CT"),
    ):
        if any(pattern.fullmatch(value) is None for value in given.get(key, ())):
            raise ConfigError(f"the archive's address: {key} is malformed, expected {shape}.")
    patient = given.get("patient", [""])[0]
    if "patient" in given and not patient.strip(" *?"):  # wild cards of PS3.4 C.2.2.2.4
        raise ConfigError("the archive's address: patient is empty, expected a Patient ID.")
    return PacsQuery(
        studies=tuple(given.get("study", ())),
        series=tuple(given.get("series", ())),
        patient=patient,
        date=given.get("date", [""])[0],
        modality=given.get("modality", [""])[0],
    )
