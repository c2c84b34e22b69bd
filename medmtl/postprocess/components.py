"""Connected pieces of a label map: keep what can be an organ, remove small islands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema, SegmentSpec

__all__ = ["ComponentRules", "clean_components"]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


class ComponentRules(BaseModel):
    """Which pieces stay; part of the bundle.

    Attributes:
        is_one_organ: Whether all segments together are one connected organ, such as the heart:
            pieces apart from its largest go first, whatever their segment.
        keep_largest: Segments of which only the largest piece stays.
        min_share: Pieces of other organs below this share of the organ's largest piece go.
            Paired organs under one label (lungs, kidneys) need it well below 1.
        min_lesion_ml: Pieces of lesions below this volume go.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    is_one_organ: bool = False
    keep_largest: tuple[str, ...] = ()
    min_share: float = Field(default=0.0, ge=0, le=1)
    min_lesion_ml: NonNegativeFloat = 0.0


def clean_components(
    label_map: NDArray[Any], geometry: Geometry, schema: LabelSchema, *, rules: ComponentRules
) -> NDArray[Any]:
    """A copy of the label map without the pieces that the rules reject; they become background.

    Voxels that share a corner are connected.

    Args:
        label_map: Shape (i, j, k), unsigned integers.
        geometry: Its grid.
        schema: Segments of the model.
        rules: What stays.
    """
    cleaned = label_map.copy(order="K")
    in_memory_order = cleaned.T if cleaned.flags.f_contiguous else cleaned  # ten times as fast
    if rules.is_one_organ:
        _clear_all_but_largest(in_memory_order)
    boxes = ndimage.find_objects(in_memory_order)
    for spec in schema.segments:
        box = boxes[spec.label - 1] if spec.label <= len(boxes) else None
        if box is not None:
            _clean(in_memory_order[box], spec, geometry.voxel_mm3 / 1000, rules)
    return cleaned


def _clear_all_but_largest(label_map: NDArray[Any]) -> None:
    pieces, count = ndimage.label(label_map > 0, structure=_TOUCHING)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        label_map[pieces != 1 + sizes[1:].argmax()] = 0


def _clean(region: NDArray[Any], spec: SegmentSpec, voxel_ml: float, rules: ComponentRules) -> None:
    """Clear the rejected pieces of one segment in place, plane by plane to save memory."""
    pieces, count = ndimage.label(region == spec.label, structure=_TOUCHING)
    if count == 1 and not spec.is_lesion:
        return
    voxels = np.zeros(count + 1, dtype=np.int64)
    for plane in pieces:
        voxels += np.bincount(plane.ravel(), minlength=count + 1)
    is_rejected = np.concatenate([[False], _rejected(spec, voxels[1:] * voxel_ml, rules)])
    if is_rejected.any():
        for labels, plane in zip(region, pieces, strict=True):
            labels[is_rejected[plane]] = 0


def _rejected(
    spec: SegmentSpec, sizes_ml: NDArray[np.float64], rules: ComponentRules
) -> NDArray[np.bool_]:
    if spec.is_lesion:
        return np.asarray(sizes_ml < rules.min_lesion_ml)
    if spec.name in rules.keep_largest:
        return np.asarray(np.arange(sizes_ml.size) != sizes_ml.argmax())
    return np.asarray(sizes_ml < rules.min_share * sizes_ml.max())
