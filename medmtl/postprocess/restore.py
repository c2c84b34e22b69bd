"""Label maps on the source grid from logits on the network grid.

Axes: C class, K J I network axes (slice axis first).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.core.resample import SlabInterpolator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

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
) -> NDArray[Any]:
    """Interpolate logits (or probabilities) to the source grid and take the largest class.

    Works slab by slab along the source's third axis with a running maximum over the classes, so
    the memory is that of the label map plus a few slabs, whatever the number of classes.

    Args:
        logits_ckji: Shape (C, K, J, I). What lies past the end of `network_geometry` is padding.
        network_geometry: Grid in (i, j, k) order on which `logits[c].transpose(2, 1, 0)` lies;
            source voxels outside its extent become background.
        source_geometry: Grid of the answer.
        labels: Voxel value of each class; 0, 1, 2, ... where not given. The first is background.

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
    classes = [values[c, :k, :j, :i].T for c in range(values.shape[0])]
    codes = tuple(range(len(classes))) if labels is None else tuple(labels)
    if len(codes) != len(classes):
        raise ValueError(f"{len(codes)} labels do not name {len(classes)} classes.")
    # k slowest, so that one slab is one piece of memory and the file is written in its own order
    label_map = np.full(source_geometry.shape[::-1], codes[0], dtype=label_dtype(max(codes))).T
    box = _foreground_box(classes)
    if box is None:
        return label_map
    near, grid = [values[box] for values in classes], network_geometry.crop(box)
    inside = SlabInterpolator(grid, source_geometry).inside
    if min(part.stop - part.start for part in inside) == 0:
        return label_map
    _fill(near, codes, grid, source_geometry.crop(inside), out=label_map[inside])
    return label_map


def _foreground_box(classes: Sequence[NDArray[Any]]) -> tuple[slice, slice, slice] | None:
    """Where background is not the largest class, and one voxel around; None where nowhere.

    Interpolated between voxels where background is largest, background is largest: leaving the
    rest out changes no voxel.
    """
    foreground = np.zeros(classes[0].shape[::-1], dtype=bool).T
    for values in classes[1:]:
        np.logical_or(foreground, values > classes[0], out=foreground)
    index = [np.flatnonzero(foreground.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if index[0].size == 0:
        return None
    sizes: tuple[int, ...] = foreground.shape
    i, j, k = (
        slice(max(0, int(at[0]) - 1), min(size, int(at[-1]) + 2))
        for at, size in zip(index, sizes, strict=True)
    )
    return i, j, k


def _fill(
    classes: Sequence[NDArray[Any]],
    codes: Sequence[int],
    grid: Geometry,
    target: Geometry,
    *,
    out: NDArray[Any],
) -> None:
    """Fill `out` slab by slab, as many slabs at a time as torch has threads."""
    interpolator = SlabInterpolator(grid, target, outside=-np.inf)

    def fill(planes: slice) -> None:
        _largest_class(classes, codes, interpolator, planes, out=out[:, :, planes])

    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        for done in [pool.submit(fill, planes) for planes in interpolator.planes()]:
            done.result()


def _largest_class(
    classes: Sequence[NDArray[Any]],
    codes: Sequence[int],
    interpolator: SlabInterpolator,
    planes: slice,
    *,
    out: NDArray[Any],
) -> None:
    """Write the label of the largest class of one slab into `out`; ties go to the first class."""
    best = interpolator.slab(classes[0], planes)
    for values, code in zip(classes[1:], codes[1:], strict=True):
        candidate = interpolator.slab(values, planes)
        np.copyto(out, code, where=candidate > best)
        np.maximum(best, candidate, out=best)


def _as_array(values: torch.Tensor | NDArray[Any]) -> NDArray[Any]:
    if not isinstance(values, torch.Tensor):
        return values
    # NumPy knows no bfloat16
    tensor = values.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
