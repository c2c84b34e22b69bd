"""segmentation.seg.dcm: the masks of one volume as a DICOM Segmentation (PS3.3 A.51, A.90).

On the source frames where the volume is those frames, on the volume's own grid where it was
resampled; either way every plane cites the source frames that it was made from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from highdicom.seg import Segmentation
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless

from medmtl.core.durable import durable_file
from medmtl.report.dicom_frames import binary_frames, labelmap_frames
from medmtl.report.dicom_planes import planes_of, source_image_items
from medmtl.report.dicom_segments import numbered
from medmtl.report.dicom_source import RESEARCH_ONLY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from medmtl.report.dicom_segments import NumberedSegment
    from medmtl.report.dicom_source import DicomSource

__all__ = ["SegObject", "SegType", "make_seg"]

SegType = Literal["binary", "labelmap"]
"""One bit per segment and frame, read everywhere; or one frame of numbers per slice (newer)."""

_SERIES_NUMBER = 9101


@dataclass(frozen=True, eq=False)
class SegObject:
    """A segmentation ready to be written.

    Attributes:
        head: Everything but the frames.
        elements: Encoded data elements of the frames; their tags are greater than any in `head`.
    """

    head: Segmentation
    elements: tuple[bytes | memoryview, ...]

    def save(self, path: Path) -> None:
        """Write a Part 10 file that is on the disk when the call returns.

        Raises:
            OSError: If it cannot be written; nothing is left of it then.
        """
        with durable_file(path) as stream:
            self.head.save_as(stream, enforce_file_format=True)
            for element in self.elements:
                stream.write(element)


def make_seg(
    source: DicomSource,
    label_map: NDArray[Any],
    segments: Sequence[NumberedSegment],
    *,
    seg_type: SegType = "binary",
) -> SegObject:
    """Build the segmentation object of one volume.

    Args:
        source: Of the volume.
        label_map: Shape (i, j, k) of the volume, uint8 or uint16, 0 is background.
        segments: At least one; those without a voxel are described all the same.
        seg_type: How the pixels are stored. Frames without any segment are left out.

    Raises:
        ValueError: If the label map holds a label that no segment has, or there is no segment.
    """
    pixels = numbered(label_map, tuple(segments))
    digest = hashlib.sha256(pixels.data).hexdigest()
    planes = planes_of(source.geometry, source.frames)
    positions, orientation, measures = planes.sequences()
    is_binary = seg_type == "binary"
    # One empty plane: highdicom makes the modules, the frames follow below.
    seg = Segmentation(
        source_images=[source.template(rows=pixels.shape[1], columns=pixels.shape[2])],
        pixel_array=np.zeros((1, *pixels.shape[1:]), dtype=pixels.dtype),
        segmentation_type=seg_type.upper(),
        segment_descriptions=[segment.description(source) for segment in segments],
        series_instance_uid=source.uid("seg", seg_type),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=source.uid("seg", seg_type, digest),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian if is_binary else JPEGLSLossless,
        plane_positions=positions[:1],
        plane_orientation=orientation,
        pixel_measures=measures,
        omit_empty_frames=False,
        content_label="SEGMENTATION",
        content_description=RESEARCH_ONLY,
        **source.equipment(),
    )
    frames = (binary_frames if is_binary else labelmap_frames)(pixels, len(segments))
    derivation = CodedConcept.from_code(codes.DCM.Segmentation)
    sources = source_image_items(planes, source.frames, derivation=derivation)
    elements = frames.elements(seg, positions=positions, sources=sources)
    for keyword in ("PerFrameFunctionalGroupsSequence", "PixelData", "DimensionOrganizationType"):
        seg.pop(keyword, None)
    seg.ReferencedSeriesSequence = source.referenced_series()
    source.finish(seg)
    return SegObject(seg, elements)
