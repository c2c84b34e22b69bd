"""The pages, and what surrounds each of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.access import current_reader
from app.screens.case import case_page
from app.screens.studies import studies_page
from app.screens.worklist import worklist_page
from app.style import apply_style
from app.view import View
from medmtl import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings import Settings

__all__ = ["open_page"]

_ICON = str(Path(__file__).with_name("icon.svg"))  # Streamlit's own icons come from the network
_PAGES: tuple[tuple[str, str, str, Callable[[View], None]], ...] = (
    ("worklist", "Worklist", ":material/list:", worklist_page),
    ("case", "Case", ":material/radiology:", case_page),
    ("studies", "Studies", ":material/folder_open:", studies_page),
)


def open_page(settings: Settings) -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="medmtl", page_icon=_ICON, layout="wide")
    apply_style()
    reader = current_reader(settings)
    if reader is None:
        return
    view = View(settings, reader)
    for number, (path, title, icon, draw) in enumerate(_PAGES):
        view.pages[path] = st.Page(
            partial(_guarded, draw, view), title=title, icon=icon, url_path=path,
            default=number == 0,
        )  # fmt: skip
    st.navigation(list(view.pages.values()), position="top").run()


def _guarded(draw: Callable[[View], None], view: View) -> None:
    """A known error is a sentence on the page; an unknown one is Streamlit's own short line."""
    try:
        draw(view)
    except MedmtlError as error:
        st.error(str(error), icon=":material/error:")
