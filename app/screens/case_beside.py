"""Other studies of the patient: one of them beside the case, linked in patient space."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import streamlit as st

from app.look import current_look, set_look
from app.open_case import open_case
from app.resources import case_index, patients
from app.services.words import plain

if TYPE_CHECKING:
    from app.open_case import OpenCase
    from app.services.patients import OtherStudy

__all__ = ["other_studies", "study_beside"]

_WAIT_S, _AGAIN_S = 0.3, 2.0
"""A few studies are known at once; thousands are looked at while the reader works."""
_LINK = (
    "Studies are put together where name, number and birth date of the patient are equal in their "
    "images. They are linked by the coordinates of the scanner, which differ by how the patient "
    "lay: nothing was registered. L in the image unlinks them."
)


def other_studies(case: OpenCase) -> tuple[OtherStudy, ...]:
    """Other studies of the patient, as far as their images were looked at."""
    settings = case.view.settings
    snapshot, index = case_index(settings).snapshot(), patients(settings)
    is_known = index.look(snapshot, wait_s=_WAIT_S)
    others = index.others(case.row, snapshot)
    if not is_known and not others:
        _look_again(case)
    return others


@st.fragment(run_every=_AGAIN_S)
def _look_again(case: OpenCase) -> None:
    """Draws nothing; draws the page again once there is another study to offer."""
    settings = case.view.settings
    snapshot, index = case_index(settings).snapshot(), patients(settings)
    index.look(snapshot, wait_s=0.0)
    if index.others(case.row, snapshot):
        st.rerun()


def study_beside(case: OpenCase, others: tuple[OtherStudy, ...]) -> OpenCase | None:
    """The study that the reader wants beside the case; None where none."""
    place, look = f"beside:{case.key}", current_look(case)
    by_key = {other.key: other for other in others}
    if place not in st.session_state:
        st.session_state[place] = look.beside if look.beside in by_key else None
    chosen = st.selectbox(
        "Another study of the patient",
        list(by_key),
        key=place,
        index=None,
        placeholder=f"Compare with another study ({len(others)})",
        format_func=lambda key: _title(case, by_key[key]),
        label_visibility="collapsed",
        width=330,
        on_change=_choose,
        args=(case, place),
    )
    if chosen is None:
        return None
    st.html(f'<span class="m-muted" title="{_LINK}">Linked by scanner coordinates</span>')
    return open_case(case.view, chosen)


def _choose(case: OpenCase, place: str) -> None:
    chosen = st.session_state[place]
    look = current_look(case)
    set_look(case, replace(look, beside=chosen or "", layout="side_by_side" if chosen else None))


def _title(case: OpenCase, other: OtherStudy) -> str:
    """Dates only where they may be seen; the order is no date."""
    row = case_index(case.view.settings).snapshot().rows[other.key]
    when = "other" if not other.days else "earlier" if other.days < 0 else "later"
    if case.view.settings.shows_dates and other.taken is not None:
        when = other.taken.isoformat()
    return " · ".join(
        part for part in (when, row.modality or plain(row.model), row.case_id) if part
    )
