"""Who looks: a login by OpenID Connect where the viewer is open to others, else the local user."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import streamlit as st

from app.services.access import Reader, is_recent, reader_of_claims
from app.state import reader_name

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["current_reader"]


def current_reader(settings: Settings) -> Reader | None:
    """The reader, or None after drawing the page that asks for a login or refuses it."""
    if not settings.needs_login:
        return Reader(reader_name(settings.reviewer), "admin")
    claims = st.user.to_dict()
    if not st.user.is_logged_in or not is_recent(claims, now_s=time.time()):
        _ask()
        return None
    reader = reader_of_claims(claims, roles_claim=settings.roles_claim)
    if reader is None:
        _refuse(settings.roles_claim)
    return reader


def _ask() -> None:
    st.title("medmtl")
    st.write("Research viewer. Log in to see cases.")
    st.button("Log in", type="primary", on_click=st.login)


def _refuse(roles_claim: str) -> None:
    st.title("No access")
    st.write(
        f"You are logged in, but claim `{roles_claim}` of your login names none of the roles "
        "viewer, reviewer and admin. Ask whoever runs the login service for one of them."
    )
    st.button("Log out", on_click=st.logout)
