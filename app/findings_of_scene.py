"""The findings of a case as the volume viewer chooses them: their maps, and where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.components.scene import ActivationMap, SceneFinding
from app.services.points import label_at, largest_piece
from app.services.words import sentence
from app.serving.gateway import gateway
from app.serving.peak import Place
from app.serving.sources import NiftiSource
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.open_case import OpenCase
    from app.services.case_view import FindingView, SegmentView
    from app.services.points import Point

__all__ = ["finding_control", "findings_of_scene", "point_of_finding"]


def finding_control(number: int) -> str:
    """Key of the button of the page that chooses a finding, counted from 0."""
    return f"finding-{number}"


def findings_of_scene(case: OpenCase, session: str) -> tuple[SceneFinding, ...]:
    """Every finding of the case; what must not be seen yet is not in it."""
    return tuple(
        _finding(case, finding, number, session)
        for number, finding in enumerate(case.answer.findings)
    )


def _finding(case: OpenCase, finding: FindingView, number: int, session: str) -> SceneFinding:
    bare = SceneFinding(
        finding.name, sentence(finding.name), control=f"st-key-{finding_control(number)}"
    )
    if case.is_hidden:
        return bare
    sources = {volume: NiftiSource(case.folder, file) for volume, file in finding.maps.items()}
    maps = {volume: gateway().register_map(session, one) for volume, one in sources.items()}
    stamp = "\0".join(source.key for source in sources.values())
    return SceneFinding(
        bare.name,
        bare.title,
        control=bare.control,
        place_url=gateway().register_place(
            session,
            key=f"{case.key}\0{case.row.model_sha256}\0{case.ref.answer}\0{finding.name}\0{stamp}",
            find=_place(case, finding, sources),
        ),
        activation=ActivationMap(maps) if maps else None,
    )


def _place(
    case: OpenCase, finding: FindingView, maps: Mapping[str, NiftiSource]
) -> Callable[[], Place]:
    """Looks where the finding is to be seen; nothing of Streamlit in it."""

    def find() -> Place:
        peaks = {volume: gateway().peak(source) for volume, source in maps.items()}
        volume = max(peaks, key=lambda one: peaks[one].highest, default="")
        peak = peaks.get(volume, Place(None, 0.0))
        return Place(point_of_finding(case, finding, volume, peak.point_lps), peak.highest)

    return find


def point_of_finding(
    case: OpenCase, finding: FindingView, volume: str, peak: Point | None
) -> Point | None:
    """The largest lesion of a present finding, else the peak of the map.

    A peak beside all structures that the finding is about tells nothing of it (the evidence says
    so): then the largest of these structures.
    """
    lesions = case.model.lesions if case.model else frozenset()
    own = _own_segments(case, finding)
    try:
        if finding.is_present:
            lesion = _middle(case, [one for one in own if one.name in lesions])
            if lesion is not None:
                return lesion
        if peak is not None and (not own or _is_inside(case, own, volume, peak)):
            return peak
        return _middle(case, own) or peak
    except MedmtlError:
        return peak  # without its mask, the map still has a peak


def _own_segments(case: OpenCase, finding: FindingView) -> list[SegmentView]:
    """What the finding is about, where there is any of it."""
    model = case.model
    names = {finding.name, *model.finding_segments.get(finding.name, ())} if model else set()
    return [one for one in case.answer.segments if one.name in names and one.volume_ml > 0]


def _middle(case: OpenCase, segments: list[SegmentView]) -> Point | None:
    """Of the largest piece of the largest of them."""
    best = max(segments, key=lambda one: one.volume_ml, default=None)
    if best is None:
        return None
    masks = case.masks(best.volume)
    return largest_piece(masks.label_map, best.label, masks.geometry)


def _is_inside(case: OpenCase, segments: list[SegmentView], volume: str, point: Point) -> bool:
    masks = case.masks(volume)
    label = label_at(masks.label_map, point, masks.geometry)
    return any(one.volume == volume and one.label == label for one in segments)
