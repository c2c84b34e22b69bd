"""One volume of a manifest against its files: readable, on one grid, known labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.core.errors import InputRefusedError
from medmtl.data.mask_rules import grid_refusal, label_refusal
from medmtl.data.volume_file import read_grid, read_volume_file

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path
    from typing import TypeVar

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema
    from medmtl.core.volume import Volume
    from medmtl.data.cases import VolumeRow

    Read = TypeVar("Read")

__all__ = ["Finding", "ImageFacts", "look_at_headers", "look_at_voxels"]

_SAMPLE = 2_000_000
"""Voxels a percentile is taken from; of a larger image every n-th voxel."""

Finding = tuple[str, str]
"""Code and message of something that is wrong."""


@dataclass(frozen=True)
class ImageFacts:
    """What is compared between the images of a data set, in their native units.

    Attributes:
        spread: 99.5th minus 0.5th percentile.
        largest: Largest absolute value.
        voxel_sha256: Of shape and voxel values as float32, so that the same image is known again
            under another compression, data type or header.
        modality: Where the row states one; images of different modalities are not compared.
    """

    spread: float
    largest: float
    voxel_sha256: str
    modality: str = ""


def look_at_headers(
    row: VolumeRow, data_root: Path, *, absent: Collection[str] = ()
) -> list[Finding]:
    """What is wrong with the headers of an image and its mask; no voxel is read.

    Args:
        row: The files.
        data_root: Folder that their paths start from.
        absent: Paths that are not read, as they are known not to be there.
    """
    image, found = _tried(read_grid, data_root, row.image, absent)
    mask, more = _tried(read_grid, data_root, row.segmentation, absent)
    found += more
    return found + _grids(row, image, mask) if image and mask else found


def look_at_voxels(
    row: VolumeRow,
    data_root: Path,
    schema: LabelSchema,
    masks: dict[str, Volume],
    *,
    absent: Collection[str] = (),
) -> tuple[ImageFacts | None, list[Finding]]:
    """What is wrong with an image and its mask, and the facts for comparisons.

    Args:
        row: The files.
        data_root: Folder that their paths start from.
        schema: The labels a mask may hold.
        masks: Masks of the same case read before, by path; this one is added.
        absent: Paths that are not read, as they are known not to be there.

    Returns:
        Facts (None where the image cannot be read) and findings.
    """
    image, found = _tried(read_volume_file, data_root, row.image, absent)
    if image is None:
        return None, found + _look_at_mask(row, None, data_root, schema, masks, absent)
    found = [
        (flag.code, f"{row.image}: {flag.message}")
        for flag in image.flags
        if flag.severity == "error"
    ]
    found += _look_at_mask(row, image, data_root, schema, masks, absent)
    if image.array.min() == image.array.max():
        found.append(("constant-image", f"every voxel of {row.image} is {image.array.flat[0]:g}"))
    return _facts(image.array, row.attributes.get("modality", "")), found


def _tried(
    read: Callable[[Path, str], Read], data_root: Path, path: str | None, absent: Collection[str]
) -> tuple[Read | None, list[Finding]]:
    if path is None or path in absent:
        return None, []
    try:
        return read(data_root, path), []
    except InputRefusedError as error:
        return None, [_refused(error)]


def _look_at_mask(
    row: VolumeRow,
    image: Volume | None,
    data_root: Path,
    schema: LabelSchema,
    masks: dict[str, Volume],
    absent: Collection[str],
) -> list[Finding]:
    """Also of an image that cannot be read: nobody wants to hear of the mask afterwards."""
    name = row.segmentation or ""
    if name not in masks:
        mask, found = _tried(read_volume_file, data_root, row.segmentation, absent)
        if mask is None:
            return found
        masks[name] = mask
    mask = masks[name]
    grids = _grids(row, image.geometry, mask.geometry) if image else []
    return grids + _labels(row, mask.array, schema)


def _refused(error: InputRefusedError) -> Finding:
    return error.code, f"{error.source}: found {error.found}, expected {error.expected}"


def _grids(row: VolumeRow, image: Geometry, mask: Geometry) -> list[Finding]:
    refusal = grid_refusal(mask, image, source=row.segmentation or "", stage="check")
    return [_refused(refusal)] if refusal else []


def _labels(row: VolumeRow, mask: NDArray[Any], schema: LabelSchema) -> list[Finding]:
    names = {segment.label: segment.name for segment in schema.segments}
    there = {float(value) for k in range(mask.shape[2]) for value in np.unique(mask[..., k])}
    values = sorted(there - {0.0})
    source = row.segmentation or ""
    if refusal := label_refusal(values, names, source=source, stage="check"):
        return [_refused(refusal)]
    held = [names[int(value)] for value in values]
    unasked = [name for name in held if name not in row.annotated_segments]
    if not unasked:
        return []
    text = f"mask {row.segmentation} holds {', '.join(unasked)}, not in annotated_segments"
    return [("segment-not-annotated", text)]


def _facts(array: NDArray[Any], modality: str) -> ImageFacts:
    flat = array.ravel(order="K")  # in the order of memory, so nothing is copied
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    low, high = np.percentile(sample, (0.5, 99.5))
    digest = hashlib.sha256(repr(array.shape).encode())
    digest.update(np.ascontiguousarray(array.T, dtype="<f4").data)  # NIfTI has i fastest
    return ImageFacts(
        spread=float(high) - float(low),
        largest=max(abs(float(array.min())), abs(float(array.max()))),
        voxel_sha256=digest.hexdigest(),
        modality=modality,
    )
