"""What every page is handed: the settings, the reader, and the other pages to go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from app.services.access import Reader
    from app.settings import Settings

__all__ = ["CASE", "View"]

CASE = "case"
"""Query parameter that names a case."""


@dataclass(frozen=True)
class View:
    """One run of one page.

    Attributes:
        settings: Of the server.
        reader: Who looks.
        pages: Every page by its path; filled by `app.navigation`.
    """

    settings: Settings
    reader: Reader
    pages: dict[str, Any] = field(default_factory=dict, repr=False)

    def go(self, path: str, **parameters: str) -> None:
        """Leave for another page."""
        st.switch_page(self.pages[path], query_params=parameters)

    def go_to_case(self, key: str) -> None:
        """Open a case; the address names it, so that a reload opens it again."""
        self.go("case", **{CASE: key})
