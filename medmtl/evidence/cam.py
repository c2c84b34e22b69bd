"""Class activation maps of a 3D feature map and its gradient.

Tensors: C channel, K J I voxel axes (slice axis first). The gradient is that of one finding's
logit. For all three methods a positive value says: more of this feature here, more of the finding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medmtl.core.errors import MedmtlError
from medmtl.core.geometry import Geometry
from medmtl.core.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "CAM_METHODS",
    "CamMethod",
    "activation_map",
    "cam_geometry",
    "cam_volume",
    "gradcam",
    "gradcam_plus_plus",
    "join_levels",
    "layercam",
]

CamMethod = Literal["gradcam", "gradcam++", "layercam"]


def gradcam(feature: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM: ReLU(sum_c mean(g_c) A_c).

    Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, equations 1 and 2.
    """
    weight = gradient.mean(dim=(1, 2, 3))
    return torch.einsum("c,ckji->kji", weight, feature).relu()


def gradcam_plus_plus(feature: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++: ReLU(sum_c w_c A_c), w_c = sum a_c ReLU(g_c), a_c = g^2 / (2 g^2 + sum(A_c) g^3).

    Chattopadhay et al. 2018, https://arxiv.org/abs/1710.11063, equations 10, 11 and 19, with the
    score's exponential as class score, whose common factor leaves a normalised map unchanged.
    The paper assumes features after a ReLU. With other activations sum(A_c) counts the positive
    part only, which keeps the denominator positive and is the same number for the paper's case.
    """
    positive = gradient.relu()
    total = feature.relu().sum(dim=(1, 2, 3), keepdim=True)
    # a ReLU(g) = g^3 / (2 g^2 + total g^3) where g > 0, which is g / (2 + total g).
    weight = (positive / (2.0 + total * positive)).sum(dim=(1, 2, 3))
    return torch.einsum("c,ckji->kji", weight, feature).relu()


def layercam(feature: Tensor, gradient: Tensor) -> Tensor:
    """LayerCAM: ReLU(sum_c ReLU(g_c) A_c), one weight for each voxel.

    Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943, equations 4 to 6.
    """
    return (gradient.relu() * feature).sum(dim=0).relu()


CAM_METHODS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "layercam": layercam,
}
"""Feature (C, K, J, I) and gradient of the same shape to a map (K, J, I), by name."""


def activation_map(feature: Tensor, gradient: Tensor, *, method: CamMethod) -> Tensor:
    """Where a feature map supports a finding.

    Args:
        feature: (C, K, J, I).
        gradient: (C, K, J, I), derivative of the finding's logit by `feature`.
        method: A key of CAM_METHODS.

    Returns:
        (K, J, I) float32, at least 0, not normalised.

    Raises:
        ValueError: If the shapes differ, are not (C, K, J, I), or the method is unknown.
        MedmtlError: If the map is not finite.
    """
    if feature.ndim != 4 or feature.shape != gradient.shape:
        shapes = f"{tuple(feature.shape)} and {tuple(gradient.shape)}"
        raise ValueError(f"Feature and gradient must both be (C, K, J, I). Found {shapes}.")
    if method not in CAM_METHODS:
        raise ValueError(f"CAM method must be one of {tuple(CAM_METHODS)}. Found {method!r}.")
    cam = CAM_METHODS[method](feature.detach().float(), gradient.detach().float())
    if not torch.isfinite(cam).all():
        message = (
            "The activation map is not finite: the network's features or their gradient overflow. "
            "Run without mixed precision, or switch activation maps off."
        )
        raise MedmtlError(message)
    return cam


def join_levels(
    volumes: Sequence[Sequence[Tensor]], shapes: Sequence[tuple[int, int, int]]
) -> list[Tensor]:
    """Join the maps of several levels of every volume of a study; volumes stay comparable.

    Each level counts equally: its strongest response over all volumes becomes 1, then the levels
    are averaged. A level that is zero everywhere has no say.

    Args:
        volumes: For each volume one (K', J', I') map per level, at least 0.
        shapes: (K, J, I) of the answer for each volume.

    Returns:
        One map (K, J, I) in 0..1 for each volume.

    Raises:
        ValueError: If a volume has no map, or not as many as the others.
    """
    counts = {len(levels) for levels in volumes}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"Every volume needs the same number of maps. Found {sorted(counts)}.")
    peaks = [max(float(cam.max()) for cam in level) for level in zip(*volumes, strict=True)]
    return [
        _mean_of_levels(levels, peaks, shape) for levels, shape in zip(volumes, shapes, strict=True)
    ]


def _mean_of_levels(
    levels: Sequence[Tensor], peaks: Sequence[float], shape: tuple[int, int, int]
) -> Tensor:
    used = [(cam, peak) for cam, peak in zip(levels, peaks, strict=True) if peak > 0]
    if not used:
        return torch.zeros(shape, device=levels[0].device)
    return torch.stack([_resize(cam / peak, shape) for cam, peak in used]).mean(dim=0)


def _resize(cam: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Largest value where the grid gets coarser, linear where it gets finer."""
    if tuple(cam.shape) == shape:
        return cam
    if cam.numel() > math.prod(shape):
        return nn.functional.adaptive_max_pool3d(cam[None], shape)[0]
    # Half-voxel centres keep the extent, as cam_geometry does.
    interpolate = nn.functional.interpolate
    return interpolate(cam[None, None], size=shape, mode="trilinear", align_corners=False)[0, 0]


def cam_geometry(network_geometry: Geometry, feature_shape_kji: Sequence[int]) -> Geometry:
    """Grid of a coarse map whose cells tile the same extent as the network grid.

    Args:
        network_geometry: Grid of the network's input, axes (i, j, k).
        feature_shape_kji: Shape (K', J', I') of the map.
    """
    shape = np.asarray(feature_shape_kji[::-1])
    cell_voxels = np.asarray(network_geometry.shape) / shape
    affine = network_geometry.affine_lps.copy()
    affine[:3, 3] += affine[:3, :3] @ (0.5 * cell_voxels - 0.5)
    affine[:3, :3] *= cell_voxels
    i, j, k = shape.tolist()
    return Geometry(shape=(i, j, k), affine_lps=affine)


def cam_volume(cam_kji: Tensor, network_geometry: Geometry, *, volume_id: str) -> Volume:
    """The map (K', J', I') as a volume on its own coarse grid, float32, array axes (i, j, k)."""
    array = cam_kji.detach().cpu().float().numpy().transpose(2, 1, 0)
    geometry = cam_geometry(network_geometry, tuple(cam_kji.shape))
    return Volume(array=array, geometry=geometry, id=volume_id)
