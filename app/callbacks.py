"""What a widget's callback does when it fails: it runs before the page, outside of its guard."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, ParamSpec

import streamlit as st

from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["told"]

P = ParamSpec("P")


def told(callback: Callable[P, None]) -> Callable[P, None]:
    """The same callback; a known error is a sentence over the page."""

    @wraps(callback)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except MedmtlError as error:
            st.error(str(error), icon=":material/error:")

    return run
