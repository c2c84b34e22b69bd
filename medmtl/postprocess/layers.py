"""One layer of cells of the network grid, restored on all planes of the source grid inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medmtl.postprocess.cells import CellBlock, blocks_of_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.resample import SampledAxis
    from medmtl.postprocess.class_values import ClassValues
    from medmtl.postprocess.reach import Reach
    from medmtl.postprocess.winners import Winners

__all__ = ["fill_layer"]

Axes = tuple["SampledAxis", "SampledAxis", "SampledAxis"]


def fill_layer(
    values: ClassValues,
    winners: Winners,
    reach: Reach,
    k: int,
    codes: NDArray[Any],
    axes: Axes,
    *,
    out_kji: NDArray[Any],
) -> None:
    """Write the labels of the planes that lie between the network's planes `k` and the next.

    Args:
        values: On the network grid.
        winners: Of `values`, filled for `k` and the next plane.
        reach: Of `values`, likewise.
        k: Layer.
        codes: Label of each class.
        axes: Where the source's voxels (i, j, k) fall on the network grid.
        out_kji: Labels on the source grid.
    """
    on_i, on_j, on_k = axes
    copied = codes[winners.best[k]].take(on_j.lower, axis=0).take(on_i.lower, axis=1)
    planes = np.flatnonzero(on_k.lower == k)
    for plane in planes:
        out_kji[plane] = copied
    is_open = ~winners.is_uniform(k)
    voxels = is_open.take(on_j.lower, axis=0).take(on_i.lower, axis=1).nonzero()
    if voxels[0].size == 0:
        return
    number, cells_ji = _cells(is_open, on_j.lower[voxels[0]], on_i.lower[voxels[1]])
    order = np.argsort(number, kind="stable")  # the voxels of a block of cells are a run
    number, j, i = number[order], voxels[0][order], voxels[1][order]
    for block in blocks_of_cells(values, winners, reach, k, cells_ji):
        run = slice(*np.searchsorted(number, [block.numbers.start, block.numbers.stop]))
        here = number[run] - block.numbers.start
        weights = on_j.weight[j[run]], on_i.weight[i[run]]
        labels = _largest(block, here, weights, on_k.weight[planes], is_rounded=winners.is_rounded)
        for plane, plane_labels in zip(planes, labels, strict=True):
            out_kji[plane, j[run], i[run]] = codes[block.classes[plane_labels]]


def _cells(
    is_open: NDArray[np.bool_], j: NDArray[np.intp], i: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The number of each voxel's cell, and the lower corners (2, M) of the cells in that order."""
    has_voxel = np.zeros_like(is_open)
    has_voxel[j, i] = True
    cells_ji = np.stack(has_voxel.nonzero())
    numbers = np.empty(is_open.shape, dtype=np.intp)
    numbers[cells_ji[0], cells_ji[1]] = np.arange(cells_ji.shape[1])
    return numbers[j, i], cells_ji


def _largest(
    block: CellBlock,
    cell: NDArray[np.intp],
    weights_ji: tuple[NDArray[np.float32], NDArray[np.float32]],
    weights_k: NDArray[np.float32],
    *,
    is_rounded: bool,
) -> NDArray[np.intp]:
    """Row (planes, N) of the largest class of N places in their cells; the first of equals."""
    best = np.full((weights_k.size, cell.size), -np.inf, dtype=np.float32)
    winner = np.zeros(best.shape, dtype=block.candidates.dtype)
    for rank in range(block.candidates.shape[1]):
        of_cell = block.candidates[:, rank]
        of_place = of_cell[cell]
        places = np.flatnonzero(of_place >= 0)
        corners = block.corners[of_cell, :, np.arange(of_cell.size)].T
        near, far = _in_plane(
            np.ascontiguousarray(corners), cell[places], [weight[places] for weight in weights_ji]
        )
        far -= near
        for plane, weight in enumerate(weights_k):
            value = far * weight
            value += near
            if is_rounded:
                value = torch.from_numpy(value).half().float().numpy()  # NumPy's is slow
            wins = value > best[plane, places]
            won = places[wins]
            best[plane, won] = value[wins]
            winner[plane, won] = of_place[won]
    return winner


def _in_plane(
    corners: NDArray[np.float32],
    cell: NDArray[np.intp],
    weights_ji: Sequence[NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values on the two planes of a layer, along i, then along j: as `SlabInterpolator` does it."""
    on_j, on_i = weights_ji
    edges = [
        _between(corners[low].take(cell), corners[low + 1].take(cell), on_i) for low in (0, 2, 4, 6)
    ]
    return _between(edges[0], edges[1], on_j), _between(edges[2], edges[3], on_j)


def _between(
    low: NDArray[np.float32], high: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    high -= low
    high *= weight
    high += low
    return high
