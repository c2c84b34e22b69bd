"""Are the predicted masks believable? Flags after the network, one volume at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from medmtl.core.flags import Flag
from medmtl.core.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema, SegmentSpec
    from medmtl.core.prediction import SegmentResult
    from medmtl.core.runs import Box

__all__ = ["MaskRules", "check_masks"]

_AXIS_NAMES = ("column", "row", "slice")
_PLACES = ("first", "last")
_PIECE_VOXELS = 2**21


class MaskRules(BaseModel):
    """What counts as implausible; part of the bundle.

    Attributes:
        border_axes: Array axes (i, j, k) at whose ends an organ must not be cut. A short-axis
            stack ends inside the atria by design, so there only the in-plane axes (0, 1) count.
        may_be_cut: Segments that any field of view cuts, such as bones.
        may_be_pieces: Segments of which several pieces are normal, such as ribs.
        max_border_section: Largest cross-section at the border, relative to the organ's largest.
        max_extra_piece: Largest second piece, relative to the whole segment.
        widen: By how much of itself the range `expected_ml` grows at both ends.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    border_axes: tuple[Literal[0, 1, 2], ...] = (0, 1, 2)
    may_be_cut: tuple[str, ...] = ()
    may_be_pieces: tuple[str, ...] = ()
    max_border_section: float = Field(default=0.1, ge=0, le=1)
    max_extra_piece: float = Field(default=0.1, ge=0, le=1)
    widen: float = Field(default=0.25, ge=0)


def check_masks(
    schema: LabelSchema,
    label_map: NDArray[Any],
    *,
    segments: Sequence[SegmentResult],
    rules: MaskRules | None = None,
    runs: Runs | None = None,
) -> tuple[Flag, ...]:
    """Flags of one volume's masks; lesions are left out, for none or many of them are normal.

    Codes: segment-empty, volume-implausible, segment-cut-off, segment-fragmented.

    Args:
        schema: Segments of the model.
        label_map: Shape (i, j, k), on the source grid.
        segments: Results of this volume only.
        rules: Limits; the defaults where not given.
        runs: Of the label map, where they are known.
    """
    rules = rules or MaskRules()
    results = {segment.name: segment for segment in segments}
    boxes = (runs or Runs.of_volume(label_map)).boxes()
    flags: list[Flag] = []
    for spec in schema.segments:
        if spec.is_lesion or spec.name not in results:
            continue
        result = results[spec.name]
        flags += _volume_flags(spec, result, rules)
        box = boxes.get(spec.label)
        is_free = spec.name in rules.may_be_cut and spec.name in rules.may_be_pieces
        if box is not None and not is_free:
            mask = label_map[box] == spec.label
            flags += _border_flags(spec, result.volume, mask, box, label_map.shape, rules)
            flags += _piece_flags(spec, result.volume, mask, rules)
    return tuple(flags)


def _volume_flags(spec: SegmentSpec, result: SegmentResult, rules: MaskRules) -> Iterator[Flag]:
    if result.voxels == 0:
        yield Flag(
            "segment-empty",
            "warning",
            f"Volume {result.volume}: {spec.name} was not found. Findings and measurements that "
            "need it are unreliable; check that the image shows it.",
        )
        return
    if spec.expected_ml is None:
        return
    low, high = spec.expected_ml[0] / (1 + rules.widen), spec.expected_ml[1] * (1 + rules.widen)
    if not low <= result.volume_ml <= high:
        yield Flag(
            "volume-implausible",
            "warning",
            f"Volume {result.volume}: {spec.name} has {result.volume_ml:.1f} mL, expected is "
            f"{low:.1f} to {high:.1f} mL. Check the mask before using the number.",
        )


def _border_flags(
    spec: SegmentSpec,
    volume: str,
    mask: NDArray[np.bool_],
    box: Box,
    shape: tuple[int, ...],
    rules: MaskRules,
) -> Iterator[Flag]:
    if spec.name in rules.may_be_cut:
        return
    for axis in rules.border_axes:
        is_at_border = (box[axis].start == 0, box[axis].stop == shape[axis])
        if not any(is_at_border):
            continue
        across = tuple(other for other in range(3) if other != axis)
        sections = np.count_nonzero(mask, axis=across)
        for place, touches, end in zip(_PLACES, is_at_border, (0, -1), strict=True):
            share = float(sections[end] / sections.max())
            if touches and share > rules.max_border_section:
                yield Flag(
                    "segment-cut-off",
                    "warning",
                    f"Volume {volume}: {spec.name} is cut off at the {place} {_AXIS_NAMES[axis]} "
                    f"({100 * share:.0f} % of its largest section lies there). Its volume is too "
                    "small; use an image that shows all of it.",
                )


def _piece_flags(
    spec: SegmentSpec, volume: str, mask: NDArray[np.bool_], rules: MaskRules
) -> Iterator[Flag]:
    if spec.name in rules.may_be_pieces:
        return
    pieces, count = ndimage.label(_coarse(mask).T, structure=np.ones((3, 3, 3)))
    if count < 2:
        return
    sizes = np.sort(np.bincount(pieces.ravel())[1:])
    share = float(sizes[-2] / sizes.sum())
    if share > rules.max_extra_piece:
        yield Flag(
            "segment-fragmented",
            "warning",
            f"Volume {volume}: {spec.name} is in {count} pieces, the second holds "
            f"{100 * share:.0f} % of it. One of them is probably another structure.",
        )


def _coarse(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A large mask in blocks that are true where any voxel is, so no thin bridge is lost."""
    step = int(np.ceil((mask.size / _PIECE_VOXELS) ** (1 / 3)))
    for axis in range(3) if step > 1 else ():
        mask = np.logical_or.reduceat(mask, np.arange(0, mask.shape[axis], step), axis=axis)
    return mask
