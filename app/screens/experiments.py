"""Experiments: tracked runs, registered models and evaluations; nothing is started here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.resources import case_index, models
from app.services.evaluations import find_evaluations
from app.services.words import sentence
from app.tables import ROW_PX, table_height
from medmtl import MedmtlError
from medmtl.tracking.browse import (
    metric_history,
    model_card,
    read_promotions,
    read_runs,
    read_versions,
)
from medmtl.tracking.mlflow_store import connect

if TYPE_CHECKING:
    from datetime import datetime

    from app.view import View
    from medmtl.tracking.browse import ModelVersion, Run
    from medmtl.tracking.mlflow_store import Connection

__all__ = ["experiments_page"]

_TTL_S = 30.0
_RUNS_PX, _METRICS_PX = 220, 282  # six runs, eight metrics; more are scrolled


def experiments_page(view: View) -> None:
    """Runs, models, evaluations."""
    runs, registry, evaluations = st.tabs(["Runs", "Models", "Evaluations"])
    try:
        connection = _connection(
            view.settings.tracking_uri, str(view.settings.tracking_store), view
        )
    except MedmtlError as error:
        connection = None
        for place in (runs, registry):
            place.info(str(error), icon=":material/database_off:")
    if connection is not None:
        with runs:
            _runs(connection)
        with registry:
            _registry(connection)
    with registry:
        _cards(view)
    with evaluations:
        _evaluations(view)


@st.cache_resource(show_spinner="Opening the MLflow store ...", max_entries=2)
def _connection(uri: str | None, store: str, _view: View) -> Connection:  # noqa: ARG001 - a key
    return connect(uri, store=_view.settings.tracking_store, may_create=False)


@st.cache_data(show_spinner=False, ttl=_TTL_S, max_entries=2)
def _read_runs(uri: str, _connection: Connection) -> tuple[Run, ...]:  # noqa: ARG001 - a key
    return read_runs(_connection)


@st.cache_data(show_spinner=False, ttl=_TTL_S, max_entries=60)
def _history(run_id: str, name: str, _connection: Connection) -> tuple[tuple[int, float], ...]:
    return metric_history(_connection, run_id, name)


def _runs(connection: Connection) -> None:
    found = _read_runs(connection.shown, connection)
    if not found:
        st.info("No run is tracked yet. `medmtl train CONFIG.toml` makes one.")
        return
    frame = pd.DataFrame(
        {
            "Run": [run.name for run in found],
            "Experiment": [run.experiment for run in found],
            "State": [run.status.lower() for run in found],
            "Started, UTC": [_moment(run.started) for run in found],
            "Minutes": [None if run.seconds is None else run.seconds / 60 for run in found],
            "Metrics": [len(run.metrics) for run in found],
        }
    )
    event = st.dataframe(
        frame, hide_index=True, height=table_height(len(frame), most_px=_RUNS_PX),
        row_height=ROW_PX, key="runs",
        on_select="rerun", selection_mode="multi-row",
        column_config={"Minutes": st.column_config.NumberColumn(format="%.1f")},
    )  # fmt: skip
    chosen = [found[row] for row in event["selection"]["rows"]][:2] or [found[0]]
    left, right = st.columns(2, gap="medium")
    with left:
        _curves(connection, chosen)
    with right:
        _comparison(chosen)


def _curves(connection: Connection, chosen: list[Run]) -> None:
    names = sorted({name for run in chosen for name in run.metrics})
    if not names:
        st.html('<p class="m-muted">This run has no metric.</p>')
        return
    name = st.selectbox("Curve", names, index=_first(names), key="curve")
    rows = [
        {"step": step, "value": value, "run": run.name}
        for run in chosen
        for step, value in _history(run.run_id, str(name), connection)
    ]
    st.line_chart(pd.DataFrame(rows), x="step", y="value", color="run", height=300)


def _first(names: list[str]) -> int:
    """A score of the whole before losses of single steps."""
    wanted = ("dice", "auroc", "val", "loss")
    ranks = [next((n for n, word in enumerate(wanted) if word in name), 9) for name in names]
    return ranks.index(min(ranks))


def _comparison(chosen: list[Run]) -> None:
    st.html(
        '<p class="m-muted">Choose two runs in the table to compare them. Single estimates side by '
        "side are no test; <code>medmtl compare</code> gives paired intervals.</p>"
    )
    metrics = sorted({name for run in chosen for name in run.metrics})
    table = {"Metric": metrics} | {
        _label(run, chosen): [run.metrics.get(name) for name in metrics] for run in chosen
    }
    height = table_height(len(metrics), most_px=_METRICS_PX)
    st.dataframe(pd.DataFrame(table), hide_index=True, height=height, row_height=ROW_PX)
    names = sorted({name for run in chosen for name in run.parameters})
    rows = [[name, *(run.parameters.get(name, "") for run in chosen)] for name in names]
    if len(chosen) == 2:
        rows = [row for row in rows if row[1] != row[2]]
    title = "Parameters" if len(chosen) == 1 else "Parameters that differ"
    with st.expander(f"{title} ({len(rows)})"):
        columns = ["Parameter", *(_label(run, chosen) for run in chosen)]
        st.dataframe(pd.DataFrame(rows, columns=columns), hide_index=True)


def _label(run: Run, chosen: list[Run]) -> str:
    """Two runs may have one name."""
    is_alone = sum(other.name == run.name for other in chosen) == 1
    return run.name if is_alone else f"{run.name} {run.run_id[:6]}"


def _registry(connection: Connection) -> None:
    versions, decisions = read_versions(connection), read_promotions(connection)
    if not versions:
        st.info("No model is registered yet. `medmtl models register BUNDLE` makes a version.")
    else:
        st.dataframe(
            pd.DataFrame(
                {
                    "Model": [one.model for one in versions],
                    "Version": [one.number for one in versions],
                    "Alias": [", ".join(one.aliases) for one in versions],
                    "Registered, UTC": [_moment(one.created) for one in versions],
                    "Bundle": [one.description for one in versions],
                    "SHA-256": [one.sha256[:12] for one in versions],
                }
            ),
            hide_index=True,
        )
        _registered_card(connection, versions)
    if decisions:
        st.markdown("**Who promoted what**")
        st.dataframe(
            pd.DataFrame(
                {
                    "When, UTC": [_moment(one.at) for one in decisions],
                    "Model": [f"{one.model} version {one.number}" for one in decisions],
                    "Alias": [one.alias for one in decisions],
                    "Gate": ["passed" if one.is_passed else "refused" for one in decisions],
                    "By": [one.by for one in decisions],
                    "Why": [one.why for one in decisions],
                }
            ),
            hide_index=True,
        )


def _registered_card(connection: Connection, versions: tuple[ModelVersion, ...]) -> None:
    number = st.selectbox(
        "Card of", range(len(versions)), index=None, key="card_of", width=330,
        placeholder="a registered version",
        format_func=lambda place: f"{versions[place].model} version {versions[place].number}",
    )  # fmt: skip
    if number is None:
        return
    try:
        with st.container(border=True, height=420):
            st.markdown(_read_card(connection.shown, versions[number], connection))
    except MedmtlError as error:
        st.warning(str(error), icon=":material/error:")


@st.cache_data(show_spinner="Reading the card ...", max_entries=20)
def _read_card(uri: str, version: ModelVersion, _connection: Connection) -> str:  # noqa: ARG001 - a key
    return model_card(_connection, version)


def _cards(view: View) -> None:
    known = models(view.settings, case_index(view.settings).snapshot())
    st.markdown("**Model cards on this machine**")
    for facts in known.values():
        with st.expander(f"{facts.name} {facts.version}, {facts.sha256[:12]}"):
            st.markdown(facts.card)


def _evaluations(view: View) -> None:
    found = find_evaluations(view.settings.folder)
    if not found:
        st.info("No evaluation lies below this folder. `medmtl evaluate` writes one.")
    for one in found:
        with st.expander(f"{one.name}: {one.model}, {one.split}, {one.cases} cases"):
            st.dataframe(
                pd.DataFrame(
                    {
                        "Figure": [sentence(name) for name, *_ in one.figures],
                        "Value": [value for _, value, _, _ in one.figures],
                        "95 % from": [low for _, _, low, _ in one.figures],
                        "to": [high for _, _, _, high in one.figures],
                    }
                ),
                hide_index=True,
            )
            if one.report is not None:
                st.download_button(
                    "Report (HTML)", one.report.read_bytes(), f"{one.report.parent.name}.html",
                    key=f"report:{one.name}",
                )  # fmt: skip


def _moment(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else ""
