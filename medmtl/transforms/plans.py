"""Preprocessing as the plans of nnU-Net v2 state it, step by step the same arithmetic.

Order of the steps: orient, transpose, crop to what is not zero, normalise, resample.
Axes: C channel, K J I of the oriented volume (slices first), A B C its axes in the plans' order.
Isensee et al., Nature Methods 18, 2021; `nnunetv2/preprocessing` (Apache 2.0) is the reference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy.ndimage import binary_fill_holes, map_coordinates, zoom

from medmtl.core.errors import InputRefusedError
from medmtl.transforms.orient import AxisPlan, ras_plan
from medmtl.transforms.resize import ResizePlan
from medmtl.transforms.spline import spline_resize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.volume import Volume

__all__ = [
    "ANISOTROPY",
    "ChannelIntensity",
    "PlansInput",
    "PlansPreprocessing",
    "Resampling",
    "resample",
]

ANISOTROPY = 3.0
"""nnU-Net's `ANISO_THRESHOLD`: above this ratio of spacings the coarse axis is resampled apart."""
AIR_HU = -500.0
"""Below this a voxel of a CT holds gas: air, or lung, which lies within the wall of the chest."""
_EPSILON = 1e-8


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


_Positive: TypeAlias = Annotated[FiniteFloat, Field(gt=0)]


class ChannelIntensity(_Settings):
    """How one channel is normalised, on the voxels of the source.

    Attributes:
        scheme: "ct" clips to `low`..`high` and takes the data set's `mean` and `deviation`;
            "z_score" takes those of the image; "rescale_to_01" its limits; "none" does nothing.
        is_within_nonzero: "z_score" over what is not zero only; the rest stays zero.
    """

    scheme: Literal["ct", "z_score", "rescale_to_01", "none"]
    is_within_nonzero: bool = False
    low: FiniteFloat = 0.0
    high: FiniteFloat = 0.0
    mean: FiniteFloat = 0.0
    deviation: Annotated[FiniteFloat, Field(ge=0)] = 1.0

    @model_validator(mode="after")
    def _has_limits_in_order(self) -> ChannelIntensity:
        if self.low > self.high:
            raise ValueError(f"lower limit {self.low:g} lies above the upper one {self.high:g}")
        return self

    @property
    def air(self) -> float:
        """The largest normalised value of a gas, minus infinity where no unit says so."""
        if self.scheme != "ct":
            return -math.inf
        value = min(max(AIR_HU, self.low), self.high)
        return (value - self.mean) / max(self.deviation, _EPSILON)

    def apply(self, image: NDArray[np.float32], inside: NDArray[np.bool_]) -> None:
        """Normalise in place."""
        if self.scheme == "ct":
            np.clip(image, self.low, self.high, out=image)
            image -= self.mean
            image /= max(self.deviation, _EPSILON)
        elif self.scheme == "z_score":
            where: Any = inside if self.is_within_nonzero else ...
            values = image[where]
            image[where] = (values - values.mean()) / max(values.std(), _EPSILON)
        elif self.scheme == "rescale_to_01":
            image -= image.min()
            image /= max(image.max(), np.float32(_EPSILON))


class Resampling(_Settings):
    """Spline orders in plane and along a coarse axis; whether that axis is done apart.

    Attributes:
        order: Everywhere else.
        order_z: Along the coarse axis.
        force_separate_z: None asks the spacings.
        anisotropy: Largest ratio of spacings up to which no axis is coarse.
    """

    order: int = Field(ge=0, le=5)
    order_z: int = Field(default=0, ge=0, le=5)
    force_separate_z: bool | None = None
    anisotropy: _Positive = ANISOTROPY


