"""Differentiable measurements of predicted masks, as inputs of the diagnosis head.

Tensors: B batch, V volume of the study, S segment, K J I voxel axes, A angle.
A value that cannot be derived (no body height, an empty organ, unequal grids) is NaN: unknown.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "MEASUREMENTS",
    "CardiacMeasurements",
    "MeasurementSet",
    "TorsoMeasurements",
    "TorsoSums",
    "VolumeMeasurements",
]

MYOCARDIUM_G_PER_ML = 1.05
_ANGLES = 32
_RAY_STEP_MM = 1.0
_RAY_LENGTH_MM = 72.0


class MeasurementSet(nn.Module, ABC):
    """Measurements of one study's masks.

    `names` are the outputs in order; `units` their UCUM units.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]

    @abstractmethod
    def forward(
        self, probabilities: list[Tensor], spacing_mm: Tensor, covariates: dict[str, Tensor]
    ) -> Tensor:
        """Measure.

        Args:
            probabilities: V tensors (B, S + 1, K, J, I), background first.
            spacing_mm: (B, V, 3) along (K, J, I).
            covariates: (B,) each, NaN where unknown.

        Returns:
            (B, M), NaN where it cannot be derived.
        """


def soft_volumes_ml(probabilities: Tensor, spacing_mm: Tensor) -> Tensor:
    """Volume of each segment (B, S) in mL: the sum of its probabilities times the voxel volume."""
    voxel_ml = spacing_mm.prod(dim=-1) / 1000.0
    return probabilities[:, 1:].sum(dim=(2, 3, 4)) * voxel_ml.unsqueeze(-1)


def divide(numerator: Tensor, denominator: Tensor, *, at_least: float) -> Tensor:
    """The quotient, NaN where the denominator is below `at_least`, with a finite gradient."""
    is_valid = denominator >= at_least
    quotient = numerator / torch.where(is_valid, denominator, torch.ones_like(denominator))
    return torch.where(is_valid, quotient, torch.full_like(quotient, math.nan))


def body_surface_m2(covariates: dict[str, Tensor]) -> Tensor:
    """Body surface area by Mosteller (N Engl J Med 1987;317:1098), NaN where unknown."""
    return torch.sqrt(covariates["height_cm"] * covariates["weight_kg"] / 3600.0)


