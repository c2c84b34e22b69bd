"""How high a table is drawn: a short one leaves no empty rows, a long one scrolls."""

from __future__ import annotations

__all__ = ["ROW_PX", "table_height"]

ROW_PX = 31
_BORDER_PX = 3


def table_height(rows: int, *, most_px: int) -> int:
    """Pixels of a table with a header and so many rows of `ROW_PX`, at most `most_px`."""
    return min(most_px, ROW_PX * (rows + 1) + _BORDER_PX)
