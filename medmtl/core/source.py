"""Where a volume's voxels came from: what DICOM objects made from it must cite."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SourceFrame", "VolumeSource"]


@dataclass(frozen=True)
class SourceFrame:
    """One DICOM frame of a volume; no pixels and no identity.

    Attributes:
        sop_class_uid: Of the instance; "" where the header says none.
        sop_instance_uid: Of the instance; "" where the header says none.
        series_uid: Of the instance; slices of one volume may come from several series.
        frame_number: From 1 in a multi-frame instance; None for a single-frame one.
        position_lps: Centre of the first pixel in mm (Image Position (Patient)).
        orientation: Direction cosines of a row, then of a column.
        spacing_mm: Between rows, then between columns (PS3.3 10.7.1.3).
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    frame_number: int | None
    position_lps: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True, eq=False)
class VolumeSource:
    """The frames of a volume, and a way back to its header.

    Attributes:
        frames: In slice order. Where the volume was resampled (gantry tilt, uneven gaps) there may
            be more or fewer of them than slices, and elsewhere.
        read_patient: Reads patient and study attributes from the first file again, as text by
            DICOM keyword. They identify a person: for DICOM objects only, never for a log, a
            record or a file name. Raises InputRefusedError where the file cannot be read any more.
    """

    frames: tuple[SourceFrame, ...]
    read_patient: Callable[[], Mapping[str, str]] = field(repr=False)
