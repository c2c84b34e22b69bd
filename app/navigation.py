"""The pages, and what surrounds each of them."""

from __future__ import annotations

import logging
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.access import current_reader
from app.resources import catch_up
from app.screens.case import case_page
from app.screens.experiments import experiments_page
from app.screens.help import help_page
from app.screens.reviews import reviews_page
from app.screens.studies import studies_page
from app.screens.worklist import worklist_page
from app.state import keep_reader
from app.style import apply_style
from app.view import View
from medmtl import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings import Settings

__all__ = ["open_page"]

logger = logging.getLogger(__name__)

_ICON = str(Path(__file__).with_name("icon.svg"))  # Streamlit's own icons come from the network
_PAGES: tuple[tuple[str, str, str, Callable[[View], None]], ...] = (
    ("worklist", "Worklist", ":material/list:", worklist_page),
    ("case", "Case", ":material/radiology:", case_page),
    ("reviews", "Reviews", ":material/rate_review:", reviews_page),
    ("studies", "Studies", ":material/folder_open:", studies_page),
    ("experiments", "Experiments", ":material/science:", experiments_page),
    ("help", "Help", ":material/help:", help_page),
)


def open_page(settings: Settings) -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="medmtl", page_icon=_ICON, layout="wide")
    apply_style()
    keep_reader()
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
    """A known error is a sentence on the page; of an unknown one only the log knows more."""
    try:
        catch_up(view.settings)
        draw(view)
    except MedmtlError as error:
        st.error(str(error), icon=":material/error:")
    except Exception as error:  # noqa: BLE001 - no page may show a stack trace
        # Streamlit's own message offers to send the text to a search engine.
        places = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(places))
        logger.error("page failed: %s at %s", type(error).__name__, where)  # noqa: TRY400 - values
        st.error(
            f"This page could not be drawn ({type(error).__name__}). Reload it; if it fails again, "
            "the place of the error stands in the viewer's log.",
            icon=":material/error:",
        )
