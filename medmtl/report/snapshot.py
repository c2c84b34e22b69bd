"""preview.png: the masks on the image and the findings beside it, to see whether it is right.

A stack of thick slices (cardiac short axis) is shown slice by slice, with the other volumes of the
study below, so that the phases can be compared; an isotropic volume in three planes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from medmtl.core.durable import durable_file
from medmtl.report.panel import BACKGROUND, draw_panel, font, window_of
from medmtl.report.planes import Plane, cut
from medmtl.report.side_panel import SIDE_PX, draw_side

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.core.prediction import Prediction, VolumePrediction

__all__ = ["write_preview"]

_PANEL_PX = 330
_COLUMNS = 5
_GAP_PX = 6
_MARGIN_MM = 25.0
_THICK = 2.5  # spacing between slices over spacing inside them
_MAX_ROWS = 3
_PNG_LEVEL = 3
"""Half the time of the usual level, for a few percent of size."""


def write_preview(path: Path, case_id: str, prediction: Prediction, part: VolumePrediction) -> None:
    """Write the preview of one volume.

    Args:
        path: PNG file to write.
        case_id: Name of the case; no identity.
        prediction: The whole answer; its findings and measurements stand beside the picture.
        part: The volume to show; the study's other volumes follow where they are stacks too.

    Raises:
        OSError: If the file cannot be written.
    """
    if _is_stack(part.volume.geometry):
        others = [p for p in prediction.volumes if p is not part and _is_stack(p.volume.geometry)]
        rows = [_stack_row(shown) for shown in [part, *others][:_MAX_ROWS]]
    else:
        rows = [_three_planes(part)]
    picture = _compose(rows, draw_side(case_id, prediction, part))
    with durable_file(path) as stream:
        picture.save(stream, format="PNG", compress_level=_PNG_LEVEL)


def _is_stack(geometry: Geometry) -> bool:
    i_mm, j_mm, k_mm = geometry.spacing_mm
    return k_mm > _THICK * max(i_mm, j_mm)


def _extent(part: VolumePrediction, axis: int) -> tuple[int, int]:
    """First and last index along an axis that holds a label; the whole axis where none does."""
    found = np.flatnonzero(part.runs.sections[axis].any(axis=0))
    if found.size == 0:
        return 0, part.label_map.shape[axis] - 1
    return int(found[0]), int(found[-1])


def _box_mm(part: VolumePrediction, plane: Plane) -> NDArray[np.float64]:
    """Rectangle around the masks, with a margin: (left, top, right, bottom) in mm."""
    edges = []
    for axis, sign in (plane.right, plane.down):
        size, spacing = part.volume.geometry.shape[axis], part.volume.geometry.spacing_mm[axis]
        first, last = _extent(part, axis)
        low, high = (first, last + 1) if sign > 0 else (size - 1 - last, size - first)
        low_mm, high_mm = low * spacing - _MARGIN_MM, high * spacing + _MARGIN_MM
        edges.append((max(0.0, low_mm), min(size * spacing, high_mm)))
    (left, right), (top, bottom) = edges
    return np.array([left, top, right, bottom])


def _stack_row(part: VolumePrediction) -> Image.Image:
    """Evenly chosen slices between the first and the last that hold a label."""
    first, last = _extent(part, 2)
    count = min(_COLUMNS, last - first + 1)
    chosen = np.unique(np.linspace(first, last, count).round().astype(int))
    window, panels = window_of(part), []
    for index in chosen:
        plane = cut(part.volume.geometry, normal=2, index=int(index))
        box = _box_mm(part, plane)
        scale = _PANEL_PX * 0.95 / max(box[2] - box[0], box[3] - box[1])
        panel = draw_panel(part, plane, window, box_mm=box, scale=scale)
        _caption(panel, f"{part.volume.id}  slice {index + 1}/{part.label_map.shape[2]}")
        panels.append(panel)
    return _beside(panels)


def _three_planes(part: VolumePrediction) -> Image.Image:
    """Axial, coronal and sagittal through the middle of the masks, whole slices, one scale."""
    geometry = part.volume.geometry
    planes = [cut(geometry, normal=axis, index=_busiest(part, axis)) for axis in (2, 1, 0)]
    planes.sort(key=lambda plane: _PLANE_ORDER[_plane_name(plane)])
    scale = min(_PANEL_PX * 1.6 / max(plane.size_mm) for plane in planes)
    window, panels = window_of(part), []
    for plane in planes:
        box = np.array([0.0, 0.0, *plane.size_mm])
        panel = draw_panel(part, plane, window, box_mm=box, scale=scale)
        _caption(panel, f"{_plane_name(plane)} {plane.index + 1}/{geometry.shape[plane.normal]}")
        panels.append(panel)
    return _beside(panels)


_PLANE_ORDER = {"axial": 0, "coronal": 1, "sagittal": 2}


def _plane_name(plane: Plane) -> str:
    normal = np.abs(plane.geometry.direction[:, plane.normal])
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def _busiest(part: VolumePrediction, axis: int) -> int:
    """The slice that meets the most segments, and of those the one with the most voxels."""
    first, last = _extent(part, axis)
    sections = part.runs.sections[axis]
    if sections.size == 0:
        return part.volume.geometry.shape[axis] // 2
    plane_voxels = part.label_map.size // part.label_map.shape[axis]

    def richness(index: int) -> tuple[int, int]:
        voxels = int(sections[:, index].sum())
        has_background = voxels < plane_voxels
        return int(np.count_nonzero(sections[:, index])) + has_background, voxels

    step = max(1, (last - first) // 24)
    return max(range(first, last + 1, step), key=richness)


def _caption(panel: Image.Image, text: str) -> None:
    ImageDraw.Draw(panel).text(
        (4, 3), text, fill="white", font=font(12), stroke_width=2, stroke_fill="black"
    )


def _beside(panels: list[Image.Image]) -> Image.Image:
    width = sum(panel.width + _GAP_PX for panel in panels) - _GAP_PX
    row = Image.new("RGB", (width, max(panel.height for panel in panels)), BACKGROUND)
    left = 0
    for panel in panels:
        row.paste(panel, (left, (row.height - panel.height) // 2))
        left += panel.width + _GAP_PX
    return row


def _compose(rows: list[Image.Image], side: Image.Image) -> Image.Image:
    width = max(row.width for row in rows) + SIDE_PX + 3 * _GAP_PX
    height = max(sum(row.height + _GAP_PX for row in rows) + _GAP_PX, side.height)
    picture = Image.new("RGB", (width, height), BACKGROUND)
    top = _GAP_PX
    for row in rows:
        picture.paste(row, (_GAP_PX, top))
        top += row.height + _GAP_PX
    picture.paste(side, (width - SIDE_PX, 0))
    return picture
