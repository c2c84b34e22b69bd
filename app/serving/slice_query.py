"""What a browser without WebGL2 asks for; it is not trusted, so every field has a range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.serving.slice_drawing import MapLayer, SegmentLayer, SliceView

__all__ = ["SliceQuery"]

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST_PX = 2048

Mm = Annotated[float, Field(ge=-1e5, le=1e5)]
Vector = tuple[Mm, Mm, Mm]
Byte = Annotated[int, Field(ge=0, le=255)]
Share = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=1, le=LARGEST_PX)]
Intensity = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SegmentQuery(_Strict):
    """One visible segment."""

    label: Annotated[int, Field(ge=1, le=65535)]
    colour: tuple[Byte, Byte, Byte]
    opacity: Share
    is_outline: bool = False


class MapQuery(_Strict):
    """The chosen map."""

    finding: str
    threshold: Share
    opacity: Share
    colours: Literal["inferno", "viridis", "cividis"]
    low: Share
    high: Share


class SliceQuery(_Strict):
    """One picture."""

    origin_lps: Vector
    right_mm: Vector
    down_mm: Vector
    width: Size
    height: Size
    window: tuple[Intensity, Intensity]
    is_inverted: bool = False
    is_smooth: bool = True
    segments: tuple[SegmentQuery, ...] = ()
    cam: MapQuery | None = None

    def view(self) -> SliceView:
        """Plane and grey values."""
        return SliceView(
            origin_lps=self.origin_lps,
            right_mm=self.right_mm,
            down_mm=self.down_mm,
            width=self.width,
            height=self.height,
            window=self.window,
            is_inverted=self.is_inverted,
            is_smooth=self.is_smooth,
        )

    def layers(self) -> Mapping[int, SegmentLayer]:
        """How each visible label is painted."""
        return {
            item.label: SegmentLayer(item.colour, item.opacity, item.is_outline)
            for item in self.segments
        }

    def map_layer(self) -> MapLayer | None:
        """How the map is painted."""
        cam = self.cam
        if cam is None:
            return None
        return MapLayer(cam.threshold, cam.opacity, cam.colours, cam.low, cam.high)
