"""Worklist: every case of the result folders in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.resources import case_index, half_read, review_states, worklist_table
from app.screens.reader_menu import reader_menu
from app.services.words import plain, sentence
from app.services.worklist import (
    ORDERS,
    STATES,
    Filters,
    browser_table,
    finding_columns,
    select_rows,
    without_answers,
)
from app.state import is_blind, keep_order, kept, shown_order
from app.tables import clicked_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from app.services.case_index import Snapshot
    from app.services.worklist import Order
    from app.view import View

__all__ = ["worklist_page"]

_MOST_PX = 690
_CHARACTER_PX = 7
_PADDING_PX = 32


def worklist_page(view: View) -> None:
    """The table, its filters, and what is not in it."""
    snapshot = case_index(view.settings).snapshot()
    if not snapshot.rows:
        _nothing(view, snapshot)
        return
    frame = worklist_table(view.settings, snapshot)
    frame = without_answers(frame, half_read(view.settings, view.reader.name, snapshot))
    wanted, order = _controls(view, frame)
    shown = select_rows(frame, review_states(view.settings), filters=wanted, order=order)
    _summary(shown, frame, snapshot)
    if shown.empty:
        keep_order([])
        st.info(
            "No case fits these filters. Clear the search or a filter.",
            icon=":material/filter_alt_off:",
        )
        return
    _table(view, shown, wanted)


def _nothing(view: View, snapshot: Snapshot) -> None:
    st.subheader("No finished case here")
    if snapshot.folders:
        st.write(
            "The result folder holds no finished case yet. This page fills while "
            "`medmtl predict` works; reload it, or see `failures.csv` for what was refused."
        )
    else:
        st.write(
            "No result folder of `medmtl predict` was found. If the folder holds images, look at "
            "its studies and analyse them; else start the viewer on another folder: "
            "`medmtl view RESULTS`."
        )
    if "studies" in view.pages and st.button("Look for studies", type="primary"):
        view.go("studies")


def _controls(view: View, frame: pd.DataFrame) -> tuple[Filters, Order]:
    if is_blind(view.settings):
        return _blind_controls(view)
    kept("worklist_text", "")
    kept("worklist_states", [])
    kept("worklist_finding", None)
    kept("worklist_models", [])
    kept("worklist_flagged", default=False)
    kept("worklist_order", "urgent")
    models = list(dict.fromkeys(frame["model"]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            "Search", key="worklist_text", placeholder="case, finding, flag, model", width=220,
        )  # fmt: skip
        order = st.selectbox(
            "Order", list(ORDERS), key="worklist_order", format_func=lambda name: ORDERS[name],
            width=185,
        )  # fmt: skip
        finding = st.selectbox(
            "Finding present", finding_columns(frame), key="worklist_finding", index=None,
            format_func=sentence, placeholder="any", width=190,
        )  # fmt: skip
        chosen = (
            st.multiselect("Model", models, key="worklist_models", placeholder="any", width=190)
            if len(models) > 1
            else []
        )
        states = st.pills(
            "Review", list(STATES), key="worklist_states", selection_mode="multi",
            format_func=lambda name: STATES[name],
        )  # fmt: skip
        is_flagged = st.toggle("Flagged", key="worklist_flagged", help="A warning or an error.")
        reader_menu(view)
    return Filters(text, tuple(states), finding, tuple(chosen), is_flagged), order


def _blind_controls(view: View) -> tuple[Filters, Order]:
    """Neither order nor search may tell what the model said."""
    kept("worklist_states", [])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        states = st.pills(
            "Review", list(STATES), key="worklist_states", selection_mode="multi",
            format_func=lambda name: STATES[name],
        )  # fmt: skip
        reader_menu(view)
    return Filters(states=tuple(states)), "case"


def _summary(shown: pd.DataFrame, frame: pd.DataFrame, snapshot: Snapshot) -> None:
    signed = int(shown["is_signed"].sum())
    words = f"{len(shown):,} of {len(frame):,} cases · {signed:,} signed"
    if snapshot.damaged:
        words += f" · {len(snapshot.damaged):,} left out: case.json cannot be read"
    st.html(f'<div class="m-muted">{words} · click a case to open it</div>')


def _table(view: View, shown: pd.DataFrame, wanted: Filters) -> None:
    """The table; a click is on a row as the browser had it, which this run may have moved."""
    clickable = shown_order() or shown.index.tolist()
    columns = _columns(shown, wanted, is_hidden=is_blind(view.settings))
    table = browser_table(shown, list(columns))
    row = clicked_row(table, key="worklist_table", columns=columns, most_px=_MOST_PX)
    keep_order(shown.index.tolist())  # not before: a run that is cut off leaves the old table
    if row is not None and row < len(clickable):
        view.go_to_case(clickable[row])
    if st.button("Open the first case", shortcut="O", help="O opens the first case of the list."):
        view.go_to_case(clickable[0])


def _columns(shown: pd.DataFrame, wanted: Filters, *, is_hidden: bool) -> dict[str, Any]:
    """Columns that hold something, each with its heading.

    Where several models answered, most cells of a finding's column would be empty: the highest
    probability then comes first, and the findings one by one at the end.
    """
    config = st.column_config
    is_mixed = shown["model"].nunique() > 1
    columns: dict[str, Any] = {"case": config.TextColumn("Case", width=125, pinned=True)}
    if shown["date"].any():
        columns["date"] = config.TextColumn("Study date", width=95)
    columns["modality"] = config.TextColumn("Mod.", width=55)
    if is_mixed:
        columns["model"] = config.TextColumn("Model", width=130)
    columns["review"] = config.TextColumn(
        "Review", width=_text_px(shown["review"], least=85, most=200)
    )
    if is_hidden:
        return columns
    columns["present"] = config.TextColumn(
        "Called present", width=_text_px(shown["present"], least=120, most=360)
    )
    bars = {f"p:{name}": _bar_column(name) for name in _bars(shown, wanted)}
    if is_mixed:
        columns["highest"] = _highest_column()
    else:
        columns |= bars
    if shown["spread"].notna().any():
        columns["spread"] = config.NumberColumn(
            "Spread ±", format="%.2f", width=75,
            help="Largest standard deviation of any probability over the members of the run.",
        )  # fmt: skip
    columns["flags"] = config.TextColumn("Quality flags", width=330)
    return columns | bars


def _text_px(texts: Iterable[str], *, least: int, most: int) -> int:
    """Pixels of a column that shows the longest of these texts whole, within limits."""
    longest = max(map(len, texts), default=0)
    return min(most, max(least, _CHARACTER_PX * longest + _PADDING_PX))


def _bars(shown: pd.DataFrame, wanted: Filters) -> list[str]:
    names = [name for name in finding_columns(shown) if shown[f"p:{name}"].notna().any()]
    if wanted.finding in names:
        names.remove(wanted.finding)
        names.insert(0, wanted.finding)
    return names


def _highest_column() -> Any:
    return st.column_config.ProgressColumn(
        "Highest", min_value=0.0, max_value=1.0, format="%.2f", width=110, color="blue",
        help="Highest probability of any finding of the model.",
    )  # fmt: skip


def _bar_column(name: str) -> Any:
    return st.column_config.ProgressColumn(
        sentence(name), min_value=0.0, max_value=1.0, format="%.2f", color="blue",
        width=_text_px([sentence(name)], least=110, most=220),
        help=f"Probability of {plain(name)}; empty where the model does not know it.",
    )  # fmt: skip
