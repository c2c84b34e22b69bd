"""The volume of a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from app.open_case import OpenCase

__all__ = ["volume_area"]


def volume_area(case: OpenCase) -> None:
    """The preview, until the viewer is there."""
    for volume in case.answer.volumes:
        preview = case.folder / volume / "preview.png"
        if preview.is_file() and not case.is_hidden:
            st.image(str(preview))
