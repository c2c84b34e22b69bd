"""A place in a case as query parameters: the link that reopens it there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from app.components.scene import Layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.services.case_view import CaseView
    from app.services.points import Point

__all__ = ["Link", "link_from_parameters"]

_LAYOUTS: dict[str, Layout] = {name: name for name in get_args(Layout)}
_FARTHEST_MM = 1e5


@dataclass(frozen=True)
class Link:
    """What a link reopens.

    Attributes:
        finding: The chosen finding.
        volume: The volume in front, "" for the first.
        point: Where the planes meet, LPS mm.
        layout: Which planes are shown, None as the viewer starts.
        window: (low, high) of the grey values.
        beside: Key of the case that stands beside it, "" for none.
    """

    finding: str | None = None
    volume: str = ""
    point: Point | None = None
    layout: Layout | None = None
    window: tuple[float, float] | None = None
    beside: str = ""

    def as_parameters(self) -> dict[str, str]:
        """Short texts; what is not set is left out."""
        found = {"finding": self.finding or "", "volume": self.volume, "layout": self.layout or ""}
        found["beside"] = self.beside
        if self.point is not None:
            found["at"] = ",".join(f"{mm:.1f}" for mm in self.point)
        if self.window is not None:
            found["window"] = ",".join(f"{value:.6g}" for value in self.window)
        return {name: value for name, value in found.items() if value}


def link_from_parameters(parameters: Mapping[str, str], case: CaseView) -> Link:
    """The place that an address names; what is not of this case is left out.

    The case beside it is taken as it stands there; only a study of the patient is ever opened.
    """
    finding, volume = parameters.get("finding"), parameters.get("volume", "")
    point = _numbers(parameters.get("at", ""), 3)
    window = _numbers(parameters.get("window", ""), 2)
    return Link(
        finding=finding if case.finding(finding) else None,
        volume=volume if volume in case.volumes else "",
        point=(point[0], point[1], point[2]) if point else None,
        layout=_LAYOUTS.get(parameters.get("layout", "")),
        window=(window[0], window[1]) if window and window[0] < window[1] else None,
        beside=parameters.get("beside", ""),
    )


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    is_sound = all(math.isfinite(value) and abs(value) < _FARTHEST_MM for value in values)
    return values if len(values) == count and is_sound else None
