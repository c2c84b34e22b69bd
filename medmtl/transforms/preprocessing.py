"""The one preprocessing that training and inference share.

Order of the steps: orient (exact), crop, clip the intensities on the source's own voxels,
resample, normalise, pad.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.errors import InputRefusedError
from medmtl.core.resample import nearest
from medmtl.transforms.grid_steps import GridSteps, plan_steps
from medmtl.transforms.settings import (
    ForegroundCrop,
    PreprocessingConfig,
    RobustZScore,
    WindowHU,
    config_hash,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = [
    "ForegroundCrop",
    "NetworkInput",
    "Preprocessing",
    "PreprocessingConfig",
    "RobustZScore",
    "WindowHU",
    "config_hash",
]


@dataclass(frozen=True, eq=False)
class NetworkInput:
    """A volume as the network sees it.

    Attributes:
        array_kji: Normalised float32, shape (K, J, I), padded at the end of each axis;
            `array_kji.transpose(2, 1, 0)` lies on `geometry`.
        geometry: Network grid in (i, j, k) order, with its padding.
        content_geometry: The same grid without its padding.
        source_geometry: Grid of the volume it was made from.
        steps: What was done, for labels and for the way back.
    """

    array_kji: NDArray[np.float32]
    geometry: Geometry
    content_geometry: Geometry
    source_geometry: Geometry
    steps: GridSteps

    def restore_labels(
        self, labels_kji: NDArray[Any], source_geometry: Geometry | None = None
    ) -> NDArray[Any]:
        """Bring integer labels to the source grid, each voxel taking its nearest label.

        From logits use `medmtl.postprocess.restore.restore_labels`, which is smoother.

        Args:
            labels_kji: Shape (K, J, I) of the network grid; same dtype as the answer.
            source_geometry: Another grid parallel to the source's, by default the source's own.

        Returns:
            Labels on the source grid; 0 outside the cropped region.
        """
        i, j, k = self.content_geometry.shape
        content = labels_kji[:k, :j, :i].T
        return nearest(content, self.content_geometry, source_geometry or self.source_geometry)


class Preprocessing:
    """Applies a `PreprocessingConfig`.

    Args:
        config: The settings, as stored in a model bundle.
    """

    def __init__(self, config: PreprocessingConfig) -> None:
        self.config = config

    def __repr__(self) -> str:
        return f"Preprocessing({self.config!r})"

    def apply(self, volume: Volume) -> NetworkInput:
        """Take a volume to the network grid.

        Raises:
            InputRefusedError: If the volume has non-finite values, no contrast at all (z-score),
                or a grid that becomes unreasonably large.
        """
        _check_finite(volume)
        steps = plan_steps(volume.array, volume.geometry, self.config, source=f"volume {volume.id}")
        low, high = self._limits(steps.view_kji(volume.array))

        def clip(slab: NDArray[Any]) -> NDArray[np.float32]:
            return np.clip(slab.astype(np.float32), np.float32(low), np.float32(high))

        content = self._normalise(steps.resample(volume.array, clip), volume.id).numpy()
        minimum = -1.0 if isinstance(self.config.intensity, WindowHU) else float(content.min())
        return NetworkInput(
            array_kji=steps.pad(content, minimum),
            geometry=steps.geometry,
            content_geometry=steps.content_geometry,
            source_geometry=volume.geometry,
            steps=steps,
        )

    def apply_labels(self, label_map: NDArray[Any], prepared: NetworkInput) -> NDArray[Any]:
        """Take a label map of the same source grid to the network grid, for training.

        Each class is resampled linearly as a mask and the largest wins, one class at a time.

        Args:
            label_map: Shape (i, j, k) of the source grid, integers.
            prepared: What `apply` gave for the volume.

        Returns:
            Shape (K, J, I) of the network grid, dtype of `label_map`; padding is 0.

        Raises:
            ValueError: If the label map is not on the source grid.
        """
        if tuple(label_map.shape) != prepared.source_geometry.shape:
            message = f"Label map {label_map.shape} is not on {prepared.source_geometry.shape}."
            raise ValueError(message)
        steps = prepared.steps
        i, j, k = steps.resize.new
        best = torch.full((k, j, i), -1.0)
        labels = np.zeros((k, j, i), dtype=label_map.dtype)
        for value in np.unique(label_map):
            share = steps.resample(label_map, partial(_mask, value=value))
            labels[(share > best).numpy()] = value
            best = torch.maximum(best, share)
        return steps.pad(labels, 0)

    def _limits(self, view_kji: NDArray[Any]) -> tuple[float, float]:
        intensity = self.config.intensity
        if isinstance(intensity, WindowHU):
            return intensity.low_hu, intensity.high_hu
        percentiles = [intensity.low_percentile, intensity.high_percentile]
        low, high = np.percentile(view_kji, percentiles)
        return float(low), float(high)

    def _normalise(self, values_kji: torch.Tensor, volume_id: str) -> torch.Tensor:
        intensity = self.config.intensity
        if isinstance(intensity, WindowHU):
            width = intensity.high_hu - intensity.low_hu
            return values_kji.sub_(intensity.low_hu).mul_(2.0 / width).sub_(1.0)
        mean = values_kji.mean()
        deviation = float(values_kji.std()) if values_kji.numel() > 1 else 0.0
        if deviation == 0.0:
            raise InputRefusedError(
                f"volume {volume_id}",
                stage="preprocess",
                code="no-contrast",
                found=f"the same value {float(mean):g} in every voxel",
                expected="an image with contrast",
                advice="Check that the series holds the image itself and not a blank or a mask.",
            )
        return values_kji.sub_(mean).div_(deviation)


def _mask(slab: NDArray[Any], value: Any) -> NDArray[np.float32]:
    return np.asarray(slab == value, dtype=np.float32)


def _check_finite(volume: Volume) -> None:
    if not np.issubdtype(volume.array.dtype, np.floating):
        return
    bad = sum(
        int(np.count_nonzero(~np.isfinite(volume.array[:, :, k])))
        for k in range(volume.geometry.shape[2])
    )
    if bad:
        raise InputRefusedError(
            f"volume {volume.id}",
            stage="preprocess",
            code="non-finite-values",
            found=f"{bad} voxels that are NaN or infinite",
            expected="finite intensities",
            advice="Repair or re-export the image.",
        )
