"""Frames of a segmentation onto a grid, by geometry alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry

__all__ = ["Frames", "Placed", "place", "together"]

_ON_GRID_VOXEL = 0.1
"""A frame whose pixel centres all lie this close to voxel centres is copied."""

_SLACK_MM = 1e-3
"""Rounding of written positions."""

_THICKEST = 1.5
"""Frames further apart than this many voxels stand for the slices between them, too."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames and where they lie.

    Attributes:
        kind: "BINARY", "FRACTIONAL" or "LABELMAP".
        shape: Rows and columns.
        numbers: Segment of each frame, 0 in a label map.
        affines: Index (column, row, 0) to LPS mm of each frame, shape (N, 4, 4); the third column
            is the normal times the slice distance.
        bits: Stored bits per pixel.
        maximum: Largest value of a fractional segmentation.
        pixels: The frames one behind the other.
    """

    kind: str
    shape: tuple[int, int]
    numbers: NDArray[np.int64]
    affines: NDArray[np.float64]
    bits: int
    maximum: int
    pixels: NDArray[Any]

    @property
    def is_label_map(self) -> bool:
        """Whether frames hold segment numbers."""
        return self.kind == "LABELMAP"

    @property
    def is_fractional(self) -> bool:
        """Whether frames hold probabilities or occupancies."""
        return self.kind == "FRACTIONAL"

    @classmethod
    def of(cls, answer: Mapping[str, Any], pixels: bytes) -> Frames:
        """From the worker's description and bytes."""
        bits = int(answer["bits"])
        items = answer["frames"]
        slice_mm = _slice_mm(float(answer["slice_mm"]), items)
        dtype = "<u2" if bits == 16 else "u1"
        return cls(
            kind=str(answer["kind"]),
            shape=(int(answer["rows"]), int(answer["columns"])),
            numbers=np.array([item["segment"] for item in items]),
            affines=np.array([_affine(item, slice_mm) for item in items]),
            bits=bits,
            maximum=int(answer["maximum"]),
            pixels=np.frombuffer(pixels, dtype),
        )

    def chosen(self, number: int) -> NDArray[np.intp]:
        """Frames that can hold a segment."""
        return np.flatnonzero((self.numbers == number) | self.is_label_map)

    def mask(self, frame: int, number: int) -> NDArray[np.bool_]:
        """Where a frame holds a segment, shape (rows, columns)."""
        size = self.shape[0] * self.shape[1]
        start = frame * size
        if self.bits == 1:
            first, last = start // 8, -(-(start + size) // 8)
            bits = np.unpackbits(self.pixels[first:last], bitorder="little")
            return bits[start - 8 * first :][:size].reshape(self.shape).astype(bool)
        values = self.pixels[start : start + size].reshape(self.shape)
        if self.is_label_map:
            return np.asarray(values == number)
        return np.asarray(2 * values.astype(np.int64) >= max(1, self.maximum))


@dataclass(frozen=True, eq=False)
class Placed:
    """One segment on the grid.

    Attributes:
        mask: Bool, shape (i, j, k).
        is_sampled: Whether a frame had to be sampled.
        lost: Set pixels that lie outside of the grid.
    """

    mask: NDArray[np.bool_]
    is_sampled: bool
    lost: int


def together(parts: Iterable[Placed], geometry: Geometry) -> Placed:
    """Several pieces of one segment."""
    pieces = list(parts)
    if len(pieces) == 1:
        return pieces[0]
    mask = np.zeros(geometry.shape, dtype=bool, order="F")
    is_sampled, lost = False, 0
    for part in pieces:
        mask |= part.mask
        is_sampled, lost = is_sampled or part.is_sampled, lost + part.lost
    return Placed(mask, is_sampled, lost)


def _affine(item: Mapping[str, Any], slice_mm: float) -> NDArray[np.float64]:
    row, column = np.reshape(np.asarray(item["orientation"], dtype=np.float64), (2, 3))
    row_mm, column_mm = item["spacing"]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * column_mm, column * row_mm
    affine[:3, 2] = np.cross(row, column) * slice_mm
    affine[:3, 3] = item["position"]
    return affine


def _slice_mm(stated: float, items: list[Mapping[str, Any]]) -> float:
    """Distance between planes: as stated, or as they lie where that is less (empty ones may miss).

    1 mm where one plane says nothing.
    """
    normal = np.cross(items[0]["orientation"][:3], items[0]["orientation"][3:])
    heights = np.unique(np.round([np.dot(item["position"], normal) for item in items], 3))
    gaps = [*np.diff(heights).tolist(), *([stated] if stated else [])]
    return min(gaps, default=1.0)


def place(frames: Frames, number: int, geometry: Geometry) -> Placed:
    """Put the frames of one segment onto a grid."""
    mask = np.zeros(geometry.shape, dtype=bool, order="F")  # a slice in one piece
    to_index = np.linalg.inv(geometry.affine_lps)
    others, lost = [], 0
    for frame in frames.chosen(number):
        matrix = to_index @ frames.affines[frame]
        axes = _on_grid(matrix, frames.shape)
        if axes is None or abs(matrix[axes[2], 2]) > _THICKEST:
            others.append(int(frame))
            continue
        lost += _copy(frames.mask(int(frame), number), matrix, axes, mask)
    if others:
        _sample(frames, others, number, geometry, mask)
        for frame in others:
            lost += _outside(frames, frame, number, geometry)
    return Placed(mask, bool(others), lost)


