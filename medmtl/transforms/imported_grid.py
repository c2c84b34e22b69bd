"""The preprocessing of an imported network, seen as medmtl's own: arrays (K, J, I) on a geometry.

Masks and findings of one study meet on this grid; the steps stay those of the import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medmtl.core.resample import nearest
from medmtl.transforms.monai_bridge import from_metatensor, to_metatensor
from medmtl.transforms.monai_plan import IMAGE
from medmtl.transforms.orient import AxisPlan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume
    from medmtl.transforms.monai_plan import MonaiPreprocessing
    from medmtl.transforms.plans import PlansPreprocessing

__all__ = ["GridInput", "ImportedGrid", "MonaiGrid"]


@dataclass(frozen=True, eq=False)
class GridInput:
    """A volume on the grid of an imported network.

    Attributes:
        array_kji: Normalised float32 (K, J, I), a view with the axes turned.
        geometry: Of `array_kji.transpose(2, 1, 0)`.
        source_geometry: Of the volume.
        source: What the import's own preprocessing gave: a `PlansInput`, or MONAI's image.
    """

    array_kji: NDArray[np.float32]
    geometry: Geometry
    source_geometry: Geometry
    source: Any

    @property
    def content_geometry(self) -> Geometry:
        """The grid without padding; it has none."""
        return self.geometry


class ImportedGrid:
    """Applies the preprocessing of an import.

    Args:
        settings: As stored in the bundle.
    """

    def __init__(self, settings: PlansPreprocessing) -> None:
        self.settings = settings

    def apply(self, volume: Volume) -> GridInput:
        """Take a volume to the network grid.

        Raises:
            InputRefusedError: As the import's own preprocessing.
        """
        prepared = self.settings.apply(volume)
        back = [self.settings.transpose.index(axis) for axis in range(3)]
        # The axes of its geometry run the other way: (C, B, A).
        i, j, k = (2 - at for at in reversed(back))
        turned = AxisPlan(order=(i, j, k), is_flipped=(False, False, False))
        geometry = turned.apply_geometry(prepared.geometry)
        array = prepared.array_cabc[0].transpose(back)
        return GridInput(array, geometry, volume.geometry, prepared)

    def apply_labels(self, label_map: NDArray[Any], prepared: GridInput) -> NDArray[Any]:
        """See `labels_on_grid`."""
        return labels_on_grid(label_map, prepared)


class MonaiGrid:
    """Applies the transforms of a MONAI bundle; its arrays lie (i, j, k) on the grid.

    Args:
        settings: As stored in the bundle.
    """

    axes = (2, 1, 0)

    def __init__(self, settings: MonaiPreprocessing) -> None:
        self.transforms = settings.build()

    def apply(self, volume: Volume) -> GridInput:
        """Take a volume to the network grid."""
        image = self.transforms({IMAGE: to_metatensor(volume)})[IMAGE]
        on_grid = from_metatensor(image)
        array = on_grid.array.transpose(2, 1, 0)
        return GridInput(array, on_grid.geometry, volume.geometry, image)

    def apply_labels(self, label_map: NDArray[Any], prepared: GridInput) -> NDArray[Any]:
        """See `labels_on_grid`."""
        return labels_on_grid(label_map, prepared)


def labels_on_grid(label_map: NDArray[Any], prepared: GridInput) -> NDArray[Any]:
    """Labels (i, j, k) of the source grid on the network grid (K, J, I), nearest.

    Raises:
        ValueError: If the label map is not on the source grid.
    """
    if tuple(label_map.shape) != prepared.source_geometry.shape:
        message = f"Label map {label_map.shape} is not on {prepared.source_geometry.shape}."
        raise ValueError(message)
    return nearest(label_map, prepared.source_geometry, prepared.geometry).transpose(2, 1, 0)
