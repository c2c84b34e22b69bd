"""The volume of a case, in the browser's own viewer; the preview where its image is missing."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from app.components.scene import CrosshairMoved, KeyPressed, MaskSaved
from app.components.volume_viewer import VIEWER, volume_viewer
from app.look import move_to
from app.scene_of_case import has_cine, scene_of_case
from app.screens.case_beside import other_studies, study_beside
from app.shown_masks import newest_corrections, own_masks_key
from app.state import reading_order
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.components.scene import Scene, ViewerEvent
    from app.open_case import OpenCase
    from app.services.corrections import KeptCorrection

__all__ = ["volume_area"]

_MOST_PX = 2000
_ABOVE_PX = 108  # navigation and the line of the case
_SWITCH_PX = 48


def volume_area(case: OpenCase) -> None:
    """The viewer, or why there is none."""
    others = other_studies(case)
    corrected = {} if case.is_hidden else newest_corrections(case)
    has_switches = has_cine(case) or bool(others or corrected)
    is_cine, beside = False, None
    if has_switches:
        with st.container(horizontal=True, vertical_alignment="center", key="volume_switches"):
            is_cine = has_cine(case) and st.toggle("All phases of the cine", key=f"cine:{case.key}")
            beside = study_beside(case, others) if others else None
            if corrected:
                _whose_masks(case, corrected)
    scene = _scene(case, is_cine=is_cine, beside=beside)
    if scene is not None:
        _viewer(case, scene, above=_ABOVE_PX + (_SWITCH_PX if has_switches else 0))


def _whose_masks(case: OpenCase, corrected: Mapping[str, KeptCorrection]) -> None:
    """Who made the masks that are shown, and the way to the model's own."""
    wants_own = st.toggle("The model's own masks", key=own_masks_key(case, corrected))
    names = ", ".join(f"{one.upper()} by {kept.reviewer}" for one, kept in corrected.items())
    words = f"Corrected and not shown: {names}" if wants_own else f"Shown as corrected: {names}"
    st.html(f'<span class="m-muted">{escape(words)}</span>')


def _scene(case: OpenCase, *, is_cine: bool, beside: OpenCase | None) -> Scene | None:
    if beside is not None:
        try:
            return scene_of_case(case, is_cine=is_cine, beside=beside)
        except MedmtlError as error:
            st.warning(f"The other study cannot be shown. {error}", icon=":material/error:")
    try:
        return scene_of_case(case, is_cine=is_cine)
    except MedmtlError as error:
        st.warning(str(error), icon=":material/image_not_supported:")
        _previews(case)
        return None


@st.fragment
def _viewer(case: OpenCase, scene: Scene, *, above: int) -> None:
    event = volume_viewer(scene, key=VIEWER, height=_MOST_PX, above=above)
    if event is not None:
        _answer(case, event)


def _answer(case: OpenCase, event: ViewerEvent) -> None:
    match event:
        case CrosshairMoved(point, volume, layout, window, finding):
            move_to(case, point=point, volume=volume, layout=layout, window=window)
            if finding is not None and case.answer.finding(finding) is not None:
                move_to(case, finding=finding)
                st.rerun()
        case MaskSaved():
            st.toast("Corrected mask stored.", icon=":material/check:")
            st.rerun()
        case KeyPressed(action):
            _step(case, 1 if action == "next_case" else -1)


def _step(case: OpenCase, by: int) -> None:
    order = reading_order(case.view.settings)
    place = order.index(case.key) + by if case.key in order else -1
    if 0 <= place < len(order):
        case.view.go_to_case(order[place])


def _previews(case: OpenCase) -> None:
    for volume in case.answer.volumes:
        preview = case.folder / volume / "preview.png"
        if preview.is_file() and not case.is_hidden:
            st.image(str(preview))
