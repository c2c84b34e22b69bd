"""One image frame as the headers describe it: what selection, sorting and decoding work on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.dicom.fast_header import PixelSpan
    from medmtl.dicom.sources import SourceFile
    from medmtl.dicom.tags import Values

__all__ = ["Frame", "Instance", "frames_of", "geometry_problem", "make_frame", "short_hash"]

_UNIT_TOLERANCE = 0.01
_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")


def short_hash(uid: str) -> str:
    """Eight hex characters that name a UID in logs, errors and volume ids."""
    return hashlib.sha256(uid.encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False, slots=True)
class Instance:
    """One DICOM file and its header values."""

    file: SourceFile
    values: Values
    pixels: PixelSpan | None = None
    is_truncated: bool = False

    def text(self, keyword: str) -> str:
        """A text value, "" where absent."""
        return str(self.values.get(keyword, ""))


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One frame of an instance with a complete geometry.

    Attributes:
        instance: The file.
        index: Frame number in the file, from 0.
        values: Values of this frame (those of the file, overlaid by its functional groups).
        position: Centre of the first pixel, LPS mm, shape (3,).
        orientation: Direction cosines of a row, then of a column, shape (6,).
        spacing: Distance between rows, then between columns, mm (PS3.3 10.7.1.3).
    """

    instance: Instance
    index: int
    values: Values
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: tuple[float, float]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit slice normal: row direction cross column direction."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        return np.asarray(normal / np.linalg.norm(normal))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.values["Rows"]), int(self.values["Columns"])


def geometry_problem(values: Values) -> tuple[str, str, str] | None:
    """Why the geometry of a frame cannot be used: (code, found, expected), or None."""
    bad = set(values.get("bad", ()))
    for keyword, count in zip(_GEOMETRY, (3, 6, 2), strict=True):
        if keyword in bad:
            return f"unreadable-{_kebab(keyword)}", "a value that is no number", f"{count} numbers"
        value = values.get(keyword)
        if not value:
            return f"missing-{_kebab(keyword)}", "no value", f"{count} numbers"
        if len(value) != count:
            return f"unreadable-{_kebab(keyword)}", f"{len(value)} numbers", f"{count} numbers"
    if min(values["PixelSpacing"]) <= 1e-4 or max(values["PixelSpacing"]) > 100:
        return "implausible-spacing", f"{values['PixelSpacing']} mm", "0.0001 to 100 mm"
    if max(map(abs, values["ImagePositionPatient"])) > 1e5:
        return "implausible-position", "a position beyond 100 m", "at most 100 m"
    row, column = np.reshape(values["ImageOrientationPatient"], (2, 3)).clip(-2.0, 2.0)
    lengths = abs(np.linalg.norm([row, column], axis=1) - 1).max()
    if lengths > _UNIT_TOLERANCE or abs(row @ column) > _UNIT_TOLERANCE:
        return (
            "invalid-orientation",
            "directions not of unit length or not at right angles",
            ("two perpendicular unit vectors"),
        )
    return None


def _kebab(keyword: str) -> str:
    return {
        "ImagePositionPatient": "position",
        "ImageOrientationPatient": "orientation",
        "PixelSpacing": "pixel-spacing",
    }[keyword]


def frames_of(instance: Instance) -> list[Values]:
    """Values per frame; one for a classic image."""
    own = instance.values
    frames = own.get("frames")
    if not frames:
        return [own]
    base = {key: value for key, value in own.items() if key != "frames"}
    return [base | _joined(frame, base) for frame in frames]


def _joined(frame: Values, base: Values) -> Values:
    bad = tuple(frame.get("bad", ())) + tuple(base.get("bad", ()))
    return frame | {"bad": bad} if bad else frame


@lru_cache(maxsize=4096)
def _orthonormal(cosines: tuple[float, ...]) -> NDArray[np.float64]:
    """Unit row and column direction at a right angle, shape (6,); one object per orientation."""
    row, column = np.reshape(np.asarray(cosines, dtype=np.float64), (2, 3))
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    both = np.concatenate([row, column / np.linalg.norm(column)])
    both.setflags(write=False)
    return both


def make_frame(instance: Instance, index: int, values: Values) -> Frame:
    """A frame of values that `geometry_problem` found nothing against."""
    spacing = values["PixelSpacing"]
    return Frame(
        instance=instance,
        index=index,
        values=values,
        position=np.asarray(values["ImagePositionPatient"], dtype=np.float64),
        orientation=_orthonormal(tuple(values["ImageOrientationPatient"])),
        spacing=(float(spacing[0]), float(spacing[1])),
    )
