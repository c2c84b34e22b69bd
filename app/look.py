"""Where the reader looks: the chosen finding and structure, and the point the planes meet in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.services.places import Link, link_from_parameters
from app.services.points import structure_centre

if TYPE_CHECKING:
    from app.open_case import OpenCase

__all__ = ["current_look", "look_at_finding", "look_at_segment", "move_to", "set_look"]


def current_look(case: OpenCase) -> Link:
    """What was chosen on this page, or what the address says when the case was just opened."""
    found = st.session_state.get(_key(case))
    if isinstance(found, Link):
        return found
    look = link_from_parameters(st.query_params.to_dict(), case.answer)
    if look.finding is None and case.answer.findings and not case.is_hidden:
        most = max(case.answer.findings, key=lambda one: one.probability - one.threshold)
        look = replace(look, finding=most.name)
    set_look(case, look)
    return look


def set_look(case: OpenCase, look: Link) -> None:
    """Remember it, and write it into the address: a copy of the address is the link."""
    st.session_state[_key(case)] = look
    st.query_params.from_dict({"case": case.key, **look.as_parameters()})


def look_at_finding(case: OpenCase, name: str) -> None:
    """Choose a finding; the viewer goes to its place and tells where that is."""
    set_look(case, replace(current_look(case), finding=name))


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
