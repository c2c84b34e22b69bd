"""The worklist as a table: columns, order, filters. Ten thousand rows filter in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from app.services.words import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from app.services.case_row import CaseRow, FindingRow
    from app.services.review_log import ReviewState

__all__ = [
    "ORDERS",
    "STATES",
    "Filters",
    "Order",
    "browser_table",
    "finding_columns",
    "select_rows",
    "without_answers",
    "worklist_frame",
]

Order = Literal["urgent", "uncertain", "newest", "case"]
ORDERS: Mapping[Order, str] = {
    "urgent": "Most urgent first",
    "uncertain": "Most uncertain first",
    "newest": "Newest study first",
    "case": "By case",
}
STATES: Mapping[ReviewState, str] = {
    "open": "○ open", "started": "◐ started", "signed": "● signed",
    "earlier": "◌ signed an earlier result",
}  # fmt: skip
_RANK: Mapping[str, int] = {"error": 2, "warning": 1, "info": 0}
_MARKS = ("", "⚠", "⛔")


@dataclass(frozen=True)
class Filters:
    """What the reader wants to see; an empty field does not narrow.

    Attributes:
        text: Parts of case id, model, finding or flag, all of which must be found.
        states: Review states.
        finding: Only cases in which this finding is present.
        models: Names of models.
        is_flagged: Only cases with a warning or an error.
    """

    text: str = ""
    states: tuple[ReviewState, ...] = ()
    finding: str | None = None
    models: tuple[str, ...] = ()
    is_flagged: bool = False


def worklist_frame(
    rows: Iterable[CaseRow], *, modalities: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """One row per case, indexed by key; everything that does not depend on reviews.

    Args:
        rows: The cases.
        modalities: Modality of a model's input by its name, where the case does not say.
    """
    cases = list(rows)
    known = modalities or {}
    names = _finding_names(cases)
    by_name = [{finding.name: finding for finding in case.findings} for case in cases]
    columns: dict[str, Any] = {
        "case": [case.case_id for case in cases],
        "date": [case.study_date for case in cases],
        "modality": [case.modality or known.get(case.model, "") for case in cases],
        "model": [case.model for case in cases],
        "present": [_present(case.findings) for case in cases],
        "spread": np.array([_spread(case.findings) for case in cases], dtype=np.float32),
        "flags": [_flags(case.flags) for case in cases],
        "rank": [max((_RANK[severity] for _, severity in case.flags), default=0) for case in cases],
        "highest": np.array([_highest(case.findings) for case in cases], dtype=np.float32),
        "urgency": np.array([case.urgency for case in cases], dtype=float),
        "model_sha256": [case.model_sha256 for case in cases],
        "identity": [case.identity for case in cases],
        "answer": [case.answer for case in cases],
    }
    for name in names:
        found = [findings.get(name) for findings in by_name]
        columns[f"p:{name}"] = np.array(
            [np.nan if one is None else one.probability for one in found], dtype=np.float32
        )
        columns[f"is:{name}"] = [one is not None and one.is_present for one in found]
    frame = pd.DataFrame(columns, index=[case.key for case in cases])
    frame["text"] = _searchable(cases, frame)
    return frame


def without_answers(frame: pd.DataFrame, keys: Collection[str]) -> pd.DataFrame:
    """The same table with nothing of the model's answers to these cases, in no order either."""
    if not keys:
        return frame
    hidden = frame.index.isin(list(keys))
    masked = frame.copy()
    masked.loc[hidden, ["present", "flags"]] = ""
    masked.loc[hidden, ["spread", "highest"]] = np.nan
    masked.loc[hidden, "urgency"] = np.inf
    masked.loc[hidden, "rank"] = 0
    for name in finding_columns(frame):
        masked.loc[hidden, f"p:{name}"] = np.nan
        masked.loc[hidden, f"is:{name}"] = False
    facts = (frame.index.to_series(), frame["model"], frame["date"], frame["modality"])
    known = facts[0].str.cat([*facts[1:]], sep=" ").str.lower()
    masked.loc[hidden, "text"] = known[hidden]
    return masked


def finding_columns(frame: pd.DataFrame) -> list[str]:
    """Names of all findings of such a table."""
    return [name.removeprefix("p:") for name in frame.columns if name.startswith("p:")]


def _finding_names(cases: Sequence[CaseRow]) -> list[str]:
    """In the order in which they first occur."""
    return list(dict.fromkeys(finding.name for case in cases for finding in case.findings))


