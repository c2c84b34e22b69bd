"""What one browser session remembers from page to page, behind names and types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.settings import Settings

__all__ = [
    "has_seen",
    "is_blind",
    "keep_order",
    "keep_reader",
    "keep_seen",
    "kept",
    "reader_name",
    "reading_order",
    "shown_order",
]

_ORDER = "reading_order"
_BLIND = "is_blind"
_SEEN = "seen_answers"


def kept(key: str, default: Any) -> Any:
    """The value of a widget of another page; Streamlit forgets it unless it is set again."""
    if key in st.session_state:
        st.session_state[key] = st.session_state[key]
    else:
        st.session_state[key] = default
    return st.session_state[key]


def keep_order(keys: Sequence[str]) -> None:
    """Next and previous on a case page follow the worklist as it was last seen."""
    st.session_state[_ORDER] = list(keys)


def shown_order() -> list[str]:
    """The keys of the worklist as it was last seen; empty where no worklist was open."""
    found: list[str] = st.session_state.get(_ORDER, [])
    return found


def reading_order(settings: Settings) -> list[str]:
    """The same, by case for a blind reader: an order by urgency tells what the model said."""
    shown = shown_order()
    return sorted(shown, key=lambda key: key.rpartition("/")[2]) if is_blind(settings) else shown


def is_blind(settings: Settings) -> bool:
    """Whether the model's answer is hidden until the reader has given theirs."""
    return settings.is_blind or bool(st.session_state.get(_BLIND, False))


def keep_seen(answer: str) -> None:
    """The model's answer was shown: what is said of it from now on is not blind."""
    st.session_state.setdefault(_SEEN, set()).add(answer)


def has_seen(answer: str) -> bool:
    """Whether this session has shown the model's answer."""
    return answer in st.session_state.get(_SEEN, ())


def keep_reader() -> None:
    """Carry the reader's own choices to this page; before any widget of theirs is drawn."""
    kept(_BLIND, default=False)


def reader_name(default: str) -> str:
    """The name that stands under a review where nobody logs in."""
    return str(kept("reader_name", default)).strip() or default
