"""The DICOM attributes that reading needs, and how their bytes become values.

Both header readers (`fast_header`, and pydicom inside the worker) hand raw bytes to `interpret`,
so that they cannot disagree on what a value means.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PER_FRAME_TAGS", "PIXEL_DATA", "TAGS", "Values", "interpret"]

Values = dict[str, Any]
"""Keyword to value: str, float, int, tuple of them, True; `bad` lists unreadable keywords."""

PIXEL_DATA = 0x7FE00010
_IDENTITY = (0x00100010, 0x00100020, 0x00100030)

TAGS: Mapping[int, tuple[str, str]] = {
    0x00020002: ("MediaStorageSOPClassUID", "ui"),
    0x00020003: ("MediaStorageSOPInstanceUID", "ui"),
    0x00020010: ("TransferSyntaxUID", "ui"),
    0x00080008: ("ImageType", "cs+"),
    0x00080016: ("SOPClassUID", "ui"),
    0x00080018: ("SOPInstanceUID", "ui"),
    0x0008002A: ("AcquisitionDateTime", "dt"),
    0x00080032: ("AcquisitionTime", "dt"),
    0x00080060: ("Modality", "cs"),
    0x00080064: ("ConversionType", "cs"),
    0x00080070: ("Manufacturer", "cs"),
    0x0008103E: ("SeriesDescription", "cs"),
    0x00100010: ("PatientName", "id"),
    0x00100020: ("PatientID", "id"),
    0x00100030: ("PatientBirthDate", "id"),
    0x00100040: ("PatientSex", "cs"),
    0x00101010: ("PatientAge", "cs"),
    0x00101020: ("PatientSize", "ds"),
    0x00101030: ("PatientWeight", "ds"),
    0x00180010: ("ContrastBolusAgent", "flag"),
    0x00180015: ("BodyPartExamined", "cs"),
    0x00180050: ("SliceThickness", "ds"),
    0x00180060: ("KVP", "ds"),
    0x00180080: ("RepetitionTime", "ds"),
    0x00180081: ("EchoTime", "ds"),
    0x00180082: ("InversionTime", "ds"),
    0x00180086: ("EchoNumbers", "is"),
    0x00180087: ("MagneticFieldStrength", "ds"),
    0x00181030: ("ProtocolName", "cs"),
    0x00181060: ("TriggerTime", "ds"),
    0x00181090: ("CardiacNumberOfImages", "is"),
    0x00181100: ("ReconstructionDiameter", "ds"),
    0x00181120: ("GantryDetectorTilt", "ds"),
    0x00181210: ("ConvolutionKernel", "cs"),
    0x00189087: ("DiffusionBValue", "fd"),
    0x00189089: ("DiffusionGradientOrientation", "fd+"),
    0x0019100C: ("SiemensBValue", "cs"),
    0x0020000D: ("StudyInstanceUID", "ui"),
    0x0020000E: ("SeriesInstanceUID", "ui"),
    0x00200011: ("SeriesNumber", "is"),
    0x00200012: ("AcquisitionNumber", "is"),
    0x00200013: ("InstanceNumber", "is"),
    0x00200032: ("ImagePositionPatient", "ds+"),
    0x00200037: ("ImageOrientationPatient", "ds+"),
    0x00200052: ("FrameOfReferenceUID", "ui"),
    0x00200100: ("TemporalPositionIdentifier", "is"),
    0x00280002: ("SamplesPerPixel", "us"),
    0x00280004: ("PhotometricInterpretation", "cs"),
    0x00280008: ("NumberOfFrames", "is"),
    0x00280010: ("Rows", "us"),
    0x00280011: ("Columns", "us"),
    0x00280030: ("PixelSpacing", "ds+"),
    0x00280100: ("BitsAllocated", "us"),
    0x00280101: ("BitsStored", "us"),
    0x00280102: ("HighBit", "us"),
    0x00280103: ("PixelRepresentation", "us"),
    0x00280120: ("PixelPaddingValue", "flag"),
    0x00281052: ("RescaleIntercept", "ds"),
    0x00281053: ("RescaleSlope", "ds"),
    0x00281054: ("RescaleType", "cs"),
    0x00282110: ("LossyImageCompression", "cs"),
    0x00280301: ("BurnedInAnnotation", "cs"),
    0x00280302: ("RecognizableVisualFeatures", "cs"),
    0x00283000: ("ModalityLUTSequence", "flag"),
    0x00431039: ("GEBValue", "cs"),
    0x00541001: ("Units", "cs"),
    0x2005100E: ("PhilipsScaleSlope", "flag"),
    0x52009229: ("SharedFunctionalGroupsSequence", "flag"),
    0x52009230: ("PerFrameFunctionalGroupsSequence", "flag"),
    0x7FE00008: ("FloatPixelData", "flag"),
    0x7FE00009: ("DoubleFloatPixelData", "flag"),
}
"""Tag to keyword and kind of value."""

PER_FRAME_TAGS: Mapping[int, tuple[str, str]] = {
    0x00080008: ("ImageType", "cs+"),
    0x00089007: ("ImageType", "cs+"),  # FrameType
    0x00089208: ("ComplexImageComponent", "cs"),
    0x00180050: ("SliceThickness", "ds"),
    0x00189073: ("AcquisitionDuration", "fd"),
    0x00189082: ("EchoTime", "fd"),  # EffectiveEchoTime
    0x00189080: ("MetaboliteMapDescription", "cs"),
    0x00189087: ("DiffusionBValue", "fd"),
    0x00189089: ("DiffusionGradientOrientation", "fd+"),
    0x00200032: ("ImagePositionPatient", "ds+"),
    0x00200037: ("ImageOrientationPatient", "ds+"),
    0x00189074: ("AcquisitionTime", "dt"),  # FrameAcquisitionDateTime
    0x00209056: ("StackID", "cs"),
    0x00209057: ("InStackPositionNumber", "ul"),
    0x00209128: ("TemporalPositionIdentifier", "ul"),  # TemporalPositionIndex
    0x00209153: ("TriggerTime", "fd"),  # NominalCardiacTriggerDelayTime
    0x00209156: ("AcquisitionNumber", "us"),  # FrameAcquisitionNumber
    0x00280030: ("PixelSpacing", "ds+"),
    0x00281052: ("RescaleIntercept", "ds"),
    0x00281053: ("RescaleSlope", "ds"),
    0x00281054: ("RescaleType", "cs"),
    0x00283000: ("ModalityLUTSequence", "flag"),
    0x00289145: ("PixelValueTransformationSequence", "flag"),
}
"""Attributes inside functional groups (PS3.3 C.7.6.16), under the names of their classic twins."""

_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")
_UID = re.compile(r"[0-9.]*\Z")
_PADDING = b" \x00"
_SHORT_INTEGERS = {"us": "H", "ul": "I"}
_BINARY = frozenset({"us", "ul", "fd", "fd+"})


def _number(raw: bytes) -> float:
    text = raw.strip(_PADDING)
    if not _NUMBER.match(text):  # float() alone would take "1_000", "nan" and "infinity"
        raise ValueError
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _integer(raw: bytes) -> int:
    value = _number(raw)
    if value != int(value):
        raise ValueError
    return int(value)


def _text(raw: bytes) -> str:
    return raw.strip(_PADDING).decode("ascii", "replace")


def _uid(raw: bytes) -> str:
    text = _text(raw)
    if not _UID.match(text) or len(text) > 64:
        raise ValueError
    return text


def _binary(raw: bytes, letter: str, *, big_endian: bool) -> tuple[Any, ...]:
    size = struct.calcsize(letter)
    if not raw or len(raw) % size:
        raise ValueError
    order = ">" if big_endian else "<"
    values = struct.unpack(f"{order}{len(raw) // size}{letter}", raw)
    if letter == "d" and not all(map(math.isfinite, values)):
        raise ValueError
    return values


def _seconds(raw: bytes) -> float:
    """Seconds of a DICOM time or date time; days count from the first of January, year 1."""
    match = re.match(r"(\d{8})?(\d{2})(\d{2})?(\d{2}(?:\.\d*)?)?([+-]\d{4})?\Z", _text(raw))
    if not match:
        raise ValueError
    day = int(match[1] or 0)
    return day * 86400 + int(match[2]) * 3600 + int(match[3] or 0) * 60 + float(match[4] or 0)


@lru_cache(maxsize=16384)
def _value(kind: str, raw: bytes, *, big_endian: bool) -> Any:
    if kind == "ds":
        return _number(raw)
    if kind == "ds+":
        return tuple(map(_number, raw.split(b"\\")))
    if kind in _SHORT_INTEGERS:
        return _binary(raw, _SHORT_INTEGERS[kind], big_endian=big_endian)[0]
    if kind == "ui":
        return _uid(raw)
    if kind == "cs":
        return _text(raw)
    if kind == "cs+":
        return tuple(part.strip() for part in _text(raw).split("\\"))
    if kind == "is":
        return _integer(raw)
    if kind == "dt":
        return _seconds(raw)
    if kind == "fd":
        return _binary(raw, "d", big_endian=big_endian)[0]
    return _binary(raw, "d", big_endian=big_endian)


@lru_cache(maxsize=1024)
def _patient_key(name: bytes, patient: bytes, birth: bytes) -> str:
    """A hash that tells patients apart; the identity itself goes no further than this.

    The alphabetic part of a name counts only where it is ASCII: other alphabets are encoded
    differently from file to file by some archives (PS3.5 6.1).
    """
    alphabetic = name.split(b"=")[0]
    if not alphabetic.isascii() or b"\x1b" in alphabetic:
        alphabetic = b""
    parts = (part.strip(b" \x00^=") for part in (alphabetic, patient, birth))
    return hashlib.sha256(b"\x00".join(parts)).hexdigest()[:16]


def interpret(
    raw: Mapping[int, bytes],
    *,
    big_endian: bool = False,
    tags: Mapping[int, tuple[str, str]] = TAGS,
) -> Values:
    """Turn the raw bytes of wanted attributes into values.

    Args:
        raw: Tag to value bytes.
        big_endian: Byte order of binary values.
        tags: Table of wanted tags.

    Returns:
        Values by keyword; empty attributes are absent, unreadable ones are listed under "bad".
    """
    values: Values = {}
    bad: list[str] = []
    for tag, content in raw.items():
        keyword, kind = tags[tag]
        if kind == "flag":
            values[keyword] = True
        elif kind != "id" and (content if kind in _BINARY else content.strip(_PADDING)):
            try:
                values[keyword] = _value(kind, content, big_endian=big_endian)
            except ValueError:
                bad.append(keyword)
    if bad:
        values["bad"] = tuple(sorted(bad))
    if tags is TAGS:
        values["patient_key"] = _patient_key(*(raw.get(tag, b"") for tag in _IDENTITY))
    return values
