"""Label maps on the source grid from logits on the network grid.

Axes: C class, K J I network axes (slice axis first).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.resample import parallel_axes, sample_axes
from medmtl.postprocess.class_values import ClassValues
from medmtl.postprocess.layers import fill_layer
from medmtl.postprocess.reach import Reach
from medmtl.postprocess.winners import Winners

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.resample import SampledAxis

__all__ = ["label_dtype", "restore_labels"]


def label_dtype(largest_label: int) -> type[np.uint8 | np.uint16]:
    """The smallest of uint8 and uint16 that holds the label.

    Raises:
        ValueError: If the label needs more than 16 bits.
    """
    if not 0 <= largest_label <= 65535:
        raise ValueError(f"Labels must lie in 0..65535. Found {largest_label}.")
    return np.uint8 if largest_label <= 255 else np.uint16


def restore_labels(
    logits_ckji: torch.Tensor | NDArray[Any],
    network_geometry: Geometry,
    source_geometry: Geometry,
    *,
    labels: Sequence[int] | None = None,
    is_rounded: bool = False,
) -> NDArray[Any]:
    """Interpolate logits (or probabilities) to the source grid and take the largest class.

    The label can only change near a boundary of the largest class on the network grid: where the
    corners of a cell agree, the label is copied (see `Winners.is_uniform`), elsewhere the few
    classes that may win are interpolated. The memory is that of the label map and of two bytes per
    network voxel, whatever the number of classes.

    Args:
        logits_ckji: Shape (C, K, J, I). What lies past the end of `network_geometry` is padding.
        network_geometry: Grid in (i, j, k) order on which `logits[c].transpose(2, 1, 0)` lies;
            source voxels outside its extent become background.
        source_geometry: Grid of the answer.
        labels: Voxel value of each class; 0, 1, 2, ... where not given. The first is background.
        is_rounded: Round what is interpolated to half precision, as nnU-Net does: where two classes
            are equal then, the first wins.

    Returns:
        Shape of the source grid, uint8, or uint16 where a label is above 255.

    Raises:
        ValueError: If the logits are smaller than the grid or the grids are oblique to each other.
    """
    values = _as_array(logits_ckji)
    i, j, k = network_geometry.shape
    if values.ndim != 4 or any(
        have < want for have, want in zip(values.shape[1:], (k, j, i), strict=True)
    ):
        raise ValueError(f"Logits {values.shape} do not cover the grid (C, {k}, {j}, {i}).")
    codes = np.arange(len(values)) if labels is None else np.asarray(labels)
    if len(codes) != len(values):
        raise ValueError(f"{len(codes)} labels do not name {len(values)} classes.")
    # k slowest, so that one plane is one piece of memory and the file is written in its own order
    dtype = label_dtype(int(codes.max()))
    label_map = np.full(source_geometry.shape[::-1], codes[0], dtype=dtype).T
    on_i, on_j, on_k = sample_axes(network_geometry, source_geometry)
    if min(on_i.lower.size, on_j.lower.size, on_k.lower.size) == 0:
        return label_map
    order = parallel_axes(network_geometry, source_geometry)
    along = ClassValues.along(values, shape=network_geometry.shape, order=order)
    inside = label_map[on_i.start : on_i.stop, on_j.start : on_j.stop, on_k.start : on_k.stop]
    axes = on_i, on_j, on_k
    _fill(along, codes.astype(dtype), axes, out_kji=inside.T, is_rounded=is_rounded)
    return label_map


def _fill(
    values: ClassValues,
    codes: NDArray[Any],
    axes: tuple[SampledAxis, SampledAxis, SampledAxis],
    *,
    out_kji: NDArray[Any],
    is_rounded: bool,
) -> None:
    """Fill `out_kji` layer by layer of the network grid, as many at a time as torch has threads."""
    reach = Reach.empty(values.ckji)
    layers = np.unique(axes[2].lower)
    needed = np.unique(np.concatenate([layers, axes[2].upper]))
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:

        def each(planes: NDArray[np.intp], step: Callable[[int], None]) -> None:
            for _ in pool.map(step, planes.tolist()):
                pass

        each(needed, lambda k: reach.fill(values.ckji, k))
        reach.settle()
        winners = Winners.empty(reach, values.ckji.shape[1:], is_rounded=is_rounded)
        each(needed, lambda k: winners.fill(values.ckji, reach, k))
        each(layers, lambda k: fill_layer(values, winners, reach, k, codes, axes, out_kji=out_kji))


def _as_array(values: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return values
    # NumPy knows no bfloat16
    tensor = values.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
