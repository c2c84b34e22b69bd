"""Quality: flags in words with advice, derived measurements, and what the model is for."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from app.services.words import plain, sentence

if TYPE_CHECKING:
    from app.open_case import OpenCase
    from app.services.case_view import FlagView

__all__ = ["quality_panel"]

_MARKS = {"error": "⛔", "warning": "⚠", "info": "·"}


def quality_panel(case: OpenCase) -> None:
    """Flags first, worst at the top."""
    if case.is_hidden:
        st.write("Hidden until every finding has your answer.")
        return
    if case.answer.flags:
        st.html("".join(_flag(flag) for flag in case.answer.flags))
    else:
        st.write("No quality flag was raised. Flags find some problems, not all.")
    _model(case)


def _flag(flag: FlagView) -> str:
    return (
        f'<div class="m-note {flag.severity}"><b>{_MARKS[flag.severity]} '
        f"{escape(sentence(flag.code))}</b><br>{escape(flag.text)}"
        f"<br><i>{escape(flag.advice)}</i></div>"
    )


def _model(case: OpenCase) -> None:
    model = case.model
    if model is None:
        st.html(
            f'<p class="m-muted">The bundle of {escape(case.row.model)} '
            f"{escape(case.row.model_version)} was not found on this machine, so its card, its "
            "training population and its measured localisation cannot be shown.</p>"
        )
        return
    st.html(
        f'<p class="m-muted"><b>{escape(model.name)} {escape(model.version)}</b>: '
        f"{escape(model.intended_use)} {escape(model.limits)} Figures from: "
        f"{escape(plain(model.split)) or 'not stated'}.</p>"
    )
    with st.expander("Model card"):
        st.markdown(model.card)
