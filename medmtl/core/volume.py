"""One image volume in patient space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.core.flags import Flag
    from medmtl.core.geometry import Geometry
    from medmtl.core.source import VolumeSource

__all__ = ["NOT_HOUNSFIELD", "Volume"]

NOT_HOUNSFIELD = {"rescale-missing", "not-hounsfield"}
"""Flags of a CT whose values are something else than HU."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An array on a grid, in native units (HU for CT, rescaled stored values otherwise).

    Attributes:
        array: Shape (i, j, k), any real dtype; treated as read-only.
        geometry: The grid of `array`.
        id: Short stable name of the volume inside its study, safe as a folder name.
        modality: DICOM modality, such as "CT" or "MR"; "" where unknown (NIfTI).
        flags: Quality flags raised while reading.
        series_uid: Series Instance UID as in the source, "" for NIfTI.
        frame_of_reference_uid: Frame of Reference UID, "" where unknown.
        path: Source file or folder relative to the input.
        time_ms: Trigger time or nominal time of a phase; None where it is no phase.
        metadata: Further facts without identity (body part, contrast, vendor, ...).
        source: The DICOM frames it was read from; None for NIfTI.
    """

    array: NDArray[Any]
    geometry: Geometry
    id: str = "image"
    modality: str = ""
    flags: tuple[Flag, ...] = ()
    series_uid: str = ""
    frame_of_reference_uid: str = ""
    path: str = ""
    time_ms: float | None = None
    metadata: Mapping[str, str | float] = field(default_factory=dict)
    source: VolumeSource | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check that array and grid agree.

        Raises:
            ValueError: If the shapes differ.
        """
        if tuple(self.array.shape) != self.geometry.shape:
            message = (
                f"Volume {self.id}: array shape {tuple(self.array.shape)} differs from "
                f"grid shape {self.geometry.shape}."
            )
            raise ValueError(message)

    @property
    def is_hounsfield(self) -> bool:
        """Whether the header of a CT says that its values are HU, as far as the reader found."""
        return self.modality == "CT" and not any(flag.code in NOT_HOUNSFIELD for flag in self.flags)

    def with_array(self, array: NDArray[Any]) -> Volume:
        """The same volume with other values on the same grid."""
        return replace(self, array=np.asarray(array))
