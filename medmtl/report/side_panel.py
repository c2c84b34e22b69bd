"""What stands beside the picture: findings, colours of the segments, measurements, the notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from medmtl.report.panel import BACKGROUND, colour_of, font

if TYPE_CHECKING:
    from medmtl.core.prediction import Prediction, VolumePrediction

__all__ = ["SIDE_PX", "draw_side"]

SIDE_PX = 330
"""Width of the side panel."""

_GREY = (165, 170, 178)
_PRESENT = (240, 228, 66)


def draw_side(case_id: str, prediction: Prediction, part: VolumePrediction) -> Image.Image:
    """Findings with their probabilities, segments with their colours, and what this is not."""
    shown = [s for s in prediction.segments if s.volume == part.volume.id]
    lines = len(prediction.findings) * 38 + len(shown) * 20
    lines += len(prediction.measurements) * 17 + len(prediction.flags) * 18
    side = Image.new("RGB", (SIDE_PX, lines + 230), BACKGROUND)
    draw = ImageDraw.Draw(side)
    model = f"{prediction.model.name} {prediction.model.version}"
    top = _text(draw, 10, _short(case_id, 34), size_px=15)
    top = _text(draw, top, f"volume {_short(part.volume.id, 26)}   {_short(model, 30)}", grey=True)
    top = _findings(draw, top + 8, prediction)
    top += 8
    for segment in shown:
        draw.rectangle((8, top + 3, 20, top + 13), fill=colour_of(segment.label))
        draw.text((28, top), _short(_words(segment.name), 26), fill="white", font=font(13))
        draw.text((SIDE_PX - 10, top), f"{segment.volume_ml:.1f} mL", fill="white",
                  font=font(13), anchor="ra")  # fmt: skip
        top += 20
    top = _measurements(draw, top + 8, prediction)
    for flag in prediction.flags:
        top = _text(
            draw, top, f"{flag.severity}: {_short(flag.code, 38)}", grey=flag.severity == "info"
        )
    for line in ("Research use only.", *_wrapped(prediction.notice, 46)):
        top = _text(draw, top, line, grey=True)
    return side.crop((0, 0, SIDE_PX, top + 8))


def _findings(draw: ImageDraw.ImageDraw, top: float, prediction: Prediction) -> float:
    """A bar per finding, with a tick at its threshold; present ones are bright."""
    for finding in prediction.findings:
        colour = _PRESENT if finding.decision else _GREY
        said = "present" if finding.decision else "absent"
        draw.text((8, top), _short(_words(finding.name), 30), fill=colour, font=font(13))
        draw.text((SIDE_PX - 10, top), f"{said}  {finding.probability:.2f}", fill=colour,
                  font=font(13), anchor="ra")  # fmt: skip
        length = SIDE_PX - 18
        draw.rectangle((8, top + 19, 8 + length, top + 26), fill=(45, 48, 54))
        draw.rectangle((8, top + 19, 8 + length * finding.probability, top + 26), fill=colour)
        tick = 8 + length * finding.threshold
        draw.line((tick, top + 16, tick, top + 29), fill="white", width=2)
        top += 38
    return top


def _measurements(draw: ImageDraw.ImageDraw, top: float, prediction: Prediction) -> float:
    on_masks = [m for m in prediction.measurements if not m.name.startswith("network_")]
    for measurement in on_masks:
        value = "not known" if measurement.value is None else f"{measurement.value:.4g}"
        unit = "" if measurement.unit == "1" or measurement.value is None else measurement.unit
        draw.text((8, top), _short(_words(measurement.name), 34), fill=_GREY, font=font(12))
        draw.text((SIDE_PX - 10, top), f"{value} {unit}".strip(), fill=_GREY, font=font(12),
                  anchor="ra")  # fmt: skip
        top += 17
    return top + 8


def _text(
    draw: ImageDraw.ImageDraw, top: float, text: str, *, size_px: int = 12, grey: bool = False
) -> float:
    draw.text((8, top), text, fill=_GREY if grey else "white", font=font(size_px))
    return top + size_px + 6


def _words(name: str) -> str:
    return name.replace("_", " ")


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _wrapped(text: str, length: int) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > length and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