class PlansPreprocessing(_Settings):
    """The preprocessing of an imported model.

    Attributes:
        orientation: "source" takes the axes as they are stored, which is what nnU-Net does with
            most readers; "RAS" turns them first.
        transpose: Which axis of (K, J, I) becomes the first, second, third of the plans.
        spacing_mm: In the plans' order; two numbers keep the first axis as it is.
        channels: One entry per channel.
        data: How images are resampled.
        logits: How answers are resampled.
    """

    name: Literal["nnunet_plans"] = "nnunet_plans"
    orientation: Literal["source", "RAS"] = "source"
    transpose: tuple[int, int, int] = (0, 1, 2)
    spacing_mm: tuple[_Positive, ...] = Field(min_length=2, max_length=3)
    channels: tuple[ChannelIntensity, ...] = Field(min_length=1, max_length=32)
    data: Resampling = Resampling(order=3)
    logits: Resampling = Resampling(order=1)

    @model_validator(mode="after")
    def _is_permutation(self) -> PlansPreprocessing:
        if sorted(self.transpose) != [0, 1, 2]:
            raise ValueError(f"transpose {self.transpose} must hold 0, 1 and 2")
        return self

    @property
    def air(self) -> tuple[float, ...]:
        """The largest normalised value of a gas in each channel."""
        return tuple(channel.air for channel in self.channels)

    def apply(
        self,
        volume: Volume,
        further: Sequence[NDArray[Any]] = (),
        *,
        is_linear: bool = False,
    ) -> PlansInput:
        """Take a volume to the network's grid.

        Args:
            volume: The first channel.
            further: The other channels, (i, j, k) on the grid of the volume.
            is_linear: Interpolate linearly, in single precision: faster, other values.

        Raises:
            InputRefusedError: If every voxel is zero, or one is no number.
        """
        oriented = self._orient(volume)
        kji_mm = oriented.apply_geometry(volume.geometry).spacing_mm[::-1]
        source_mm = tuple(kji_mm[axis] for axis in self.transpose)
        images = [
            self._transposed(array, oriented, volume.id) for array in (volume.array, *further)
        ]
        whole = images[0].shape
        inside = np.logical_or.reduce([image != 0 for image in images])
        box = _box(inside)  # what fills a hole lies in the same box
        if any(channel.is_within_nonzero for channel in self.channels):
            inside = binary_fill_holes(inside)
        inside = inside[box]
        target_mm = (*source_mm[: 3 - len(self.spacing_mm)], *self.spacing_mm)
        shape = tuple(
            round(own / wanted * size)
            for own, wanted, size in zip(source_mm, target_mm, inside.shape, strict=True)
        )
        content = np.empty((len(images), *shape), dtype=np.float32)
        for at, (channel, image) in enumerate(zip(self.channels, images, strict=True)):
            part = image[box]
            channel.apply(part, inside)
            if is_linear:
                content[at] = _linear(part, shape)
            else:
                content[at] = resample(part, shape, self.data, from_mm=source_mm, to_mm=target_mm)
        return PlansInput(
            array_cabc=content,
            settings=self,
            source=volume.geometry,
            orient=oriented,
            whole=whole,
            box=box,
            source_mm=source_mm,
            target_mm=target_mm,
        )

    def _transposed(
        self, array: NDArray[Any], oriented: AxisPlan, volume_id: str
    ) -> NDArray[np.float32]:
        # As its readers give it: (K, J, I) in one piece, single precision.
        image = np.array(oriented.apply(array).T, dtype=np.float32, order="C")
        _check(image, volume_id)
        return image.transpose(self.transpose)

    def _orient(self, volume: Volume) -> AxisPlan:
        if self.orientation == "RAS":
            return ras_plan(volume.geometry)
        return AxisPlan(order=(0, 1, 2), is_flipped=(False, False, False))


@dataclass(frozen=True, eq=False)
class PlansInput:
    """A volume as the network sees it, and the way back.

    Attributes:
        array_cabc: Normalised float32 on the plans' grid, one channel after the other.
        settings: What was done.
        source: Grid of the volume.
        orient: Axes of the source to oriented ones.
        whole: Shape (A, B, C) before the crop.
        box: The crop.
        source_mm: Spacing before resampling, (A, B, C).
        target_mm: Spacing after it.
    """

    array_cabc: NDArray[np.float32]
    settings: PlansPreprocessing
    source: Geometry
    orient: AxisPlan
    whole: tuple[int, ...]
    box: tuple[slice, ...]
    source_mm: tuple[float, ...]
    target_mm: tuple[float, ...]

    @property
    def geometry(self) -> Geometry:
        """Grid, in (i, j, k) order, on which `array_cabc[c].transpose(2, 1, 0)` lies."""
        own = self.settings.transpose
        order = (2 - own[2], 2 - own[1], 2 - own[0])
        turned = AxisPlan(order=order, is_flipped=(False, False, False))
        oriented = self.orient.apply_geometry(self.source)
        a, b, c = self.box
        cropped = turned.apply_geometry(oriented).crop((c, b, a))
        i, j, k = self.array_cabc.shape[:0:-1]
        plan = ResizePlan(cropped.shape, (i, j, k), is_antialiased=(False, False, False))
        return plan.apply_geometry(cropped)

    def on_source(self, values_abc: NDArray[Any]) -> NDArray[Any]:
        """Logits of one class on the cropped source grid; the dtype stays."""
        shape = tuple(part.stop - part.start for part in self.box)
        return resample(
            values_abc, shape, self.settings.logits, from_mm=self.target_mm, to_mm=self.source_mm
        )

    def whole_labels(self, labels_abc: NDArray[Any]) -> NDArray[Any]:
        """Labels of the cropped source grid on the whole grid (i, j, k) of the volume."""
        whole = np.zeros(self.whole, dtype=labels_abc.dtype)
        whole[self.box] = labels_abc
        back = np.argsort(self.settings.transpose)
        oriented = whole.transpose(tuple(back)).T
        flips = tuple(slice(None, None, -1 if flip else 1) for flip in self.orient.is_flipped)
        return oriented[flips].transpose(tuple(np.argsort(self.orient.order)))


