"""Identities in every field that can hold one, and a search for them in everything written."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medmtl.dicom.tags import PER_FRAME_TAGS, TAGS

__all__ = ["BIRTH", "STUDY_DATE", "WORD", "Find", "plant", "search", "uids_of"]

WORD = "Zyxwab"
"""Begins every planted text; nothing that medmtl writes holds it."""
BIRTH, STUDY_DATE = "19010203", "20190817"
_UID_ROOT = "9.9.99"
_TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT")
_OTHER = {"CS": WORD.upper(), "UR": f"http://{WORD}.example/", "AS": "117Y", "DA": BIRTH,
          "DT": f"{BIRTH}101112", "UN": WORD.encode(), "OB": f"{WORD} ".encode()}  # fmt: skip
_GROUPS = range(0x0008, 0x5000)
_READ = {*TAGS, *PER_FRAME_TAGS, 0x00080005}  # the last one is how all texts are encoded
"""What reading depends on is set by the series itself."""


def plant(instance: Dataset) -> None:
    """Set every text attribute of the standard that reading does not need, and what lies hidden.

    Hidden: inside nested sequences, in private blocks, in bytes, as a UID.
    """
    instance.SpecificCharacterSet = "ISO_IR 192"
    for tag, value in _every_attribute():
        instance.add_new(tag, dictionary_VR(tag), value)
    instance.PatientName = f"{WORD}Näme^{WORD}Gïven"
    instance.PatientID, instance.PatientBirthDate = f"{WORD}-ID", BIRTH
    instance.StudyDate, instance.StudyTime = STUDY_DATE, "101112"
    instance.Manufacturer = f"{WORD} makers"
    instance.BodyPartExamined = WORD.upper()
    deepest, middle, outer = Dataset(), Dataset(), Dataset()
    deepest.TextValue, deepest.PersonName = f"{WORD} deepest", f"{WORD}^Deepest"
    _hide(deepest)
    middle.ContentSequence, middle.PatientComments = Sequence([deepest]), f"{WORD} middle"
    outer.ReferencedRequestSequence = Sequence([middle])
    instance.RequestAttributesSequence = Sequence([outer])
    instance.OtherPatientIDsSequence = Sequence([deepest])
    _hide(instance)


def _hide(dataset: Dataset) -> None:
    block = dataset.private_block(0x0011, f"{WORD} CREATOR", create=True)
    block.add_new(1, "LO", f"{WORD} private")
    block.add_new(2, "UN", f"{WORD} unknown ".encode())
    block.add_new(3, "OB", f"{WORD} bytes ".encode("utf-16-le"))


def _every_attribute() -> Iterator[tuple[int, object]]:
    from pydicom._dicom_dict import DicomDictionary

    for number, (tag, (vr, *_)) in enumerate(sorted(DicomDictionary.items())):
        if Tag(tag).group not in _GROUPS or tag in _READ or Tag(tag).group % 2:
            continue
        if vr in _TEXT:
            yield tag, f"{WORD}{number}"
        elif vr == "UI" and keyword_for_tag(tag) != "SOPClassUID":
            yield tag, f"{_UID_ROOT}.{number}"
        elif vr in _OTHER:
            yield tag, _OTHER[vr]


def uids_of(folder: Path) -> set[str]:
    """Study, series, instance and frame of reference UIDs of every file."""
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    headers = [
        pydicom.dcmread(path, specific_tags=list(keywords), stop_before_pixels=True)
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return {str(header[keyword].value) for header in headers for keyword in keywords}


@dataclass(frozen=True)
class Find:
    """A word, where it stands, and how it is written there."""

    word: str
    place: str
    written: str


def search(folder: Path, words: Iterable[str]) -> list[Find]:
    """Look for words in names and contents, also packed ones, in UTF-8 and UTF-16, in any case."""
    wanted = [
        (word, coding, word.lower().encode(coding))
        for word in (*words, _UID_ROOT)
        for coding in ("utf-8", "utf-16-le", "utf-16-be")
    ]
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        contents = [("name", name.encode()), *(_contents(path) if path.is_file() else ())]
        for place, content in contents:
            lower = content.lower()
            found += [
                Find(word, f"{name} ({place})", how) for word, how, code in wanted if code in lower
            ]
    return found


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """The bytes as they are, and what is packed in them."""
    content = path.read_bytes()
    yield "bytes", content
    if content[:2] == b"\x1f\x8b":
        yield "gzip", gzip.decompress(content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield f"zip {member}", member.encode() + archive.read(member)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        yield from _png_texts(content)


def _png_texts(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Compressed text chunks (PNG 11.3.3); plain ones are found in the bytes."""
    place = 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        if kind in {b"zTXt", b"iTXt"}:
            body = content[place + 8 : place + 8 + size]
            yield kind.decode(), zlib.decompress(body.split(b"\0", 1)[1][1:])
        place += size + 12
