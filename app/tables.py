"""How a table is drawn: a short one has no empty rows, a long one scrolls; a click names a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

__all__ = ["ROW_PX", "clicked_row", "table_height"]

ROW_PX = 31
_BORDER_PX = 3


def table_height(rows: int, *, most_px: int) -> int:
    """Pixels of a table with a header and so many rows of `ROW_PX`, at most `most_px`."""
    return min(most_px, ROW_PX * (rows + 1) + _BORDER_PX)


def clicked_row(
    frame: pd.DataFrame, *, key: str, columns: Mapping[str, Any], most_px: int
) -> int | None:
    """Draw a table, and tell which of its rows was clicked last.

    Args:
        frame: One line a row.
        key: Of the widget.
        columns: Those shown, in their order, each with its heading.
        most_px: Height from which on it scrolls.
    """
    event = st.dataframe(
        frame,
        key=key,
        hide_index=True,
        height=table_height(len(frame), most_px=most_px),
        row_height=ROW_PX,
        column_order=list(columns),
        column_config=columns,
        on_select="rerun",
        selection_mode="single-cell",
        placeholder="",
    )
    cells = event["selection"]["cells"]
    return cells[0][0] if cells else None
