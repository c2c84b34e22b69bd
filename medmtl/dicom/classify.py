"""Which DICOM objects are image volumes, and what the others are (PS3.4 B.5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.study import Skipped

if TYPE_CHECKING:
    from medmtl.dicom.frames import Instance

__all__ = ["IMAGE_CLASSES", "classify", "is_enhanced"]

_STORAGE = "1.2.840.10008.5.1.4.1.1"
IMAGE_CLASSES = frozenset(
    f"{_STORAGE}.{suffix}"
    for suffix in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
"""CT, MR and PET; classic, enhanced and legacy converted enhanced."""

_UID = re.compile(r"[0-9.]{0,64}")
"""PS3.5 9.1; empty where the header says none."""

_ENHANCED = frozenset(
    f"{_STORAGE}.{suffix}" for suffix in ("2.1", "2.2", "4.1", "4.4", "128.1", "130")
)
_MODALITIES = frozenset({"CT", "MR", "PT"})
_OTHERS = (
    ("1.2.840.10008.1.3.10", "dicomdir", "media directory"),
    (f"{_STORAGE}.88.", "report", "structured report"),
    (f"{_STORAGE}.104.", "document", "encapsulated document"),
    (f"{_STORAGE}.7", "secondary-capture", "secondary capture"),
    (f"{_STORAGE}.66.4", "segmentation", "segmentation"),
    (f"{_STORAGE}.66.7", "segmentation", "segmentation"),
    (f"{_STORAGE}.66", "spatial-object", "registration, fiducials or raw data"),
    (f"{_STORAGE}.30", "parametric-map", "parametric map"),
    (f"{_STORAGE}.11.", "presentation-state", "presentation state"),
    (f"{_STORAGE}.481.", "radiotherapy", "radiotherapy object"),
    (f"{_STORAGE}.4.3", "colour-image", "colour image"),
    (f"{_STORAGE}.4.2", "spectroscopy", "MR spectroscopy"),
    (f"{_STORAGE}.6.1", "no-volume", "ultrasound image"),
    (f"{_STORAGE}.3.1", "no-volume", "ultrasound multi-frame image"),
)


def is_enhanced(instance: Instance) -> bool:
    """Whether the geometry of an instance lies in functional groups."""
    return instance.text("SOPClassUID") in _ENHANCED or "frames" in instance.values


def _skip(instance: Instance, code: str, reason: str) -> Skipped:
    return Skipped(instance.file.name, code, reason)


def _refuse(instance: Instance, code: str, found: str, expected: str) -> InputRefusedError:
    return InputRefusedError(
        instance.file.name,
        stage="scan",
        code=code,
        found=found,
        expected=expected,
        advice="Export the series again from its source.",
    )


def _sop_class(instance: Instance) -> str:
    uid: str = instance.text("SOPClassUID") or instance.text("MediaStorageSOPClassUID")
    return uid


def _other_object(instance: Instance) -> Skipped | None:
    sop_class = _sop_class(instance)
    if sop_class in IMAGE_CLASSES:
        return None
    if not sop_class and instance.text("Modality") in _MODALITIES:
        return None
    for prefix, code, reason in _OTHERS:
        if sop_class.startswith(prefix):
            return _skip(instance, code, reason)
    return _skip(instance, "no-volume", "object that is no CT, MR or PET image")


def _image_kind(instance: Instance) -> Skipped | None:
    values = instance.values
    if "LOCALIZER" in values.get("ImageType", ()) or "SCOUT" in values.get("ImageType", ()):
        return _skip(instance, "localizer", "localizer or scout image")
    photometric = instance.text("PhotometricInterpretation")
    if values.get("SamplesPerPixel", 1) != 1 or (
        photometric and not photometric.startswith("MONOCHROME")
    ):
        return _skip(instance, "colour-image", "colour or palette image")
    return None


def _image_problem(instance: Instance) -> InputRefusedError | None:
    values = instance.values
    unreadable = set(values.get("bad", ())) & _CRITICAL
    if unreadable:
        found = f"an unreadable value of {', '.join(sorted(unreadable))}"
        return _refuse(instance, "unreadable-value", found, "a value by the standard")
    if not values.get("Rows") or not values.get("Columns"):
        return _refuse(instance, "missing-matrix", "no Rows or Columns", "both")
    allocated = int(values.get("BitsAllocated", 32))
    stored = int(values.get("BitsStored", allocated))
    if not 1 <= stored <= allocated <= 32:
        found = f"{stored} bits stored in {allocated}"
        return _refuse(instance, "bits-stored", found, "at most as many as allocated, up to 32")
    if "FloatPixelData" in values or "DoubleFloatPixelData" in values:
        return _refuse(instance, "float-pixels", "floating point pixel data", "integers")
    if "MOSAIC" in values.get("ImageType", ()):
        return _refuse(instance, "mosaic", "slices tiled into one image", "one slice per image")
    if values.get("NumberOfFrames", 1) != len(values.get("frames", (0,))):
        found = (
            f"{values.get('NumberOfFrames', 1)} frames, {len(values.get('frames', (0,)))} described"
        )
        return _refuse(instance, "frame-count", found, "a description of each frame")
    return None


_CRITICAL = frozenset(
    {
        "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID",
        "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "RescaleSlope",
        "RescaleIntercept",
    }
)  # fmt: skip


def classify(instance: Instance) -> Skipped | InputRefusedError | None:
    """What keeps an instance from being part of a volume; None for a usable image."""
    return (
        _damaged_class(instance)
        or _other_object(instance)
        or _image_kind(instance)
        or _image_problem(instance)
    )


def _damaged_class(instance: Instance) -> InputRefusedError | None:
    if _UID.fullmatch(_sop_class(instance)):
        return None
    return _refuse(instance, "damaged-header", "a SOP class that is no UID", "an intact header")
