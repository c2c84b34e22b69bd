"""Connected pieces of a label map: keep what can be an organ, remove small islands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat

from medmtl.core.runs import Runs
from medmtl.postprocess.pieces import connected_pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.labels import LabelSchema, SegmentSpec

__all__ = ["ComponentRules", "clean_components"]


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
) -> tuple[NDArray[Any], Runs]:
    """The label map without the pieces that the rules reject, and its runs.

    They become background; voxels that share a corner are connected. A map that lies in memory as
    in a file, i fastest, is changed in place: a second one is what takes longest.

    Args:
        label_map: Shape (i, j, k), unsigned integers. Given up.
        geometry: Its grid.
        schema: Segments of the model.
        rules: What stays.
    """
    label_map_kji = np.ascontiguousarray(label_map.T)
    if rules.is_one_organ:
        _clear_all_but_largest(label_map_kji)
    runs = Runs.of(label_map_kji)
    piece, voxels = connected_pieces(runs)
    label_of_piece = np.zeros(len(voxels), dtype=runs.label.dtype)
    label_of_piece[piece] = runs.label
    is_rejected = np.zeros(len(voxels), dtype=bool)
    for spec in schema.segments:
        own = np.flatnonzero(label_of_piece == spec.label)
        if own.size:
            sizes_ml = voxels[own].astype(np.float64) * (geometry.voxel_mm3 / 1000)
            is_rejected[own] = _rejected(spec, sizes_ml, rules)
    is_cleared = is_rejected[piece]
    runs.clear(label_map_kji, is_cleared)
    return label_map_kji.T, runs.only(~is_cleared)


def _clear_all_but_largest(label_map: NDArray[Any]) -> None:
    runs = Runs.of((label_map > 0).view(np.uint8))
    piece, voxels = connected_pieces(runs)
    if len(voxels) > 1:
        runs.clear(label_map, piece != voxels.argmax())


def _rejected(
    spec: SegmentSpec, sizes_ml: NDArray[np.float64], rules: ComponentRules
) -> NDArray[np.bool_]:
    if spec.is_lesion:
        return np.asarray(sizes_ml < rules.min_lesion_ml)
    if spec.name in rules.keep_largest:
        return np.asarray(np.arange(sizes_ml.size) != sizes_ml.argmax())
    return np.asarray(sizes_ml < rules.min_share * sizes_ml.max())
