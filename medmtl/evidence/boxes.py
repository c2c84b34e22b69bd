"""Bounding boxes of labels, in one pass over the label map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Box", "label_boxes"]

Box: TypeAlias = tuple[slice, slice, slice]


def label_boxes(label_map: NDArray[Any]) -> dict[int, Box]:
    """The smallest box (i, j, k) around each label that occurs, 0 left out.

    Reads the array in the order of its memory: against it, a CT takes ten times as long.
    """
    if label_map.flags.f_contiguous:
        found = [box[::-1] if box else None for box in ndimage.find_objects(label_map.T)]
    else:
        found = ndimage.find_objects(label_map)
    return {label: box for label, box in enumerate(found, start=1) if box is not None}
