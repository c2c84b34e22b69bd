"""Activation maps of findings whose masks are read slab by slab: the memory is that of a slab.

The diagnosis reads the masks through sums only, so the gradient of a finding by those sums and by
the feature maps is taken once, and carried to the voxels of the masks slab by slab.
Tensors: B batch, C class (background first), F finding, K J I voxel axes of the network grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medmtl.evidence.cam import activation_map, join_levels
from medmtl.inference.cores import on_each_core
from medmtl.networks.mask_reading import probabilities_of, slab_places
from medmtl.networks.measurements import TorsoSums, firm_slope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from medmtl.evidence.cam import CamMethod
    from medmtl.networks.joint import JointNet
    from medmtl.networks.mask_reading import MaskReading
    from medmtl.networks.measurements import TorsoMeasurements

__all__ = ["ReadVolume", "finding_maps", "map_shape"]

CAM_GRID_FACTOR = 4
"""In-plane step of an activation map in voxels of the network grid."""


def map_shape(grid: Sequence[int]) -> tuple[int, int, int]:
    """In plane a map is coarser than the network grid by CAM_GRID_FACTOR."""
    k, j, i = grid
    return k, max(1, j // CAM_GRID_FACTOR), max(1, i // CAM_GRID_FACTOR)


@dataclass(frozen=True, eq=False)
class ReadVolume:
    """One volume as the network left it.

    Attributes:
        features: Of `JointNet.encode`; a map that is not read may be empty.
        logits: (1, C, K, J, I).
        reading: What the diagnosis reads of its masks.
    """

    features: list[Tensor]
    logits: Tensor
    reading: MaskReading


def finding_maps(
    net: JointNet,
    volumes: Sequence[ReadVolume],
    *,
    findings: Sequence[int],
    method: CamMethod,
    shown: Sequence[int],
    spacing_mm: Tensor,
    covariates: dict[str, Tensor],
) -> dict[int, list[Tensor]]:
    """One map (K, J', I') in 0..1 per volume by finding, comparable between volumes.

    Each is the mean of the maps of the chosen encoder levels and of that of the masks, through
    which the measurements speak.

    Args:
        net: In evaluation mode, with `slab_measure` or without measurements.
        volumes: All of the study.
        findings: Indices of the findings.
        method: Of the maps of the encoder levels; the masks have LayerCAM.
        shown: Those levels.
        spacing_mm: (1, V, 3) along (K, J, I).
        covariates: Of the study.

    Raises:
        ValueError: If the network has no findings.
    """
    with torch.enable_grad():
        leaves = [_Leaves.of(net, volume, shown) for volume in volumes]
        logits = _score(net, leaves, spacing_mm=spacing_mm, covariates=covariates)
    # The gradient of a feature map is as large as the map: each finding's goes before the next.
    maps, slopes = [], []
    for index in findings:
        found = _slopes(logits[0, index], leaves)
        maps.append([_level_maps(*both, method) for both in zip(leaves, found, strict=True)])
        slopes.append([replace(slope, levels=[]) for slope in found])
    measure = net.slab_measure
    for number, volume in enumerate(volumes):
        own = [one[number] for one in slopes]
        masks = _mask_maps(volume, own, measure if number == 0 else None)
        for of_finding, mask in zip(maps, masks, strict=True):
            of_finding[number].append(mask)
    shapes = [map_shape(volume.logits.shape[2:]) for volume in volumes]
    return {index: join_levels(one, shapes) for index, one in zip(findings, maps, strict=True)}


@dataclass(frozen=True, eq=False)
class _Leaves:
    """Where gradients end, or those gradients.

    Attributes:
        levels: The encoder levels of the maps.
        coarse: Mean probabilities on the grid of the pooling; None where none are pooled.
        sums: What the measurements read; None where nothing is measured.
        features: All that the diagnosis pools, the levels in their places.
    """

    levels: list[Tensor]
    coarse: Tensor | None
    sums: TorsoSums | None
    features: list[Tensor]

    @classmethod
    def of(cls, net: JointNet, volume: ReadVolume, shown: Sequence[int]) -> _Leaves:
        """Of one volume."""
        features = list(volume.features)
        depth = len(net.diagnosis_features(features))
        levels = []
        for level in shown:
            place = len(features) - depth + level % depth
            features[place] = features[place].detach().requires_grad_()
            levels.append(features[place])
        coarse, sums = volume.reading.coarse, volume.reading.sums
        if coarse is not None:
            coarse = coarse.detach().requires_grad_()
        if sums is not None:
            firm, columns = sums.firm_voxels.detach(), sums.columns.detach()
            sums = TorsoSums(firm.requires_grad_(), columns.requires_grad_())
        return cls(levels, coarse, sums, features)


def _score(
    net: JointNet,
    leaves: Sequence[_Leaves],
    *,
    spacing_mm: Tensor,
    covariates: dict[str, Tensor],
) -> Tensor:
    """Finding logits (1, F) with a graph down to the leaves."""
    measured = None
    sums = leaves[0].sums
    if net.slab_measure is not None and sums is not None:
        measured = net.slab_measure.finish(sums, spacing_mm)
    pooled = [
        net.pool(leaf.features, spacing_mm.new_zeros(1) if leaf.coarse is None else leaf.coarse)
        for leaf in leaves
    ]
    logits, _, _ = net.diagnose(
        pooled, [], spacing_mm=spacing_mm, covariates=covariates, measured=measured
    )
    if logits is None:
        raise ValueError("The network has no findings to draw maps of.")
    return logits


def _slopes(score: Tensor, leaves: Sequence[_Leaves]) -> list[_Leaves]:
    """Gradients of one finding; zero where it does not depend on a leaf."""
    flat: list[Tensor] = []
    for leaf in leaves:
        flat += leaf.levels
        flat += [] if leaf.coarse is None else [leaf.coarse]
        flat += [] if leaf.sums is None else [leaf.sums.firm_voxels, leaf.sums.columns]
    found: Sequence[Tensor | None] = [None] * len(flat)
    if score.requires_grad and flat:  # not where the head reads nothing but covariates
        found = torch.autograd.grad(score, flat, retain_graph=True, allow_unused=True)
    known = iter(
        [torch.zeros_like(one) if slope is None else slope
         for one, slope in zip(flat, found, strict=True)]
    )  # fmt: skip
    return [
        _Leaves(
            [next(known) for _ in leaf.levels],
            None if leaf.coarse is None else next(known),
            None if leaf.sums is None else TorsoSums(next(known), next(known)),
            [],
        )
        for leaf in leaves
    ]


def _level_maps(leaf: _Leaves, slope: _Leaves, method: CamMethod) -> list[Tensor]:
    """The maps of the encoder levels of one volume, by the gradients of one finding."""
    return [
        activation_map(feature[0].detach(), gradient[0], method=method)
        for feature, gradient in zip(leaf.levels, slope.levels, strict=True)
    ]


def _mask_maps(
    volume: ReadVolume, slopes: Sequence[_Leaves], measure: TorsoMeasurements | None
) -> list[Tensor]:
    """LayerCAM of the masks for each finding, largest values on the grid of the maps."""
    sums, coarse = volume.reading.sums, volume.reading.coarse
    cell = 1 if coarse is None else volume.logits.shape[2] // coarse.shape[2]
    places = slab_places(volume.logits, cell)
    ties = None
    if measure is not None and sums is not None:
        ties = _ties(volume.logits, places, measure, sums)
    shape = map_shape(volume.logits.shape[2:])
    maps = [volume.logits.new_empty(shape, dtype=torch.float) for _ in slopes]

    def fill(where: slice) -> None:
        part = probabilities_of(volume.logits, where)
        by_sums = None
        if measure is not None and sums is not None and ties is not None:
            firm, largest = firm_slope(part[:, 1:]), measure.largest(part, sums)
            by_sums = partial(measure.slab_slope, firm=firm, largest=largest, ties=ties)
        for found, slope in zip(maps, slopes, strict=True):
            by_mask: Iterable[Tensor]
            if by_sums is not None and slope.sums is not None:
                by_mask = by_sums(slope.sums)
            else:
                by_mask = (torch.zeros_like(mask) for mask in part[:, 1:].unbind(dim=1))
            full = torch.zeros_like(part[:, 0])
            # Segment by segment: what is added up stays in a core's own cache.
            for number, one in enumerate(by_mask, start=1):
                if slope.coarse is not None:
                    cells = slice(where.start // cell, where.stop // cell)
                    _add_blocks(one, slope.coarse[:, number, cells])
                full.addcmul_(one.relu_(), part[:, number])  # LayerCAM
            found[where] = _largest(full[0], shape[1:])

    _for_each(places, fill, logits=volume.logits)
    return maps


def _for_each(places: Sequence[slice], work: Callable[[slice], None], *, logits: Tensor) -> None:
    """On a GPU one slab after the other: each takes as much memory as the device has to spare."""
    if logits.device.type == "cpu":
        on_each_core(work, places)
        return
    for where in places:
        work(where)


def _ties(
    logits: Tensor, places: Sequence[slice], measure: TorsoMeasurements, sums: TorsoSums
) -> Tensor:
    """(B, 2, I): how many voxels of the whole volume share the largest value of their column."""
    counts: list[Tensor] = []

    def count(where: slice) -> None:
        largest = measure.largest(probabilities_of(logits, where), sums)
        counts.append(largest.sum(dim=(2, 3)))

    _for_each(places, count, logits=logits)
    return torch.stack(counts).sum(dim=0)


def _largest(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """The largest of each block in plane: of (K, J, I) for each cell of (K, J', I')."""
    (j, rest_j), (i, rest_i) = map(divmod, values.shape[1:], grid)
    if rest_j or rest_i:
        return nn.functional.adaptive_max_pool2d(values, grid)
    blocks = values.view(-1, grid[0], j, values.shape[2])
    # Over rows first: their voxels lie side by side. The pool takes them one by one.
    return blocks.amax(dim=2).view(-1, *grid, i).amax(dim=3)


def _add_blocks(values: Tensor, means: Tensor) -> None:
    """Add to (B, K, J, I) the gradient by its voxels of what reads means of blocks."""
    batch, *grid = means.shape
    k, j, i = (own // n for own, n in zip(values.shape[1:], grid, strict=True))
    rows = (means / (k * j * i)).repeat_interleave(i, dim=-1)
    blocks = values.view(batch, grid[0], k, grid[1], j, -1)
    blocks += rows[:, :, None, :, None]