class CardiacMeasurements(MeasurementSet):
    """Ventricular volumes, ejection fractions, wall thickness and its motion.

    Segments in order: right ventricle cavity, myocardium, left ventricle cavity; two volumes:
    end diastole, end systole. Wall thickness and cavity radius are integrals of the myocardium's
    and the cavity's probability along rays from the cavity's centroid, per slice and angle.
    """

    names = (
        "lv_ed_volume", "lv_es_volume", "rv_ed_volume", "rv_es_volume", "lv_ed_mass",
        "lv_ed_volume_index", "lv_es_volume_index", "rv_ed_volume_index", "rv_es_volume_index",
        "lv_ed_mass_index", "lv_ejection_fraction", "rv_ejection_fraction",
        "rv_lv_ed_volume_ratio", "rv_lv_es_volume_ratio", "lv_mass_volume_ratio",
        "wall_thickness_ed_mean", "wall_thickness_ed_max", "wall_thickness_ed_spread",
        "wall_thickness_es_mean", "wall_thickness_es_max", "wall_thickness_es_spread",
        "wall_thickening_mean", "wall_thickening_min", "wall_thickening_spread",
        "radial_shortening_mean", "radial_shortening_min", "radial_shortening_spread",
    )  # fmt: skip
    units = (
        "mL", "mL", "mL", "mL", "g",
        "mL/m2", "mL/m2", "mL/m2", "mL/m2", "g/m2", "1", "1", "1", "1", "g/mL",
        "mm", "mm", "mm", "mm", "mm", "mm", "1", "1", "1", "1", "1", "1",
    )  # fmt: skip

    def forward(
        self, probabilities: list[Tensor], spacing_mm: Tensor, covariates: dict[str, Tensor]
    ) -> Tensor:
        """Measure, see MeasurementSet."""
        ed, es = (soft_volumes_ml(p, spacing_mm[:, v]) for v, p in enumerate(probabilities))
        (rv_ed, myo_ed, lv_ed), (rv_es, _, lv_es) = ed.unbind(-1), es.unbind(-1)
        mass_g = myo_ed * MYOCARDIUM_G_PER_ML
        surface = body_surface_m2(covariates)
        absolute = [lv_ed, lv_es, rv_ed, rv_es, mass_g]
        ratios = [
            1 - divide(lv_es, lv_ed, at_least=1.0),
            1 - divide(rv_es, rv_ed, at_least=1.0),
            divide(rv_ed, lv_ed, at_least=1.0),
            divide(rv_es, lv_es, at_least=1.0),
            divide(mass_g, lv_ed, at_least=1.0),
        ]
        indexed = [divide(value, surface, at_least=0.1) for value in absolute]
        wall = self._wall(probabilities, spacing_mm)
        return torch.stack([*absolute, *indexed, *ratios, *wall], dim=-1)

    def _wall(self, probabilities: list[Tensor], spacing_mm: Tensor) -> list[Tensor]:
        profiles = [polar_profiles(p, spacing_mm[:, v]) for v, p in enumerate(probabilities)]
        (thick_ed, radius_ed, area_ed), (thick_es, radius_es, area_es) = profiles
        weight_ed, weight_es = slice_weights(area_ed), slice_weights(area_es)
        values = [*wall_summary(thick_ed, weight_ed), *wall_summary(thick_es, weight_es)]
        if thick_ed.shape != thick_es.shape:
            return [*values, *[torch.full_like(values[0], math.nan)] * 6]
        thickening = sectors(thick_es) / sectors(thick_ed).clamp_min(2.0) - 1
        shortening = 1 - sectors(radius_es) / sectors(radius_ed).clamp_min(4.0)
        # Systole shortens the ventricle towards the apex: slices empty in systole say nothing.
        weight = weight_ed * (area_es.detach() > 0.1 * area_es.detach().amax(-1, keepdim=True))
        return [*values, *motion_summary(thickening, weight), *motion_summary(shortening, weight)]


