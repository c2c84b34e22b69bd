"""A mask that a person corrected elsewhere, as a label map on the grid that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.flags import Flag
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.segmentation import refuse_segmentation
from medmtl.nifti.names import is_nifti_name
from medmtl.transforms.orient import plan_onto

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.data.result_case import ResultCase
    from medmtl.dicom.segmentation import Segmentation

__all__ = ["Correction", "read_correction", "read_result_correction"]

_DEFAULT = ReadLimits()


@dataclass(frozen=True, eq=False)
class Correction:
    """A corrected mask.

    Attributes:
        label_map: Shape (i, j, k) of the grid, uint8 or uint16, labels of the schema.
        kind: "nifti", "seg", "rtstruct" or "sr".
        segments: Names of the segments that the file describes, in label order; all of the schema
            for NIfTI.
        flags: What a reviewer must know of the reading.
    """

    label_map: NDArray[Any]
    kind: str
    segments: tuple[str, ...]
    flags: tuple[Flag, ...] = ()


def read_correction(
    path: Path,
    *,
    geometry: Geometry,
    schema: LabelSchema,
    frame_of_reference_uid: str = "",
    series_uid: str = "",
    base: NDArray[Any] | None = None,
    limits: ReadLimits = _DEFAULT,
) -> Correction:
    """Read a corrected mask onto the grid of the volume that was corrected.

    Args:
        path: NIfTI label map (on the same grid; mirrored or permuted axes are put right), DICOM SEG
            or RTSTRUCT, as Slicer, OHIF or medmtl write them, or a report that cites segmentations
            in its folder.
        geometry: Grid of the volume.
        schema: What the labels mean. SEG and RTSTRUCT name their segments by code, else by name.
        frame_of_reference_uid: Of the volume; "" where it is not known, which is not checked then.
        series_uid: Of the volume; contours of a structure set that cites it stand for the slices
            that they lie on, and no others.
        base: The label map that was corrected. Segments that the file does not describe stay as
            they are there; without it they are empty.
        limits: What reading may cost.

    Raises:
        InputRefusedError: If the file is no such mask, is damaged, lies elsewhere, or holds a
            segment that the schema has not.
    """
    if is_nifti_name(path.name):
        return _from_nifti(path, geometry, schema, limits)
    from medmtl.dicom.read_masks import read_masks

    kind, read = read_masks(
        path,
        geometry,
        frame_of_reference_uid=frame_of_reference_uid,
        series_uid=series_uid,
        limits=limits,
    )
    return _from_dicom(path, kind, read, schema, base)


def read_result_correction(
    path: Path, *, case: ResultCase, volume_id: str, limits: ReadLimits = _DEFAULT
) -> Correction:
    """Read a corrected mask of one volume of a result; segments it leaves out stay the model's.

    Raises:
        MedmtlError: If the case has no such volume, or no NIfTI mask of it.
        InputRefusedError: As `read_correction`.
    """
    volume = case.volume(volume_id)
    return read_correction(
        path,
        geometry=volume.geometry,
        schema=case.schema,
        frame_of_reference_uid=volume.frame_of_reference_uid,
        series_uid=volume.series_uid,
        base=volume.label_map,
        limits=limits,
    )


def _from_nifti(
    path: Path, geometry: Geometry, schema: LabelSchema, limits: ReadLimits
) -> Correction:
    from medmtl.data.volume_file import read_volume_file  # nibabel: only where it is needed

    volume = read_volume_file(path.parent, path.name, limits=limits)
    plan = plan_onto(volume.geometry, geometry)
    if plan is None:
        raise refuse_segmentation(path, "other-grid", _grid(volume.geometry), _grid(geometry))
    values = plan.apply(volume.array)
    known = np.array([0, *(segment.label for segment in schema.segments)])
    odd = np.setdiff1d(np.unique(values), known)
    if odd.size:
        found = ", ".join(f"{value:g}" for value in odd[:5])
        raise refuse_segmentation(path, "unknown-label", f"labels {found}", f"of {known.tolist()}")
    dtype = _dtype(schema)
    return Correction(np.ascontiguousarray(values, dtype=dtype), "nifti", schema.segment_names)


def _from_dicom(
    path: Path,
    kind: str,
    read: Segmentation,
    schema: LabelSchema,
    base: NDArray[Any] | None,
) -> Correction:
    from medmtl.dicom.segment_names import labels_of

    labels = labels_of(read.segments, schema, source=path.name)
    outside = any(flag.code == "segmentation-outside" for flag in read.flags)
    if outside and not any(segment.voxels for segment in read.segments):
        raise refuse_segmentation(
            path, "elsewhere", "a segmentation outside of the image", "one inside"
        )
    described = set(labels.values())
    whole = np.zeros(read.geometry.shape, dtype=_dtype(schema))
    if base is not None:
        kept = ~np.isin(base, sorted(described))
        whole[kept] = base[kept]
    drawn = read.label_map(labels)
    whole[drawn > 0] = drawn[drawn > 0]
    names = tuple(spec.name for spec in schema.segments if spec.label in described)
    flags = (*read.flags, *_missing(schema, described, is_kept=base is not None))
    return Correction(whole, kind, names, flags)


def _missing(schema: LabelSchema, described: set[int], *, is_kept: bool) -> list[Flag]:
    names = [spec.name for spec in schema.segments if spec.label not in described]
    if not names:
        return []
    state = "stay as they were" if is_kept else "are empty"
    message = f"The file does not describe {', '.join(names)}; these {state}."
    return [Flag("segments-not-described", "info" if is_kept else "warning", message)]


def _dtype(schema: LabelSchema) -> type[np.uint8] | type[np.uint16]:
    largest = max((segment.label for segment in schema.segments), default=0)
    return np.uint8 if largest < 256 else np.uint16


def _grid(geometry: Geometry) -> str:
    spacing = " x ".join(f"{mm:.3f}" for mm in geometry.spacing_mm)
    origin = ", ".join(f"{mm:.2f}" for mm in geometry.origin_lps)
    return f"a grid of {geometry.shape} voxels of {spacing} mm at ({origin}) mm LPS"