def resample(
    values: NDArray[Any],
    shape: Sequence[int],
    settings: Resampling,
    *,
    from_mm: Sequence[float],
    to_mm: Sequence[float],
) -> NDArray[Any]:
    """Resample to a shape that covers the same extent, in double precision; the dtype stays.

    Args:
        values: One channel.
        shape: Of the answer.
        settings: Spline orders.
        from_mm: Spacing of `values`.
        to_mm: Spacing of the answer.
    """
    if tuple(values.shape) == tuple(shape):
        return values
    axis = _separate_axis(settings, from_mm, to_mm)
    if axis is None:
        return _resize(values, shape, settings.order).astype(values.dtype, copy=False)
    data = values.astype(np.float64)
    plane = [size for at, size in enumerate(shape) if at != axis]
    slices = [_resize(part, plane, settings.order) for part in np.moveaxis(data, axis, 0)]
    done = np.stack(slices, axis=axis)
    if values.shape[axis] != shape[axis]:
        grid = np.mgrid[tuple(slice(0, size) for size in shape)].astype(np.float64)
        scale = [own / wanted for own, wanted in zip(done.shape, shape, strict=True)]
        at = [factor * (index + 0.5) - 0.5 for factor, index in zip(scale, grid, strict=True)]
        done = map_coordinates(done, np.array(at), order=settings.order_z, mode="nearest")
    return np.asarray(done.astype(values.dtype))


def _linear(values_abc: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Linear interpolation with the same extent, slab by slab."""
    old, new = values_abc.shape[::-1], tuple(shape)[::-1]
    plan = ResizePlan(
        (old[0], old[1], old[2]), (new[0], new[1], new[2]), is_antialiased=(False, False, False)
    )
    in_plane = plan.apply_in_plane(torch.from_numpy(np.ascontiguousarray(values_abc)))
    done: NDArray[np.float32] = plan.apply_through_plane(in_plane).numpy()
    return done


def _resize(values: NDArray[Any], shape: Sequence[int], order: int) -> NDArray[Any]:
    """`skimage.transform.resize(mode="edge", anti_aliasing=False)` in terms of SciPy."""
    if order > 0:
        return spline_resize(values, shape, order=order)
    factors = [1 / (own / wanted) for own, wanted in zip(values.shape, shape, strict=True)]
    return np.asarray(zoom(values, factors, order=order, mode="nearest", grid_mode=True))


def _separate_axis(
    settings: Resampling, from_mm: Sequence[float], to_mm: Sequence[float]
) -> int | None:
    """The coarse axis that is resampled apart, None where all are done together."""
    if settings.force_separate_z is False:
        return None
    chosen = from_mm
    if settings.force_separate_z is None:
        coarse = [mm for mm in (from_mm, to_mm) if max(mm) / min(mm) > settings.anisotropy]
        if not coarse:
            return None
        chosen = coarse[0]
    largest = [axis for axis, mm in enumerate(chosen) if max(chosen) / mm == 1]
    return largest[0] if len(largest) == 1 else None


def _box(inside: NDArray[np.bool_]) -> tuple[slice, ...]:
    ends = [
        np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        for axis in range(3)
    ]
    return tuple(slice(int(at[0]), int(at[-1]) + 1) for at in ends)


def _check(image: NDArray[np.float32], volume_id: str) -> None:
    bad = int(image.size - np.count_nonzero(np.isfinite(image)))
    if bad or not image.any():
        raise InputRefusedError(
            f"volume {volume_id}",
            stage="preprocess",
            code="non-finite-values" if bad else "no-contrast",
            found=f"{bad} voxels that are NaN or infinite" if bad else "zero in every voxel",
            expected="finite intensities that are not all zero",
            advice="Repair or re-export the image.",
        )
