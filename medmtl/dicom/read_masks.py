"""Masks from whatever DICOM object holds them: a segmentation, a structure set or a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.read_report_masks import read_report_masks
from medmtl.dicom.read_rtstruct import read_rtstruct
from medmtl.dicom.read_seg import read_seg
from medmtl.dicom.rtstruct_contours import RT_STRUCTURE_SET
from medmtl.dicom.segmentation import Segmentation, refuse_segmentation
from medmtl.dicom.sr_content import is_report
from medmtl.dicom.worker_client import WorkerError, shared_worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from medmtl.core.geometry import Geometry
    from medmtl.core.source import SourceFrame

__all__ = ["MaskKind", "read_masks"]

MaskKind = Literal["seg", "rtstruct", "sr"]

_DEFAULT = ReadLimits()


def read_masks(
    path: Path,
    geometry: Geometry,
    *,
    frame_of_reference_uid: str = "",
    series_uid: str = "",
    source_frames: Sequence[SourceFrame] = (),
    limits: ReadLimits = _DEFAULT,
) -> tuple[MaskKind, Segmentation]:
    """Read the masks of a file onto a grid.

    Args:
        path: SEG, RTSTRUCT, or a report whose segmentations lie in the same folder.
        geometry: The grid of the volume that they belong to.
        frame_of_reference_uid: Of that volume; "" does not check.
        series_uid: Of that volume, see `read_rtstruct`.
        source_frames: Of that volume, see `read_report_masks`.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is none of these, is damaged, or lies elsewhere.
    """
    try:
        sop_class = str(shared_worker(limits).header(path).get("SOPClassUID", ""))
    except WorkerError as error:
        raise refuse_segmentation(path, error.code, error.found, error.expected) from error
    frame = frame_of_reference_uid
    if sop_class == RT_STRUCTURE_SET:
        return "rtstruct", read_rtstruct(
            path, geometry, frame_of_reference_uid=frame, series_uid=series_uid, limits=limits
        )
    if is_report(sop_class):
        beside = sorted(one for one in path.parent.iterdir() if one.is_file() and one != path)
        return "sr", read_report_masks(
            path, geometry, segmentations=beside, source_frames=source_frames,
            frame_of_reference_uid=frame, limits=limits,
        )  # fmt: skip
    return "seg", read_seg(path, geometry, frame_of_reference_uid=frame, limits=limits)
