"""Truth and answer side by side, at the slice where they differ most."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from medmtl.core.prediction import VolumePrediction
from medmtl.report.panel import BACKGROUND, Window, draw_panel, font, window_of
from medmtl.report.planes import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from medmtl.report.planes import Plane

__all__ = ["comparison_png"]

_PANEL_PX = 230
_GAP_PX = 4
_MARGIN_MM = 20.0
_MAX_ROWS = 3
_COLOURS = 128  # a palette: a quarter of the bytes, and a report holds dozens of pictures


def comparison_png(pairs: Sequence[tuple[VolumePrediction, NDArray[Any] | None]]) -> bytes:
    """A PNG with one row per volume: the true outlines on the left, the predicted on the right.

    Args:
        pairs: Each volume with the model's label map, and the true label map in the same labels
            and grid, None where there is none.
    """
    rows = [_row(answer, truth) for answer, truth in pairs[:_MAX_ROWS]]
    width = max(row.width for row in rows)
    height = sum(row.height + _GAP_PX for row in rows) - _GAP_PX
    picture, top = Image.new("RGB", (width, height), BACKGROUND), 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height + _GAP_PX
    stream = io.BytesIO()
    picture.quantize(_COLOURS).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _row(answer: VolumePrediction, truth: NDArray[Any] | None) -> Image.Image:
    plane = _most_different(answer, truth)
    window, box_mm = window_of(answer), _box_mm(answer, truth, plane)
    panels = []
    if truth is not None:
        panels.append(_panel(VolumePrediction(answer.volume, truth), plane, window, box_mm))
    panels.append(_panel(answer, plane, window, box_mm))
    captions = ("truth", "model") if truth is not None else ("model",)
    row = Image.new("RGB", (2 * _PANEL_PX + _GAP_PX, panels[0].height), BACKGROUND)
    for number, (panel, caption) in enumerate(zip(panels, captions, strict=True)):
        text = f"{caption}  {answer.volume.id} {plane.index + 1}"
        ImageDraw.Draw(panel).text(
            (4, 3), text, fill="white", font=font(12), stroke_width=2, stroke_fill="black"
        )
        row.paste(panel, (number * (_PANEL_PX + _GAP_PX), 0))
    return row


def _panel(
    part: VolumePrediction, plane: Plane, window: Window, box_mm: NDArray[np.float64]
) -> Image.Image:
    scale = _PANEL_PX / float(max(box_mm[2] - box_mm[0], box_mm[3] - box_mm[1]))
    panel = draw_panel(part, plane, window, box_mm=box_mm, scale=scale)
    ground = Image.new("RGB", (_PANEL_PX, min(_PANEL_PX, panel.height)), BACKGROUND)
    ground.paste(panel, (max(0, (_PANEL_PX - panel.width) // 2), 0))
    return ground


def _most_different(answer: VolumePrediction, truth: NDArray[Any] | None) -> Plane:
    """Of the slices across the widest spacing, that with the most voxels that differ.

    Where none differs, that with the most labelled voxels; the middle one without any label.
    """
    geometry = answer.volume.geometry
    spacing = np.round(np.asarray(geometry.spacing_mm, dtype=np.float64), 3)
    normal = 2 - int(np.argmax(spacing[::-1]))  # of equals the last axis, usually axial
    others = tuple(axis for axis in range(3) if axis != normal)
    counts = np.zeros(geometry.shape[normal], dtype=np.int64)
    if truth is not None:
        counts = np.count_nonzero(answer.label_map != truth, axis=others)
    if not counts.any():
        counts = np.count_nonzero(answer.label_map, axis=others)
    index = int(counts.argmax()) if counts.any() else geometry.shape[normal] // 2
    return cut(geometry, normal=normal, index=index)


def _box_mm(
    answer: VolumePrediction, truth: NDArray[Any] | None, plane: Plane
) -> NDArray[np.float64]:
    """Around both masks in this slice with a margin, (left, top, right, bottom); else all of it."""
    inside = plane.pixels(answer.label_map) > 0
    if truth is not None:
        inside = inside | (plane.pixels(truth) > 0)
    width_mm, height_mm = plane.size_mm
    if not inside.any():
        return np.array([0.0, 0.0, width_mm, height_mm])
    edges = []
    for axis, size_mm in ((0, width_mm), (1, height_mm)):
        found = np.flatnonzero(inside.any(axis=axis))
        step = size_mm / inside.shape[1 - axis]
        low, high = found[0] * step - _MARGIN_MM, (found[-1] + 1) * step + _MARGIN_MM
        edges.append((max(0.0, low), min(size_mm, high)))
    (left, right), (top, bottom) = edges
    return np.array([left, top, right, bottom])
