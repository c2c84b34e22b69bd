"""Case: left the volume, right findings and evidence, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.open_case import open_case
from app.resources import case_index
from app.screens.case_findings import findings_panel
from app.screens.case_quality import quality_panel
from app.screens.case_review import report_notice, review_panel, sign_button
from app.screens.case_segments import segments_panel
from app.screens.case_volume import volume_area
from app.screens.reader_menu import reader_menu
from app.state import reading_order
from app.view import CASE

if TYPE_CHECKING:
    from app.open_case import OpenCase
    from app.view import View

__all__ = ["case_page"]

_COLUMNS = (1.72, 1.0)


def case_page(view: View) -> None:
    """One case; the address says which."""
    key = st.query_params.get(CASE, "")
    case = open_case(view, key) if key else None
    if case is None:
        _nothing(view, key)
        return
    _header(case)
    report_notice(case)
    left, right = st.columns(_COLUMNS, gap="small")
    with right, st.container(key="evidence", gap=None):
        _panels(case)
    with left:
        volume_area(case)


def _nothing(view: View, key: str) -> None:
    st.subheader("No such case" if key else "No case is open")
    st.write(
        "The results may have been moved or analysed again. Choose a case from the worklist."
        if key
        else "Choose a case from the worklist."
    )
    if st.button("Worklist", type="primary"):
        view.go("worklist")


def _header(case: OpenCase) -> None:
    settings = case.view.settings
    order = reading_order(settings) or list(case_index(settings).snapshot().rows)
    place = order.index(case.key) if case.key in order else -1
    with st.container(horizontal=True, vertical_alignment="center", key="case_header"):
        previous, following = _neighbours(order, place)
        if st.button(
            "", icon=":material/chevron_left:", shortcut="P", disabled=previous is None,
            help="Previous case of the worklist",
        ) and previous:  # fmt: skip
            case.view.go_to_case(previous)
        if st.button(
            "", icon=":material/chevron_right:", shortcut="N", disabled=following is None,
            help="Next case of the worklist",
        ) and following:  # fmt: skip
            case.view.go_to_case(following)
        st.html(_title(case, place, len(order)))
        sign_button(case, following)
        reader_menu(case.view)


def _neighbours(order: list[str], place: int) -> tuple[str | None, str | None]:
    if place < 0:
        return None, order[0] if order else None
    previous = order[place - 1] if place > 0 else None
    return previous, order[place + 1] if place + 1 < len(order) else None


def _title(case: OpenCase, place: int, total: int) -> str:
    row = case.row
    modality = row.modality or (case.model.modality if case.model else "")
    facts = [modality, row.study_date, f"{row.model} {row.model_version}"]
    where = f" · {place + 1} of {total}" if place >= 0 else ""
    notice = "" if not case.answer.notice else f'<div class="m-notice">{case.answer.notice}</div>'
    return (
        f'<div class="m-title"><b>{row.case_id}</b> '
        f'<span class="m-muted">{" · ".join(fact for fact in facts if fact)}{where}</span>'
        f"{notice}</div>"
    )


def _panels(case: OpenCase) -> None:
    answer = case.answer
    seen = () if case.is_hidden else answer.flags  # their number already tells something
    warnings = sum(flag.severity != "info" for flag in seen)
    names = ["Findings", "Structures", f"Quality {warnings or ''}".strip(), "Review"]
    findings, segments, quality, review = st.tabs(names, key="case_tabs")
    with findings:
        findings_panel(case)
    with segments:
        segments_panel(case)
    with quality:
        quality_panel(case)
    with review:
        review_panel(case)
