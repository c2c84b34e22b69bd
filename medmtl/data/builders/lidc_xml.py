"""The XML of LIDC-IDRI: what up to four readers drew on one CT series.

Format and meaning: Armato et al., Medical Physics 38(2), 2011, doi 10.1118/1.3528204, and the
data set's page at The Cancer Imaging Archive. Nodules of 3 mm and more have a contour on every
slice, just outside their edge, and ratings; smaller ones are a single point without ratings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from medmtl.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Contour", "Nodule", "Reading", "read_lidc_xml"]

_ROOT = "LidcReadMessage"
_MAX_BYTES = 100_000_000
_FEWEST_POINTS = 3


@dataclass(frozen=True)
class Contour:
    """One closed line on one slice.

    Attributes:
        z_mm: Position of the slice in patient space.
        points: Column and row of its pixels, in order.
        is_inclusion: False for a hole.
    """

    z_mm: float
    points: tuple[tuple[int, int], ...]
    is_inclusion: bool


@dataclass(frozen=True)
class Nodule:
    """A nodule of 3 mm or more as one reader saw it; malignancy 1..5, None where not rated."""

    contours: tuple[Contour, ...]
    malignancy: int | None


@dataclass(frozen=True)
class Reading:
    """A CT series as it was read.

    Attributes:
        series_uid: Of the CT series.
        readers: One entry per reader, with the nodules of 3 mm and more of that reader; empty where
            none was seen.
        has_small: Whether some reader marked a nodule below 3 mm.
    """

    series_uid: str
    readers: tuple[tuple[Nodule, ...], ...]
    has_small: bool = False


def read_lidc_xml(path: Path) -> Reading | None:
    """Read one file; None where it is no reading of a CT (radiographs have XML as well).

    Raises:
        ConfigError: If the file is damaged.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigError(f"{path.name} is larger than any LIDC reading. Download it again.")
    content = path.read_bytes()
    if b"<!ENTITY" in content:
        raise ConfigError(f"{path.name} defines entities, which no LIDC reading does.")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - no entities, size bounded above
        if _tag(root) != _ROOT:
            return None
        series_uid = next((text for text in _texts(root, "SeriesInstanceUid")), "")
        sessions = _children(root, "readingSession")
        marked = [list(_nodules(session)) for session in sessions]
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # unknown encodings too
        raise ConfigError(f"{path.name} cannot be read as a LIDC reading.") from error
    readers = tuple(tuple(one for one in nodules if one.contours) for nodules in marked)
    has_small = any(not one.contours for nodules in marked for one in nodules)
    return Reading(series_uid, readers, has_small)


def _nodules(session: ElementTree.Element) -> Iterator[Nodule]:
    """All that a reader marked; a nodule below 3 mm is a point, so no contour is left of it."""
    for entry in _children(session, "unblindedReadNodule"):
        contours = tuple(
            contour
            for roi in _children(entry, "roi")
            if len((contour := _contour(roi)).points) >= _FEWEST_POINTS
        )
        rated = [int(text) for text in _texts(entry, "malignancy") if text]
        malignancy = rated[0] if rated and 1 <= rated[0] <= 5 else None
        yield Nodule(contours, malignancy)


def _contour(roi: ElementTree.Element) -> Contour:
    columns = [int(text) for text in _texts(roi, "xCoord")]
    rows = [int(text) for text in _texts(roi, "yCoord")]
    z_mm = next(float(text) for text in (*_texts(roi, "imageZposition"), "nan"))
    is_inclusion = next((text for text in _texts(roi, "inclusion")), "").upper() == "TRUE"
    return Contour(z_mm, tuple(zip(columns, rows, strict=True)), is_inclusion)


def _tag(element: ElementTree.Element) -> str:
    """The tag without its name space (http://www.nih.gov)."""
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [child for child in element if _tag(child) == name]


def _texts(element: ElementTree.Element, name: str) -> Iterator[str]:
    return ((e.text or "").strip() for e in element.iter() if _tag(e) == name)
