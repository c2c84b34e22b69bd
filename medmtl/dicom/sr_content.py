"""What a measurement report (TID 1500, PS3.16) holds, group by group; runs in the worker process.

Nothing is assumed of the order or completeness of items: what a group says is collected by the
names of its items, and what has no known name is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medmtl.dicom.full_header import open_dataset
from medmtl.dicom.pixel_format import PixelError
from medmtl.dicom.seg_frames import SEGMENTATION_CLASSES, code_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

__all__ = ["is_report", "read_report_content"]

_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_GROUP = "125007"  # Measurement Group
_TEXTS = {"112039": "tracking_id"}
_UIDS = {"112040": "tracking_uid"}
_CODES = {"276214006": "category", "121071": "type"}
_MOST_ITEMS = 1_000_000


def is_report(sop_class_uid: str) -> bool:
    """Whether a SOP class is one of structured reports (PS3.4 B.5)."""
    return sop_class_uid.startswith(_REPORTS)


def read_report_content(path: Path, *, limit: int) -> dict[str, Any]:
    """Read a report.

    Args:
        path: A DICOM file.
        limit: Largest size of a deflated data set in bytes.

    Returns:
        title, is_verified, predecessors (instance UIDs), comments, and groups: tracking_id,
        tracking_uid, category, type, measurements (name, value, unit), evaluations (name, value),
        segments (instance UID, segment number or None, frame numbers), polygons (frame of
        reference, points in mm), outlines (instance UID and frame number of an image, points in its
        pixels), and how many regions are of another kind.

    Raises:
        NotDicomError: If the file is no DICOM file.
        PixelError: If it is no report, or has no measurement group.
    """
    dataset = open_dataset(path, limit=limit, pixels=True)
    if not is_report(str(dataset.get("SOPClassUID", ""))):
        raise PixelError("not-a-report", "another kind of object", "a structured report")
    items = list(_walk(dataset))
    groups = [_group(item) for item in items if _name(item) == _GROUP]
    if not groups:
        raise PixelError("no-measurement-group", "none", "a report by TID 1500 with groups")
    return {
        "title": code_of(dataset, "ConceptNameCodeSequence"),
        "is_verified": str(dataset.get("VerificationFlag", "")) == "VERIFIED",
        "predecessors": list(_predecessors(dataset)),
        "comments": [str(item.get("TextValue", "")) for item in items if _name(item) == "121106"],
        "groups": groups,
    }


def _walk(item: Dataset) -> Iterator[Dataset]:
    """Every content item below one, from the top; without recursion, however deep it is."""
    open_items = list(reversed(item.get("ContentSequence") or ()))
    count = 0
    while open_items:
        here = open_items.pop()
        count += 1
        if count > _MOST_ITEMS:
            raise PixelError("too-large", f"more than {_MOST_ITEMS} items", f"{_MOST_ITEMS} items")
        yield here
        open_items += reversed(here.get("ContentSequence") or ())


def _name(item: Dataset) -> str:
    code = code_of(item, "ConceptNameCodeSequence")
    return code[0] if code else ""


def _group(group: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {
        "tracking_id": "", "tracking_uid": "", "category": [], "type": [], "measurements": [],
        "evaluations": [], "segments": [], "polygons": [], "outlines": [],
        "other_regions": 0,
    }  # fmt: skip
    for item in group.get("ContentSequence") or ():
        name, kind = _name(item), str(item.get("ValueType", ""))
        if name in _TEXTS:
            found[_TEXTS[name]] = str(item.get("TextValue", ""))
        elif name in _UIDS:
            found[_UIDS[name]] = str(item.get("UID", ""))
        elif kind == "CODE" and name in _CODES:
            found[_CODES[name]] = code_of(item, "ConceptCodeSequence")
        else:
            _add(found, item, kind)
    return found


def _add(found: dict[str, Any], item: Dataset, kind: str) -> None:
    name = code_of(item, "ConceptNameCodeSequence")
    if kind == "NUM":
        value = (item.get("MeasuredValueSequence") or [None])[0]
        if value is not None:
            unit = code_of(value, "MeasurementUnitsCodeSequence")
            found["measurements"].append([name, float(value.NumericValue), unit])
        for child in item.get("ContentSequence") or ():  # a number may cite its own region
            _add_region(found, child)
    elif kind == "CODE":
        found["evaluations"].append([name, code_of(item, "ConceptCodeSequence")])
    else:
        _add_region(found, item)


def _add_region(found: dict[str, Any], item: Dataset) -> None:
    kind = str(item.get("ValueType", ""))
    if kind == "IMAGE":
        (cited,) = item.ReferencedSOPSequence
        if str(cited.get("ReferencedSOPClassUID", "")) in SEGMENTATION_CLASSES:
            uid = str(cited.ReferencedSOPInstanceUID)
            frames = _whole_numbers(cited.get("ReferencedFrameNumber"))
            stated = _whole_numbers(cited.get("ReferencedSegmentNumber"))
            numbers: list[int | None] = [*stated] or [None]
            found["segments"] += [
                one for number in numbers if (one := [uid, number, frames]) not in found["segments"]
            ]
    elif kind == "SCOORD3D" and str(item.get("GraphicType", "")) == "POLYGON":
        points = [float(value) for value in item.GraphicData]
        frame = str(item.get("ReferencedFrameOfReferenceUID", ""))
        found["polygons"].append([frame, points])
    elif kind == "SCOORD" and (outline := _outline(item)) is not None:
        found["outlines"].append(outline)
    elif kind in {"SCOORD", "SCOORD3D"}:
        found["other_regions"] += 1


def _outline(item: Dataset) -> list[Any] | None:
    """A closed line in one frame of an image (PS3.3 C.18.6.1.2); None for anything else."""
    points = [float(value) for value in item.get("GraphicData") or ()]
    if str(item.get("GraphicType", "")) != "POLYLINE" or points[:2] != points[-2:]:
        return None
    for child in item.get("ContentSequence") or ():
        if str(child.get("ValueType", "")) == "IMAGE":
            (cited,) = child.ReferencedSOPSequence
            frames = _whole_numbers(cited.get("ReferencedFrameNumber"))
            if len(frames) < 2:
                return [str(cited.ReferencedSOPInstanceUID), frames[0] if frames else None, points]
    return None


def _whole_numbers(value: Any) -> list[int]:
    if value is None or value == "":
        return []
    return [int(one) for one in (value if hasattr(value, "__iter__") else [value])]


def _predecessors(dataset: Dataset) -> Iterator[str]:
    for study in dataset.get("PredecessorDocumentsSequence") or ():
        for series in study.get("ReferencedSeriesSequence") or ():
            for one in series.get("ReferencedSOPSequence") or ():
                yield str(one.get("ReferencedSOPInstanceUID", ""))