def select_rows(
    frame: pd.DataFrame,
    states: Mapping[tuple[str, str, str], ReviewState],
    *,
    filters: Filters,
    order: Order,
) -> pd.DataFrame:
    """The rows that the reader asked for, in order, with a column `review`.

    Args:
        frame: From `worklist_frame`.
        states: By place, model and answer, as of `ReviewLog.states`.
        filters: What to keep.
        order: "urgent" puts signed cases last.
    """
    state = pd.Series(_states(frame, states), index=frame.index, dtype=object)
    keep = np.ones(len(frame), dtype=bool)
    for word in filters.text.lower().split():
        keep &= frame["text"].str.contains(word, regex=False).to_numpy()
    if filters.states:
        keep &= state.isin(filters.states).to_numpy()
    if filters.models:
        keep &= frame["model"].isin(filters.models).to_numpy()
    if filters.is_flagged:
        keep &= (frame["rank"] > 0).to_numpy()
    if filters.finding:
        column = f"is:{filters.finding}"
        keep &= frame[column].to_numpy() if column in frame else False
    kept = frame[keep].assign(review=state[keep].map(STATES), is_signed=state[keep] == "signed")
    return _ordered(kept, order)


def _states(
    frame: pd.DataFrame, states: Mapping[tuple[str, str, str], ReviewState]
) -> list[ReviewState]:
    """Of every row, by identity and answer; what was said before these were noted, by key."""
    signed = {place[:2] for place, state in states.items() if state == "signed"}
    names = ("identity", "model_sha256", "answer")
    columns = zip(frame.index, *(frame[name] for name in names), strict=True)
    found: list[ReviewState] = []
    for key, identity, sha256, answer in columns:
        places = ((identity, sha256, answer), (identity, sha256, ""), (key, sha256, ""))
        said = [states[place] for place in places if place in states]
        other: ReviewState = "earlier" if (identity, sha256) in signed else "open"
        found.append("signed" if "signed" in said else said[0] if said else other)
    return found


def browser_table(shown: pd.DataFrame, columns: Sequence[str]) -> pa.Table:
    """These columns as they go to the browser: a text that repeats is sent once."""
    table = pa.Table.from_pandas(shown[list(columns)], preserve_index=False)
    for place, column in enumerate(table.columns):
        if column.null_count < len(column) and not pa.types.is_floating(column.type):
            packed = column.dictionary_encode().combine_chunks()
            if 2 * len(packed.dictionary) < len(packed):
                table = table.set_column(place, table.column_names[place], packed)
    return table.replace_schema_metadata(None)


def _ordered(frame: pd.DataFrame, order: Order) -> pd.DataFrame:
    match order:
        case "urgent":
            return frame.sort_values(
                ["is_signed", "urgency", "rank"], ascending=[True, False, False], kind="stable"
            )
        case "uncertain":
            return frame.sort_values("spread", ascending=False, na_position="last", kind="stable")
        case "newest":
            return frame.sort_values("date", ascending=False, kind="stable")
        case "case":
            return frame.sort_values("case", kind="stable")


def _present(findings: Sequence[FindingRow]) -> str:
    present = sorted((f for f in findings if f.is_present), key=lambda f: -f.probability)
    return ", ".join(plain(finding.name) for finding in present) or "none"


def _highest(findings: Sequence[FindingRow]) -> float:
    return max((finding.probability for finding in findings), default=float("nan"))


def _spread(findings: Sequence[FindingRow]) -> float:
    """The largest spread of any finding; NaN where none was computed."""
    return max((f.std for f in findings if f.std is not None), default=float("nan"))


def _flags(flags: Sequence[tuple[str, str]]) -> str:
    codes = dict.fromkeys(code for code, severity in flags if _RANK[severity] > 0)
    worst = max((_RANK[severity] for _, severity in flags), default=0)
    return f"{_MARKS[worst]} {', '.join(plain(code) for code in codes)}" if codes else ""


def _searchable(cases: Sequence[CaseRow], frame: pd.DataFrame) -> list[str]:
    present, modality = frame["present"].tolist(), frame["modality"].tolist()
    return [
        " ".join((case.key, case.model, case.study_date, mode, here,
                  *(plain(code) for code, _ in case.flags))).lower()
        for case, here, mode in zip(cases, present, modality, strict=True)
    ]  # fmt: skip
