"""The findings of a case as the volume viewer chooses them: their maps, and where to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.components.scene import ActivationMap, SceneFinding
from app.services.points import largest_piece
from app.services.words import sentence
from app.serving.gateway import gateway
from app.serving.peak import Place
from app.serving.sources import NiftiSource
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.open_case import OpenCase
    from app.services.case_view import FindingView
    from app.services.points import Point

__all__ = ["finding_control", "findings_of_scene"]


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
            key=f"{case.key}\0{case.row.model_sha256}\0{finding.name}\0{stamp}",
            find=_place(case, finding, tuple(sources.values())),
        ),
        activation=ActivationMap(maps) if maps else None,
    )


def _place(
    case: OpenCase, finding: FindingView, maps: tuple[NiftiSource, ...]
) -> Callable[[], Place]:
    """Looks for the largest lesion, else the peak of the maps; nothing of Streamlit in it."""

    def find() -> Place:
        peaks = [gateway().peak(source) for source in maps]
        peak = max(peaks, key=lambda one: one.highest, default=Place(None, 0.0))
        lesion = _largest_lesion(case, finding) if finding.is_present else None
        return Place(lesion or peak.point_lps, peak.highest)

    return find


def _largest_lesion(case: OpenCase, finding: FindingView) -> Point | None:
    """The middle of the largest piece of the finding's largest lesion."""
    model = case.model
    if model is None:
        return None
    wanted = {finding.name, *model.finding_segments.get(finding.name, ())} & model.lesions
    found = [one for one in case.answer.segments if one.name in wanted and one.volume_ml > 0]
    best = max(found, key=lambda one: one.volume_ml, default=None)
    if best is None:
        return None
    try:
        masks = case.masks(best.volume)
    except MedmtlError:
        return None  # without its mask, the map still has a peak
    return largest_piece(masks.label_map, best.label, masks.geometry)
