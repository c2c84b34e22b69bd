"""From the labels of a manifest to those of a network, by name.

Several manifests mix in one run. A segment or finding that a manifest does not have is unknown
there; a segment that only the manifest has is background to the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.mask_rules import label_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema

__all__ = ["LabelMapping"]


class LabelMapping:
    """How the label maps of one volume become label maps of the network.

    Args:
        schema: Of the manifest.
        annotated: Names of the segments that were looked for in the volume.
        segments: Of the network, in label order.
    """

    def __init__(
        self, schema: LabelSchema, *, annotated: Sequence[str], segments: Sequence[str]
    ) -> None:
        self.is_annotated = tuple(name in annotated for name in segments)
        self.values: dict[int, int] = {0: 0}
        """Network label of each label that may occur; what was not looked for is background."""
        for segment in schema.segments:
            is_wanted = segment.name in segments and segment.name in annotated
            self.values[segment.label] = segments.index(segment.name) + 1 if is_wanted else 0

    def __repr__(self) -> str:
        return f"LabelMapping({self.values}, is_annotated={self.is_annotated})"

    def apply(self, label_map: NDArray[Any], *, source: str) -> NDArray[np.uint8]:
        """The label map with the network's labels.

        Args:
            label_map: Any shape, any real dtype.
            source: The file, for the refusal.

        Raises:
            InputRefusedError: If it holds a value that the manifest's schema does not name.
        """
        found, place = np.unique(label_map, return_inverse=True)
        if refusal := label_refusal(found.tolist(), self.values, source=source, stage="preprocess"):
            raise refusal
        table = np.array([self.values[int(value)] for value in found.tolist()], dtype=np.uint8)
        return np.asarray(table[place].reshape(label_map.shape))
