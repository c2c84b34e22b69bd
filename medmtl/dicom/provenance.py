"""What a decoded volume keeps of its source: UIDs and places of its frames, and the way back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medmtl.core.errors import InputRefusedError
from medmtl.core.source import SourceFrame, VolumeSource
from medmtl.dicom.worker_client import Worker, WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.dicom.frames import Frame

__all__ = ["volume_source"]

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def volume_source(frames: Sequence[Frame], worker: Worker) -> VolumeSource:
    """The provenance of a volume.

    Args:
        frames: In slice order.
        worker: Process that reads the header again when asked.
    """
    first = frames[0].instance.file

    def read_patient() -> dict[str, str]:
        try:
            return worker.patient(first.path)
        except WorkerError as error:
            raise InputRefusedError(
                first.name,
                stage="write",
                code=error.code,
                found=error.found,
                expected=error.expected,
                advice="The source must still be there while DICOM results are written.",
            ) from error

    return VolumeSource(tuple(_source_frame(frame) for frame in frames), read_patient)


def _source_frame(frame: Frame) -> SourceFrame:
    x, y, z = (float(value) for value in frame.position)
    is_multi = "frames" in frame.instance.values
    return SourceFrame(
        # Where a tool has emptied the data set's UIDs, the file's own still name it (PS3.10 7.1).
        sop_class_uid=_uid(frame, "SOPClassUID") or _uid(frame, "MediaStorageSOPClassUID"),
        sop_instance_uid=_uid(frame, "SOPInstanceUID") or _uid(frame, "MediaStorageSOPInstanceUID"),
        series_uid=_uid(frame, "SeriesInstanceUID"),
        frame_number=frame.index + 1 if is_multi else None,
        position_lps=(x, y, z),
        orientation=tuple(float(value) for value in frame.orientation),
        spacing_mm=frame.spacing,
    )


def _uid(frame: Frame, keyword: str) -> str:
    uid = frame.instance.text(keyword)
    return uid if len(uid) <= 64 and _UID.fullmatch(uid) else ""