def _outside(frames: Frames, frame: int, number: int, geometry: Geometry) -> int:
    """Set pixels of a frame whose centres lie in no voxel of the grid."""
    r, c = np.nonzero(frames.mask(frame, number))
    pixels = np.stack([c, r, np.zeros(r.size), np.ones(r.size)])
    index = (np.linalg.inv(geometry.affine_lps) @ frames.affines[frame] @ pixels)[:3] + 0.5
    size = np.array(geometry.shape)[:, None]
    slack = 1e-3  # a centre on the border belongs to the grid
    return int(((index < -slack) | (index > size + slack)).any(axis=0).sum())


def _on_grid(matrix: NDArray[np.float64], shape: tuple[int, int]) -> tuple[int, int, int] | None:
    """Grid axis along columns, rows and the normal where every pixel is a voxel, else None."""
    first = int(np.abs(matrix[:3, 0]).argmax())
    second = int(np.abs(matrix[:3, 1]).argmax())
    if first == second:
        return None
    exact = matrix[:3].copy()
    exact[:, :2] = 0.0
    exact[first, 0], exact[second, 1] = np.sign(matrix[first, 0]), np.sign(matrix[second, 1])
    exact[:, 3] = np.round(matrix[:3, 3])
    rows, columns = shape
    corners = np.array([[c, r, 0, 1] for c in (0, columns - 1) for r in (0, rows - 1)]).T
    off = np.abs((matrix[:3] - exact) @ corners).max()
    return (first, second, 3 - first - second) if off <= _ON_GRID_VOXEL else None


def _copy(
    pixels: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    axes: tuple[int, int, int],
    mask: NDArray[np.bool_],
) -> int:
    """Set the voxels of one frame; the number of set pixels outside of the grid."""
    total = int(np.count_nonzero(pixels))
    start = np.round(matrix[:3, 3]).astype(int).tolist()
    first, second, third = axes
    if not total or not 0 <= start[third] < mask.shape[third]:
        return total
    target: list[Any] = [0, 0, 0]
    target[third] = start[third]
    source = []
    for axis, other, size in ((second, 1, pixels.shape[0]), (first, 0, pixels.shape[1])):
        is_flipped = matrix[axis, other] < 0
        low = start[axis] - (size - 1) if is_flipped else start[axis]
        begin, end = max(0, -low), min(size, mask.shape[axis] - low)
        if begin >= end:
            return total
        target[axis] = slice(low + begin, low + end)
        source.append(
            slice(size - 1 - begin, size - 1 - end if end < size else None, -1)
            if is_flipped
            else slice(begin, end)
        )
    part = pixels[source[0], source[1]]
    mask[tuple(target)] |= part if second < first else part.T
    return total - int(np.count_nonzero(part))


def _sample(
    frames: Frames,
    chosen: list[int],
    number: int,
    geometry: Geometry,
    mask: NDArray[np.bool_],
) -> None:
    """Each voxel takes the nearest pixel of the nearest frame within half a slice distance."""
    affines = frames.affines[chosen]
    step = affines[0][:3, 2]
    normal = step / np.linalg.norm(step)
    order = np.argsort(affines[:, :3, 3] @ normal, kind="stable")
    affines = affines[order]
    heights = affines[:, :3, 3] @ normal
    half_mm = 0.5 * float(np.linalg.norm(step))
    planes = np.stack([frames.mask(chosen[n], number) for n in order])
    inverse = np.linalg.inv(affines)
    i, j = np.meshgrid(*(np.arange(size) for size in geometry.shape[:2]), indexing="ij")
    base = np.stack([i.ravel(), j.ravel(), np.zeros(i.size), np.ones(i.size)])
    for k in range(geometry.shape[2]):
        base[2] = k
        points = geometry.affine_lps @ base
        height = normal @ points[:3]
        nearest = _nearest(heights, height)
        above = height - heights[nearest]  # half open: no slice belongs to two frames
        near = np.flatnonzero((above > _SLACK_MM - half_mm) & (above <= half_mm + _SLACK_MM))
        if not near.size:
            continue
        which = nearest[near]
        pixel = np.einsum("nij,jn->in", inverse[which][:, :2], points[:, near])
        c, r = np.floor(pixel + 0.5).astype(int)
        rows, columns = frames.shape
        ok = (c >= 0) & (c < columns) & (r >= 0) & (r < rows)
        hit = near[ok][planes[which[ok], r[ok], c[ok]]]
        mask[..., k].flat[hit] = True


def _nearest(sorted_values: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.intp]:
    right = np.searchsorted(sorted_values, wanted).clip(1, max(1, len(sorted_values) - 1))
    right = np.minimum(right, len(sorted_values) - 1)
    left = np.maximum(right - 1, 0)
    nearer_mm = np.abs(sorted_values[right] - wanted) - np.abs(sorted_values[left] - wanted)
    is_left = nearer_mm >= -2 * _SLACK_MM  # half way between is the lower one's
    return np.asarray(np.where(is_left, left, right))
