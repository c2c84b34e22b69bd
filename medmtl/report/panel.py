"""One slice as a small picture: grey values, mask outlines, and the letters of orientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.prediction import VolumePrediction
    from medmtl.report.planes import Plane

__all__ = ["BACKGROUND", "Window", "colour_of", "draw_panel", "font", "window_of"]

BACKGROUND = (16, 18, 22)
"""Behind and between the panels."""

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour blindness.
_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (255, 255, 255),
)  # fmt: skip
_PALE_WHITE = (150, 150, 150)
_CT_WINDOW_HU = (-160.0, 240.0)  # the usual soft tissue window, centre 40, width 400
_SAMPLES = 200_000


@dataclass(frozen=True)
class Window:
    """Grey values: `low` and darker is black, `high` and brighter is white."""

    low: float
    high: float

    def grey(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Values as 0..255."""
        scaled = (values.astype(np.float32) - self.low) * (255.0 / (self.high - self.low))
        return np.asarray(np.clip(scaled, 0, 255), dtype=np.uint8)


def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow brings along."""
    return ImageFont.load_default(size_px)


def colour_of(label: int) -> tuple[int, int, int]:
    """Outline colour of a label (1, 2, ...): eight, then the same eight paler, then again."""
    turn, place = divmod(label - 1, len(_COLOURS))
    red, green, blue = _COLOURS[place]
    if turn % 2 == 0:
        return red, green, blue
    if min(red, green, blue) == 255:  # white has nothing paler
        return _PALE_WHITE
    return (red + 255) // 2, (green + 255) // 2, (blue + 255) // 2


def window_of(part: VolumePrediction) -> Window:
    """Soft tissue for CT; else the 1st to 99.5th percentile of the image."""
    if part.volume.modality == "CT":
        return Window(*_CT_WINDOW_HU)
    step = max(1, round((part.volume.array.size / _SAMPLES) ** (1 / 3)))
    sample = part.volume.array[::step, ::step, ::step]
    low, high = (float(value) for value in np.percentile(sample, (1.0, 99.5)))
    return Window(low, high if high > low else low + 1.0)


def draw_panel(
    part: VolumePrediction,
    plane: Plane,
    window: Window,
    *,
    box_mm: NDArray[np.float64],
    scale: float,
) -> Image.Image:
    """Draw one slice.

    Args:
        part: The volume and its label map.
        plane: Which slice, and how it is laid out.
        window: Grey values.
        box_mm: Part of the slice to show: (left, top, right, bottom) in mm from its corner.
        scale: Pixels per mm, the same in both directions.
    """
    width, height = (max(1, round(size * scale)) for size in plane.size_mm)
    grey = Image.fromarray(window.grey(plane.pixels(part.volume.array)))
    labels = plane.pixels(part.label_map).astype(np.int32)
    picture = np.array(grey.resize((width, height), Image.Resampling.BICUBIC).convert("RGB"))
    drawn = np.array(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    _outline(picture, drawn)
    left, top, right, bottom = (round(float(edge) * scale) for edge in box_mm)
    panel = Image.fromarray(picture).crop((left, top, right, bottom))
    _letter(panel, plane)
    return panel


def _outline(picture: NDArray[np.uint8], labels: NDArray[np.int32]) -> None:
    """Colour the pixels of each label that touch another one, two pixels wide."""
    edge = np.zeros(labels.shape, dtype=bool)
    for axis in (0, 1):
        for distance in (1, -1, 2, -2):
            edge |= labels != np.roll(labels, distance, axis=axis)
    for label in np.unique(labels[edge & (labels > 0)]):
        picture[edge & (labels == label)] = colour_of(int(label))


def _letter(panel: Image.Image, plane: Plane) -> None:
    left, right, top, bottom = plane.letters()
    width, height = panel.size
    draw, face = ImageDraw.Draw(panel), font(13)
    places = ((left, (4, height / 2), "lm"), (right, (width - 4, height / 2), "rm"),
              (top, (width / 2, 3), "mt"), (bottom, (width / 2, height - 3), "mb"))  # fmt: skip
    for text, place, anchor in places:
        draw.text(place, text, fill="white", font=face, anchor=anchor,
                  stroke_width=2, stroke_fill="black")  # fmt: skip
