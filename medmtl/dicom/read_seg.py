"""A DICOM segmentation, of medmtl or anybody, as masks on the grid of a volume.

Each frame is put where its own position and orientation say, never where its number would.
Frames that lie on the grid are copied pixel by pixel; others (another resolution, an oblique or a
tilted stack) are sampled at the nearest pixel, and that is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medmtl.core.flags import Flag
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.seg_placing import Frames, place
from medmtl.dicom.segmentation import (
    Collector,
    Overlap,
    ReadSegment,
    Segmentation,
    refuse_segmentation,
)
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from pathlib import Path

    from medmtl.core.geometry import Geometry

__all__ = ["Overlap", "ReadSegment", "Segmentation", "read_seg"]

_DEFAULT = ReadLimits()


def read_seg(
    path: Path,
    geometry: Geometry,
    *,
    frame_of_reference_uid: str = "",
    limits: ReadLimits = _DEFAULT,
) -> Segmentation:
    """Read a segmentation onto a grid.

    Args:
        path: A DICOM SEG file: binary, fractional (cut at half) or label map.
        geometry: The grid of the volume that the masks belong to.
        frame_of_reference_uid: Of that volume; the object must have the same. "" does not check.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is no segmentation, is damaged, or of another frame of
            reference.
    """
    try:
        answer, pixels = shared_worker(limits).segmentation(path)
    except WorkerError as error:
        raise refuse_segmentation(path, error.code, error.found, error.expected) from error
    own = str(answer["frame_of_reference"])
    if frame_of_reference_uid and own != frame_of_reference_uid:
        found = "another frame of reference than the image's"
        raise refuse_segmentation(path, "other-frame-of-reference", found, "the image's own")
    frames = Frames.of(answer, pixels)
    collector = Collector(geometry)
    for item in sorted(answer["segments"], key=lambda item: item["number"]):
        if frames.is_label_map and item["number"] == 0:
            continue  # the background has a description of its own there
        collector.add(item, place(frames, item["number"], geometry))
    cut = Flag(
        "segmentation-fractional", "info", "Fractional segmentation, cut at half of its maximum."
    )
    return collector.segmentation(
        frame_of_reference_uid=own,
        series_uids=tuple(answer["series"]),
        flags=(cut,) if frames.is_fractional else (),
    )
