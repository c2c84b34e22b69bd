"""The reader's own menu: name, blind reading, log out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.state import is_blind

if TYPE_CHECKING:
    from app.view import View

__all__ = ["reader_menu"]


def reader_menu(view: View) -> None:
    """Who reads, and how."""
    mark = " · blind" if is_blind(view.settings) else ""
    with st.popover(f"{view.reader.name}{mark}", icon=":material/person:"):
        if view.settings.needs_login:
            st.html(f'<span class="m-muted">Role: {view.reader.role}</span>')
            st.button("Log out", on_click=st.logout)
        else:
            st.text_input(
                "Name under your reviews", key="reader_name",
                help="Nobody logs in on this machine; reviews are stored under this name until the "
                "page is reloaded, which brings back that of `medmtl view --reviewer NAME`.",
            )  # fmt: skip
        st.toggle(
            "Blind reading", key="is_blind", disabled=view.settings.is_blind,
            help="The viewer was started with --blind: everybody reads blind."
            if view.settings.is_blind
            else "The model's answer stays hidden until you have answered every finding.",
        )  # fmt: skip
