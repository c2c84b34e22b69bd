"""Where the reader looks: the chosen finding and structure, and the point the planes meet in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.services.places import Link, link_from_parameters
from app.services.points import largest_piece, map_peak, structure_centre
from medmtl.core.errors import MedmtlError
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.open_case import OpenCase
    from app.services.points import Point

__all__ = [
    "current_look",
    "largest_activation",
    "look_at_finding",
    "look_at_segment",
    "move_to",
    "set_look",
]


def current_look(case: OpenCase) -> Link:
    """What was chosen on this page, or what the address says when the case was just opened."""
    found = st.session_state.get(_key(case))
    if isinstance(found, Link):
        return found
    look = link_from_parameters(st.query_params.to_dict(), case.answer)
    if look.finding is None and case.answer.findings and not case.is_hidden:
        most = max(case.answer.findings, key=lambda one: one.probability - one.threshold)
        look = replace(look, finding=most.name)
        if look.point is None:
            look = replace(look, point=_point_of_finding(case, most.name))
    set_look(case, look)
    return look


def set_look(case: OpenCase, look: Link) -> None:
    """Remember it, and write it into the address: a copy of the address is the link."""
    st.session_state[_key(case)] = look
    st.query_params.from_dict({"case": case.key, **look.as_parameters()})


def look_at_finding(case: OpenCase, name: str) -> None:
    """Choose a finding and go to the largest lesion, or the peak of its map."""
    point = None if case.is_hidden else _point_of_finding(case, name)
    look = current_look(case)
    set_look(case, replace(look, finding=name, point=point or look.point))


def look_at_segment(case: OpenCase, volume: str, label: int) -> None:
    """Go to the middle of a structure."""
    masks = case.masks(volume)
    point = structure_centre(masks.label_map, label, masks.geometry)
    look = current_look(case)
    set_look(case, replace(look, volume=volume, point=point or look.point))


def move_to(case: OpenCase, **place: Any) -> None:
    """The reader moved the crosshair or changed the layout by hand."""
    set_look(case, replace(current_look(case), **place))


def _key(case: OpenCase) -> str:
    return f"look:{case.key}"


def _point_of_finding(case: OpenCase, name: str) -> Point | None:
    finding = case.answer.finding(name)
    try:
        lesion = _lesion_of(case, name)
        if finding is not None and finding.is_present and lesion is not None:
            masks = case.masks(lesion[0])
            return largest_piece(masks.label_map, lesion[1], masks.geometry)
        if finding is not None and finding.maps:
            return _peak(case, finding.maps)
    except MedmtlError:
        return None  # a run without NIfTI files has no place to go to; the page says so elsewhere
    return None


def _lesion_of(case: OpenCase, name: str) -> tuple[str, int] | None:
    """Volume and label of the finding's largest lesion that is not empty."""
    wanted = {name, *(case.model.finding_segments.get(name, ()) if case.model else ())}
    lesions = case.model.lesions if case.model else frozenset()
    found = [
        segment
        for segment in case.answer.segments
        if segment.name in wanted & lesions and segment.volume_ml > 0
    ]
    best = max(found, key=lambda segment: segment.volume_ml, default=None)
    return None if best is None else (best.volume, best.label)


def _peak(case: OpenCase, maps: Mapping[str, str]) -> Point | None:
    """The place of the largest value of a finding's maps."""
    found = [_map_peak(case, name) for name in maps.values()]
    return max(found, key=lambda one: one[1], default=(None, 0.0))[0]


def largest_activation(case: OpenCase, maps: Mapping[str, str]) -> float:
    """The largest value of a finding's maps, 0 for maps of zeros.

    A map is 1 at its peak on the network's own coarse grid; on the grid of the image that peak lies
    between voxels, and a map of few cells is nowhere near 1.
    """
    return max((_map_peak(case, name)[1] for name in maps.values()), default=0.0)


def _map_peak(case: OpenCase, name: str) -> tuple[Point | None, float]:
    path = case.folder / name
    stamp = path.stat().st_mtime_ns if path.exists() else 0
    return _read_peak(str(case.folder), name, stamp)


@st.cache_data(show_spinner=False, max_entries=500)
def _read_peak(
    folder: str,
    name: str,
    stamp: int,  # noqa: ARG001 - the key of the cache
) -> tuple[Point | None, float]:
    volume = read_volume_file(Path(folder), name)
    return map_peak(volume.array, volume.geometry), float(volume.array.max(initial=0.0))