def polar_profiles(probabilities: Tensor, spacing_mm: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Wall thickness (B, K, A) mm, cavity radius (B, K, A) mm and cavity area (B, K) mm2.

    Args:
        probabilities: (B, 4, K, J, I): background, right ventricle, myocardium, left ventricle.
        spacing_mm: (B, 3) along (K, J, I).
    """
    batch, _, slices, rows, columns = probabilities.shape
    planes = probabilities[:, 2:4].transpose(1, 2).reshape(batch * slices, 2, rows, columns)
    spacing = spacing_mm[:, None, 1:].expand(batch, slices, 2).reshape(-1, 2)  # (BK, 2) J, I
    cavity = planes[:, 1]
    mass = cavity.sum(dim=(1, 2))
    j = torch.arange(rows, device=planes.device, dtype=planes.dtype)
    i = torch.arange(columns, device=planes.device, dtype=planes.dtype)
    safe = mass.clamp_min(1.0)
    centre_j = (cavity.sum(dim=2) * j).sum(dim=1) / safe
    centre_i = (cavity.sum(dim=1) * i).sum(dim=1) / safe
    angle = torch.arange(_ANGLES, device=planes.device) * (2 * math.pi / _ANGLES)
    steps = int(_RAY_LENGTH_MM / _RAY_STEP_MM)
    radius = (torch.arange(steps, device=planes.device) + 0.5) * _RAY_STEP_MM
    offset_j = torch.sin(angle)[:, None] * radius / spacing[:, 0, None, None]  # (BK, A, R)
    offset_i = torch.cos(angle)[:, None] * radius / spacing[:, 1, None, None]
    grid = torch.stack(
        [
            (centre_i[:, None, None] + offset_i + 0.5) * 2 / columns - 1,
            (centre_j[:, None, None] + offset_j + 0.5) * 2 / rows - 1,
        ],
        dim=-1,
    )
    rays = nn.functional.grid_sample(planes, grid, align_corners=False)  # (BK, 2, A, R)
    lengths = rays.sum(dim=-1) * _RAY_STEP_MM
    thickness, cavity_radius = lengths.reshape(batch, slices, 2, _ANGLES).unbind(dim=2)
    area_mm2 = (mass * spacing.prod(dim=-1)).reshape(batch, slices)
    return thickness, cavity_radius, area_mm2


def slice_weights(area_mm2: Tensor) -> Tensor:
    """Weights (B, K) of slices with a well-formed cavity (over 30 % of the largest area)."""
    largest = area_mm2.detach().amax(dim=-1, keepdim=True)
    return ((area_mm2.detach() > 0.3 * largest) & (largest > 50.0)).to(area_mm2.dtype)


def sectors(profile: Tensor) -> Tensor:
    """Mean over eight sectors: (B, K, A) to (B, K, 8)."""
    return profile.reshape(*profile.shape[:-1], 8, -1).mean(dim=-1)


def _weighted_mean(value: Tensor, weight: Tensor) -> Tensor:
    """Mean over slices of (B, K) with weights (B, K); NaN where no slice counts."""
    total = weight.sum(dim=-1)
    return divide((value * weight).sum(dim=-1), total, at_least=0.5)


def wall_summary(thickness: Tensor, weight: Tensor) -> list[Tensor]:
    """Mean, largest sector and spread between sectors of wall thickness, (B,) mm each."""
    by_sector = sectors(thickness)
    mean = _weighted_mean(by_sector.mean(dim=-1), weight)
    largest = _weighted_mean(by_sector.amax(dim=-1), weight)
    spread = _weighted_mean(by_sector.std(dim=-1), weight)
    return [mean, largest, spread]


def motion_summary(motion: Tensor, weight: Tensor) -> list[Tensor]:
    """Mean, least moving sector and spread of a relative motion (B, K, 8), (B,) each."""
    mean = _weighted_mean(motion.mean(dim=-1), weight)
    least = _weighted_mean(motion.amin(dim=-1), weight)
    spread = _weighted_mean(motion.std(dim=-1), weight)
    return [mean, least, spread]


@dataclass(frozen=True, eq=False)
class TorsoSums:
    """What `TorsoMeasurements` reads of a slab of slices; slabs of one volume add up.

    Attributes:
        firm_voxels: (B, S), sum of the firm probabilities of each segment.
        columns: (B, 2, I), largest probability of the heart and of the lungs in each column.
    """

    firm_voxels: Tensor
    columns: Tensor

    def __add__(self, other: TorsoSums) -> TorsoSums:
        """Join two slabs."""
        columns = torch.maximum(self.columns, other.columns)
        return TorsoSums(self.firm_voxels + other.firm_voxels, columns)


class TorsoMeasurements(MeasurementSet):
    """Segment volumes and the cardiothoracic ratio of a torso.

    Args:
        segments: Names in label order. Those of the lungs and the pleura, and `heart`, give the
            cardiothoracic ratio.
    """

    def __init__(self, segments: tuple[str, ...]) -> None:
        super().__init__()
        self.segments = segments
        self.names = (*(f"{name}_volume" for name in segments), "cardiothoracic_ratio")
        self.units = ("mL",) * len(segments) + ("1",)

    def forward(
        self, probabilities: list[Tensor], spacing_mm: Tensor, covariates: dict[str, Tensor]
    ) -> Tensor:
        """Measure, see MeasurementSet; only the first volume is read."""
        del covariates
        return self.finish(self.sums(probabilities[0]), spacing_mm)

    def sums(self, probabilities: Tensor) -> TorsoSums:
        """Of a volume (B, S + 1, K, J, I), or of some of its slices."""
        columns = [mask.amax(dim=(1, 2)) for mask in self._thorax(probabilities)]
        # A sum of small probabilities over a whole torso would outweigh a small lesion.
        return TorsoSums(firm_sum(probabilities[:, 1:]), torch.stack(columns, dim=1))

    def _thorax_classes(self) -> tuple[list[int], list[int]]:
        """The heart, and the lungs with what lies between them and the wall."""
        inside = ("lung", "pleural")
        lungs = [1 + n for n, name in enumerate(self.segments) if name.startswith(inside)]
        return [1 + self.segments.index("heart")], lungs

    def _thorax(self, probabilities: Tensor) -> list[Tensor]:
        """(B, K, J, I) of each of those."""
        none = torch.zeros_like(probabilities[:, 0])
        return [
            sum((probabilities[:, one] for one in classes[1:]), probabilities[:, classes[0]])
            if classes
            else none
            for classes in self._thorax_classes()
        ]

    def largest(self, probabilities: Tensor, whole: TorsoSums) -> Tensor:
        """(B, 2, k, J, I): 1 where the voxels of a slab reach the largest value of their column."""
        masks = torch.stack(self._thorax(probabilities), dim=1)
        return (masks == whole.columns[:, :, None, None]).to(masks)

    def slab_slope(
        self, slope: TorsoSums, *, firm: Tensor, largest: Tensor, ties: Tensor
    ) -> Iterator[Tensor]:
        """Gradient (B, k, J, I) by each segment of a slab in turn, of what reads the sums.

        Args:
            slope: Gradient by the sums of the whole volume.
            firm: `firm_slope` of the segments.
            largest: Of the slab.
            ties: (B, 2, I), the sum of `largest` over the whole volume; voxels that share the
                largest value share its gradient.
        """
        share = (slope.columns / ties.clamp_min(1))[:, :, None, None]
        for segment in range(firm.shape[1]):
            found = firm[:, segment] * slope.firm_voxels[:, segment, None, None, None]
            for n, classes in enumerate(self._thorax_classes()):
                if segment + 1 in classes:
                    found.addcmul_(largest[:, n], share[:, n])
            yield found

    def finish(self, sums: TorsoSums, spacing_mm: Tensor) -> Tensor:
        """Measurements (B, M) from the sums over the whole first volume."""
        voxel_ml = spacing_mm[:, 0].prod(dim=-1, keepdim=True) / 1000.0
        width_mm = soft_width(sums.columns) * spacing_mm[:, 0, 2:]
        ratio = divide(width_mm[:, 0], width_mm[:, 1], at_least=50.0)
        return torch.cat([sums.firm_voxels * voxel_ml, ratio.unsqueeze(-1)], dim=-1)


_STEEPNESS = 12.0


def firm_slope(probabilities: Tensor, *, steepness: float = _STEEPNESS) -> Tensor:
    """Derivative of `firm_sum` by each of the probabilities."""
    step = (probabilities * steepness).sub_(steepness / 2).sigmoid_()
    edge = 1 / (1 + math.exp(steepness / 2))
    return step.mul_(1 - step).mul_(steepness / (1 - 2 * edge))


def firm_sum(probabilities: Tensor, *, steepness: float = _STEEPNESS) -> Tensor:
    """Sum over the voxels of (B, S, K, J, I) of a smooth step at one half, 0 at 0 and 1 at 1.

    The step is stretched after the sum: three passes over the voxels instead of five.
    """
    edge = 1 / (1 + math.exp(steepness / 2))
    step = (probabilities * steepness).sub_(steepness / 2).sigmoid_()
    voxels = math.prod(probabilities.shape[2:])
    return (step.sum(dim=(2, 3, 4)) - voxels * edge) / (1 - 2 * edge)


def soft_width(columns: Tensor) -> Tensor:
    """Extent in voxels (...) of a soft mask whose columns' largest values (..., I) are given."""
    return torch.sigmoid((columns - 0.5) * 10.0).sum(dim=-1)


class VolumeMeasurements(MeasurementSet):
    """Volume of every segment in the first volume of a study, whatever the segments are.

    Args:
        segments: Names in label order.
    """

    def __init__(self, segments: tuple[str, ...]) -> None:
        super().__init__()
        self.names = tuple(f"{name}_volume" for name in segments)
        self.units = ("mL",) * len(segments)

    def forward(
        self, probabilities: list[Tensor], spacing_mm: Tensor, covariates: dict[str, Tensor]
    ) -> Tensor:
        """Measure, see MeasurementSet."""
        del covariates
        voxel_ml = spacing_mm[:, 0].prod(dim=-1, keepdim=True) / 1000.0
        return firm_sum(probabilities[0][:, 1:]) * voxel_ml


MEASUREMENTS: Mapping[str, Callable[[tuple[str, ...]], MeasurementSet]] = {
    "cardiac": lambda _segments: CardiacMeasurements(),
    "torso": TorsoMeasurements,
    "volumes": VolumeMeasurements,
}
"""Measurement sets that a head can read, by name; called with the segment names."""
