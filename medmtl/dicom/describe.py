"""What an accepted stack is: flags, metadata without identity, covariates, names."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from medmtl.core.flags import Flag
from medmtl.core.prediction import Covariates

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from medmtl.dicom.frames import Frame, Instance

__all__ = [
    "PLAUSIBLE_CM",
    "PLAUSIBLE_KG",
    "PLAUSIBLE_YEARS",
    "case_id",
    "covariates",
    "described",
    "metadata",
    "stack_flags",
    "within",
]

_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 81, 91, 203))
_AGE = re.compile(r"(?!000Y)(\d{1,3})([DWMY])\Z")
"""Not what anonymisers write for unknown."""
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
PLAUSIBLE_YEARS = (0.0, 120.0)
PLAUSIBLE_CM = (20.0, 260.0)
PLAUSIBLE_KG = (0.5, 400.0)
_NUMBERS = {
    "SliceThickness": "slice_thickness_mm",
    "KVP": "kvp",
    "EchoTime": "echo_time_ms",
    "RepetitionTime": "repetition_time_ms",
    "InversionTime": "inversion_time_ms",
    "MagneticFieldStrength": "field_strength_t",
    "DiffusionBValue": "b_value",
}
_BODY_PARTS = frozenset(
    {
        "ABDOMEN", "ABDOMENPELVIS", "BRAIN", "CARDIAC", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS",
        "HEAD", "HEADNECK", "HEART", "KIDNEY", "LIVER", "LUNG", "NECK", "PANCREAS", "PELVIS",
        "PROSTATE", "SPINE", "SPLEEN", "THORAX", "TORSO", "WHOLEBODY",
    }
)  # fmt: skip
"""PS3.16 Annex L; anything else in the field may have been typed about a person."""
_VENDOR = re.compile(r"siemens|ge medical|philips|canon|toshiba|hitachi|fujifilm|uih")
_UNSAFE = re.compile(r"[^A-Z0-9_/]")


def case_id(patient_key: str, study_uid: str) -> str:
    """Folder name of a study: 12 hex characters; two patients never share one."""
    return hashlib.sha256(f"{study_uid}\n{patient_key}".encode()).hexdigest()[:12]


def metadata(frame: Frame) -> dict[str, Any]:
    """Facts of the acquisition; nothing that was typed about a person."""
    values = frame.values
    facts: dict[str, Any] = {}
    body_part = str(values.get("BodyPartExamined", "")).upper()
    if body_part in _BODY_PARTS:
        facts["body_part"] = body_part
    if vendor := _VENDOR.match(str(values.get("Manufacturer", "")).lower()):
        facts["manufacturer"] = vendor[0]
    facts |= {name: float(values[key]) for key, name in _NUMBERS.items() if key in values}
    facts["contrast"] = "yes" if values.get("ContrastBolusAgent") else "no"
    facts["image_type"] = _UNSAFE.sub("", "/".join(values.get("ImageType", ())[:3]))[:64]
    return facts


def described(frame: Frame) -> tuple[str, ...]:
    """What the series is called; it may name a person, so it is compared and goes nowhere."""
    texts = (str(frame.values.get(key, "")) for key in ("SeriesDescription", "ProtocolName"))
    return tuple(text for text in texts if text)


def _any(frames: Sequence[Frame], keyword: str) -> bool:
    return any(keyword in frame.values for frame in frames)


def _rescale_flags(frames: Sequence[Frame]) -> list[Flag]:
    flags = []
    modality = str(frames[0].values.get("Modality", ""))
    has_rescale = _any(frames, "RescaleSlope") or _any(frames, "ModalityLUTSequence")
    if modality in {"CT", "PT"} and not has_rescale:
        message = "No rescale slope and intercept: values are stored values, not calibrated units."
        flags.append(Flag("rescale-missing", "error", message))
    kind = str(frames[0].values.get("RescaleType", ""))
    if modality == "CT" and kind not in {"", "HU"}:
        flags.append(Flag("not-hounsfield", "warning", "The rescale type is not HU."))
    pairs = {
        (frame.values.get("RescaleSlope"), frame.values.get("RescaleIntercept")) for frame in frames
    }
    if len(pairs) > 1 and modality != "PT":
        message = (
            f"{len(pairs)} different rescale slopes or intercepts, each applied to its slices."
        )
        flags.append(Flag("rescale-differs-per-slice", "info", message))
    return flags


def _unit_flags(frames: Sequence[Frame]) -> list[Flag]:
    """Anything but grams per millilitre is no standardised uptake value (PS3.3 C.8.9.1.1.3)."""
    if frames[0].values.get("Modality") != "PT":
        return []
    units = {_UNSAFE.sub("", str(frame.values.get("Units", ""))) for frame in frames}
    if units == {"GML"}:
        return []
    message = f"PET in {' and '.join(sorted(unit or 'no stated unit' for unit in units))[:64]}, "
    is_unknown = not units.isdisjoint({"", "CNTS"})
    return [
        Flag(
            "pet-not-suv",
            "error" if is_unknown else "warning",
            f"{message}not in GML: the values are no standardised uptake values.",
        )
    ]


def _negative_slope(frames: Sequence[Frame]) -> bool:
    return any(float(frame.values.get("RescaleSlope", 1)) < 0 for frame in frames)


def _kernel_flag(frames: Sequence[Frame]) -> list[Flag]:
    """Settings that normally hold for a whole volume but differ here."""
    flags = []
    for keyword in ("EchoTime", "KVP", "ConvolutionKernel", "DiffusionBValue"):
        values = [frame.values.get(keyword) for frame in frames]
        numbers = [value for value in values if isinstance(value, float)]
        small = (
            numbers
            and len(numbers) == len(values)
            and (max(numbers) - min(numbers) <= 0.02 * max(abs(max(numbers)), 1e-6))
        )
        if len(set(values)) > 1 and not small:
            message = f"{keyword} differs between the slices of this volume."
            flags.append(Flag("settings-differ", "warning", message))
    return flags


def stack_flags(frames: Sequence[Frame]) -> tuple[Flag, ...]:
    """Flags that the headers of a stack raise."""
    flags = _rescale_flags(frames) + _unit_flags(frames) + _kernel_flag(frames)
    first = frames[0].values
    if _any(frames, "PhilipsScaleSlope"):
        message = "Private Philips scaling is present and not applied; values are rescaled ones."
        flags.append(Flag("philips-private-scaling", "warning", message))
    if str(first.get("PhotometricInterpretation")) == "MONOCHROME1":
        message = "MONOCHROME1: values are kept as stored, only the display is inverted."
        flags.append(Flag("monochrome1", "info", message))
    if _any(frames, "PixelPaddingValue"):
        message = "Pixel padding is present; padded voxels keep their rescaled padding value."
        flags.append(Flag("pixel-padding", "info", message))
    syntaxes = {frame.values.get("TransferSyntaxUID") for frame in frames}
    if syntaxes & _LOSSY or any(f.values.get("LossyImageCompression") == "01" for f in frames):
        flags.append(Flag("lossy-compression", "warning", "Lossy compression was used."))
    if not first.get("FrameOfReferenceUID"):
        message = "No frame of reference; the volume cannot be related to others."
        flags.append(Flag("frame-of-reference-missing", "info", message))
    for keyword, word in (("StudyInstanceUID", "study"), ("SeriesInstanceUID", "series")):
        if not first.get(keyword):
            message = f"No {word} UID; images without one were taken as one {word}."
            flags.append(Flag(f"{word}-uid-missing", "warning", message))
    flags += _annotation_flags(frames)
    if _negative_slope(frames):
        flags.append(Flag("negative-slope", "warning", "A rescale slope is negative."))
    return tuple(flags + _field_of_view_flag(frames) + _few_slices(frames))


def _annotation_flags(frames: Sequence[Frame]) -> list[Flag]:
    """What the headers say of names and faces in the pixels (PS3.3 C.7.6.1.1.5, C.7.6.1.1.7)."""
    flags = []
    said = {str(frame.values.get("BurnedInAnnotation", "")).upper() for frame in frames}
    if "YES" in said:
        message = "The header says that text which may name the patient is part of the image."
        flags.append(Flag("burned-in-annotation", "warning", message))
    elif said != {"NO"} and any(_is_captured(frame) for frame in frames):
        message = "Captured or secondary images: text that names the patient may be part of them."
        flags.append(Flag("burned-in-annotation-possible", "warning", message))
    if any(frame.values.get("RecognizableVisualFeatures") == "YES" for frame in frames):
        message = "The header says that the patient can be recognised in the image."
        flags.append(Flag("recognizable-features", "warning", message))
    return flags


def _is_captured(frame: Frame) -> bool:
    """Digitised film and screen captures carry text (PS3.3 C.8.6.1); so do secondary images."""
    kind = frame.values.get("ImageType", ())
    return "ConversionType" in frame.values or "SECONDARY" in kind[1:2]


def _few_slices(frames: Sequence[Frame]) -> list[Flag]:
    if len(frames) > 2:
        return []
    message = "Two slices only: their distance cannot be checked against others."
    return [Flag("few-slices", "warning", message)]


def _field_of_view_flag(frames: Sequence[Frame]) -> list[Flag]:
    """Pixel spacing against the reconstruction diameter, a second source of the same fact."""
    first = frames[0]
    diameter = first.values.get("ReconstructionDiameter")
    if first.values.get("Modality") != "CT" or not diameter:
        return []
    widths = (first.spacing[0] * first.shape[0], first.spacing[1] * first.shape[1])
    if any(abs(width - float(diameter)) <= 0.02 * float(diameter) for width in widths):
        return []
    message = (
        f"Pixel spacing gives {widths[1]:.1f} x {widths[0]:.1f} mm, "
        f"but the reconstruction diameter is {float(diameter):.1f} mm."
    )
    return [Flag("field-of-view-differs", "warning", message)]


def within(value: float | None, limits: tuple[float, float]) -> float | None:
    """The value, None where it is outside."""
    return value if value is not None and limits[0] <= value <= limits[1] else None


def _age_years(text: str) -> float | None:
    match = _AGE.match(text)
    return within(int(match[1]) * _YEARS[match[2]], PLAUSIBLE_YEARS) if match else None


def _agreed(values: Iterable[Any]) -> Any:
    """The one value that all who say something agree on, else None."""
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def covariates(instances: Sequence[Instance]) -> Covariates:
    """Age, sex, height and weight; None where absent, implausible or contradictory."""

    def number(keyword: str) -> float | None:
        return _agreed(one.values.get(keyword) for one in instances)  # type: ignore[no-any-return]

    size_m, weight_kg = number("PatientSize"), number("PatientWeight")
    sex = _agreed(one.values.get("PatientSex") for one in instances)
    age = _agreed(one.values.get("PatientAge") for one in instances)
    return Covariates(
        age_years=_age_years(str(age)) if age else None,
        sex=str(sex) if sex in {"M", "F"} else None,
        height_cm=within(size_m * 100 if size_m else None, PLAUSIBLE_CM),
        weight_kg=within(weight_kg, PLAUSIBLE_KG),
    )
