"""One plane of a volume as a picture, drawn here: the same scene, without WebGL2.

A pixel (x, y) lies at `origin_lps + x * right_mm + y * down_mm`; the browser says where, so both
ways of drawing show the same plane in the same orientation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from PIL import Image
from scipy.ndimage import map_coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from medmtl.core.volume import Volume

__all__ = ["MapLayer", "SegmentLayer", "SliceView", "draw_slice", "value_at"]

_OUTLINE_PX = 1


@dataclass(frozen=True)
class SliceView:
    """Where the plane lies and how grey values are shown; millimetres in LPS."""

    origin_lps: tuple[float, float, float]
    right_mm: tuple[float, float, float]
    down_mm: tuple[float, float, float]
    width: int
    height: int
    window: tuple[float, float]
    is_inverted: bool = False
    is_smooth: bool = True


@dataclass(frozen=True)
class SegmentLayer:
    """How a label is painted; opacity 0 is invisible."""

    colour: tuple[int, int, int]
    opacity: float
    is_outline: bool = False


@dataclass(frozen=True)
class MapLayer:
    """How an activation map is painted."""

    threshold: float
    opacity: float
    colours: str
    low: float
    high: float


def _indices(volume: Volume, view: SliceView) -> NDArray[np.float64]:
    """Voxel indices of every pixel, shape (3, height, width)."""
    y, x = np.mgrid[0 : view.height, 0 : view.width].astype(np.float64)
    steps = np.stack([np.asarray(view.right_mm), np.asarray(view.down_mm)])
    points = np.einsum("sp,syx->pyx", steps, np.stack([x, y]))
    points += np.asarray(view.origin_lps)[:, None, None]
    to_index = np.linalg.inv(volume.geometry.affine_lps)
    return np.asarray(
        np.einsum("ip,pyx->iyx", to_index[:3, :3], points) + to_index[:3, 3][:, None, None]
    )


def _is_inside(indices: NDArray[np.float64], volume: Volume) -> NDArray[np.bool_]:
    """A voxel reaches half a step to each side of its centre."""
    sizes = np.asarray(volume.geometry.shape)[:, None, None]
    return np.asarray(((indices >= -0.5) & (indices < sizes - 0.5)).all(axis=0))


def _sample(volume: Volume, view: SliceView, *, order: int) -> NDArray[Any]:
    """Values at the pixels; 0 outside of labels and maps, nan outside of an image."""
    indices = _indices(volume, view)
    is_label = order == 0 and volume.array.dtype.kind in "ui"
    values = map_coordinates(
        volume.array, indices, order=order, mode="nearest",
        output=volume.array.dtype if is_label else np.float32,
    )  # fmt: skip
    return np.where(_is_inside(indices, volume), values, 0 if is_label else np.nan)


def _grey(image: Volume, view: SliceView) -> NDArray[np.float32]:
    values = _sample(image, view, order=1 if view.is_smooth else 0).astype(np.float32)
    low, high = view.window
    shade = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    shade = 1.0 - shade if view.is_inverted else shade
    return np.repeat(np.nan_to_num(shade, nan=0.0)[..., None], 3, axis=2)


def _blend(
    picture: NDArray[np.float32], colour: NDArray[Any], alpha: NDArray[Any]
) -> NDArray[np.float32]:
    part = np.asarray(alpha, dtype=np.float32)[..., None]
    return np.asarray(picture * (1 - part) + np.asarray(colour, dtype=np.float32) * part)


def _edges(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels whose label differs from a neighbour's."""
    padded = np.pad(labels, _OUTLINE_PX, mode="edge")
    height, width = labels.shape
    neighbours = [
        padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    return np.asarray(np.any([labels != other for other in neighbours], axis=0))


def _with_segments(
    picture: NDArray[np.float32],
    labels: Volume,
    view: SliceView,
    segments: Mapping[int, SegmentLayer],
) -> NDArray[np.float32]:
    at_pixels = _sample(labels, view, order=0)
    edges = _edges(at_pixels)
    for label, layer in segments.items():
        is_here = at_pixels == label
        shown = is_here & edges if layer.is_outline else is_here
        alpha = shown * (min(1.0, layer.opacity * 2) if layer.is_outline else layer.opacity)
        picture = _blend(picture, np.asarray(layer.colour) / 255, alpha)
    return picture


def _with_map(
    picture: NDArray[np.float32], cam: Volume, view: SliceView, layer: MapLayer
) -> NDArray[np.float32]:
    values = np.nan_to_num(_sample(cam, view, order=1).astype(np.float32)) / 255
    place = np.clip((values - layer.low) / max(layer.high - layer.low, 1e-6), 0.0, 1.0)
    colours = mpl.colormaps[layer.colours](place)[..., :3]
    return _blend(picture, colours, (values >= layer.threshold) * layer.opacity)


def draw_slice(
    image: Volume,
    view: SliceView,
    *,
    labels: Volume | None = None,
    segments: Mapping[int, SegmentLayer] | None = None,
    cam: tuple[Volume, MapLayer] | None = None,
) -> Image.Image:
    """The plane as an RGB picture of `view.width` x `view.height`: image, then map, then masks."""
    picture = _grey(image, view)
    if cam is not None:
        picture = _with_map(picture, cam[0], view, cam[1])
    if labels is not None and segments:
        picture = _with_segments(picture, labels, view, segments)
    return Image.fromarray(np.rint(picture * 255).astype(np.uint8))


def value_at(volume: Volume, point_lps: tuple[float, float, float]) -> float | None:
    """The voxel at a point, None outside."""
    to_index = np.linalg.inv(volume.geometry.affine_lps)
    index = np.rint(to_index[:3, :3] @ np.asarray(point_lps) + to_index[:3, 3]).astype(int)
    if (index < 0).any() or (index >= np.asarray(volume.geometry.shape)).any():
        return None
    i, j, k = index
    return float(volume.array[i, j, k])
