"""Where the planes of a written DICOM object lie, and which source frames each of them cites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medmtl.core.geometry import points_to_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.source import SourceFrame

__all__ = ["Planes", "planes_of", "source_image_items"]

_SHIFT_PX = 0.25
_ALONG = 0.1  # of the slice spacing
_TURN = 1e-3


@dataclass(frozen=True, eq=False)
class Planes:
    """The planes of a grid along k.

    Attributes:
        positions_lps: Centre of the first pixel of each plane in mm, shape (K, 3).
        orientation: Direction cosines of a row, then of a column.
        spacing_mm: Between rows, then between columns.
        slice_mm: Distance between planes.
        cited: Per plane, the indices of the source frames that it was made from.
        is_source: Whether each plane is one source frame, pixel for pixel.
    """

    positions_lps: NDArray[np.float64]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float]
    slice_mm: float
    cited: tuple[tuple[int, ...], ...]
    is_source: bool

    def sequences(
        self,
    ) -> tuple[list[PlanePositionSequence], PlaneOrientationSequence, PixelMeasuresSequence]:
        """The functional groups that highdicom wants (PS3.3 C.7.6.16.2)."""
        positions = [
            PlanePositionSequence("PATIENT", [float(value) for value in position])
            for position in self.positions_lps
        ]
        orientation = PlaneOrientationSequence("PATIENT", list(self.orientation))
        measures = PixelMeasuresSequence(
            pixel_spacing=list(self.spacing_mm),
            slice_thickness=self.slice_mm,
            spacing_between_slices=self.slice_mm,
        )
        return positions, orientation, measures


def planes_of(geometry: Geometry, frames: Sequence[SourceFrame]) -> Planes:
    """The planes of a grid in terms of the source.

    Where every slice of the grid is a source frame, the frames' own positions are taken to the
    last digit, so that a viewer recognises them. Elsewhere (a resampled stack, the coarse grid of
    an activation map) the grid's positions are written, and each plane cites the frames nearest to
    it.

    Args:
        geometry: A grid; its third axis runs through the slices.
        frames: In slice order.
    """
    index = np.zeros((geometry.shape[2], 3))
    index[:, 2] = np.arange(geometry.shape[2])
    own = points_to_space(geometry.affine_lps, index)
    if _is_source(geometry, own, frames):
        positions = np.array([frame.position_lps for frame in frames])
        cited = tuple((k,) for k in range(len(frames)))
        first = frames[0]
        slice_mm = geometry.spacing_mm[2]
        return Planes(positions, first.orientation, first.spacing_mm, slice_mm, cited, True)
    i_mm, j_mm, k_mm = geometry.spacing_mm
    orientation = tuple(float(value) for value in geometry.direction[:, :2].T.flat)
    return Planes(own, orientation, (j_mm, i_mm), k_mm, _nearest(own, frames, k_mm), False)


def _is_source(geometry: Geometry, own: NDArray[np.float64], frames: Sequence[SourceFrame]) -> bool:
    if len(frames) != len(own):
        return False
    i_mm, j_mm, k_mm = geometry.spacing_mm
    apart = np.array([frame.position_lps for frame in frames]) - own
    off = np.abs(apart @ geometry.direction)
    first = frames[0]
    turned = np.abs(np.asarray(first.orientation) - geometry.direction[:, :2].T.ravel()).max()
    return bool(
        (off <= np.array([_SHIFT_PX * i_mm, _SHIFT_PX * j_mm, _ALONG * k_mm])).all()
        and turned <= _TURN
        and np.allclose(first.spacing_mm, (j_mm, i_mm), rtol=1e-3)
    )


def _nearest(
    own: NDArray[np.float64], frames: Sequence[SourceFrame], slice_mm: float
) -> tuple[tuple[int, ...], ...]:
    """Frames closer to a plane than one spacing along their normal; at least the closest."""
    normal = np.cross(frames[0].orientation[:3], frames[0].orientation[3:])
    heights = np.array([frame.position_lps for frame in frames]) @ normal
    cited = []
    for plane in own @ normal:
        distance = np.abs(heights - plane)
        chosen = np.flatnonzero(distance < slice_mm * (1 - 1e-6))
        cited.append(tuple(int(n) for n in chosen) or (int(distance.argmin()),))
    return tuple(cited)


def source_image_items(
    planes: Planes, frames: Sequence[SourceFrame], *, derivation: Dataset
) -> list[DicomSequence]:
    """The Derivation Image Sequence of each plane (PS3.3 C.7.6.16.2.6).

    Args:
        planes: Of the written grid.
        frames: In slice order.
        derivation: Coded method (CID 7203).
    """
    return [
        DicomSequence([_derivation_item([frames[n] for n in cited], planes.is_source, derivation)])
        for cited in planes.cited
    ]


def _derivation_item(
    frames: Sequence[SourceFrame], is_source: bool, derivation: Dataset
) -> Dataset:
    item = Dataset()
    item.SourceImageSequence = DicomSequence([_source_item(frame, is_source) for frame in frames])
    item.DerivationCodeSequence = DicomSequence([derivation])
    return item


def _source_item(frame: SourceFrame, is_source: bool) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = frame.sop_class_uid
    item.ReferencedSOPInstanceUID = frame.sop_instance_uid
    if frame.frame_number is not None:
        item.ReferencedFrameNumber = frame.frame_number
    purpose = Dataset()  # CID 7202
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"
    purpose.CodeMeaning = "Source image for image processing operation"
    item.PurposeOfReferenceCodeSequence = DicomSequence([purpose])
    item.SpatialLocationsPreserved = "YES" if is_source else "NO"
    return item
