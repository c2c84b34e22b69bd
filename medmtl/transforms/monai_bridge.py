"""The one place where LPS (ours, DICOM) meets RAS (MONAI's MetaTensor)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from medmtl.core.geometry import LPS_TO_RAS, Geometry
from medmtl.core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

__all__ = ["from_metatensor", "to_metatensor"]


def to_metatensor(volume: Volume, further: Sequence[NDArray[Any]] = ()) -> Any:
    """A MetaTensor of shape (C, i, j, k), float32, whose affine maps to RAS mm.

    Args:
        volume: The first channel.
        further: The other channels on its grid.
    """
    from monai.data.meta_tensor import MetaTensor  # loads MONAI's data and transforms

    channels = np.stack([volume.array, *further], dtype=np.float32, casting="unsafe")
    affine = torch.from_numpy(volume.geometry.affine_ras.copy())
    return MetaTensor(torch.from_numpy(channels), affine=affine)


def from_metatensor(image: Any, *, id: str = "image", modality: str = "") -> Volume:
    """A Volume from a single-channel MetaTensor of shape (1, i, j, k) in RAS.

    Raises:
        ValueError: If it has more than one channel, or not three spatial axes.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(f"Expected shape (1, i, j, k). Found {tuple(image.shape)}.")
    array = image.as_tensor()[0].detach().cpu().numpy()
    affine = LPS_TO_RAS @ image.affine.detach().cpu().numpy().astype(np.float64)
    i, j, k = array.shape
    geometry = Geometry(shape=(i, j, k), affine_lps=affine)
    return Volume(array=array, geometry=geometry, id=id, modality=modality)
