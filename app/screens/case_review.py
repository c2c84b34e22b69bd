"""Review: what was answered, the comment on the case, the signature, and who said what before."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from app.callbacks import told
from app.services.drafts import signed, with_comment
from app.services.report_writing import Reported, report_case
from app.services.words import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.open_case import OpenCase
    from app.services.review_log import Entry
    from medmtl.core.review import Review

__all__ = ["report_notice", "review_panel", "sign_button"]


_AGAIN_S = 15.0
"""A report that could not be written is tried again with the page, but not at every click."""


def sign_button(case: OpenCase, following: str | None) -> None:
    """Sign, or the state of the signature; then on to the next case."""
    answered = len(case.review.findings)
    total = len(case.answer.findings)
    if not case.can_review:
        st.html('<span class="m-muted">You may look, not review.</span>')
        return
    st.html(f'<span class="m-muted">{answered} of {total} answered</span>')
    if case.review.is_signed:
        st.html('<b class="m-signed">● signed</b>')
        return
    if case.has_signed_earlier:
        st.html('<span class="m-muted">signed an earlier result</span>')
    is_empty = not (case.review.findings or case.review.masks)
    if st.button(
        "Sign", icon=":material/signature:", shortcut="Shift+S", type="primary",
        key=f"sign:{case.widgets}", disabled=case.is_hidden or is_empty,
        help="Answer a finding or judge a mask first." if is_empty
        else "You stand by your answers; then the next case opens.",
    ):  # fmt: skip
        case.save(signed)
        reported = _report(case, is_due=True)
        words = (
            f" {reported.written} DICOM report(s) carry the verdict." if reported.written else ""
        )
        st.toast(f"Signed.{words}", icon=":material/check:")
        if following is not None and not reported.problem:
            case.view.go_to_case(following)
        st.rerun()


def report_notice(case: OpenCase) -> None:
    """Signatures that the reports of an opened case lack are written now; else why not."""
    entries = case.log.of_case(case.ref)
    if not entries:
        return
    is_signed = any(entry.review.is_signed for entry in entries)
    reported = _report(case)
    if reported.written:
        words = "now carries the signature" if is_signed else "carries no signature any more"
        st.toast(f"The DICOM report {words}.", icon=":material/check:")
    if not reported.problem:
        return
    state = "Signed" if is_signed else "The signature was taken back"
    with st.container(horizontal=True, vertical_alignment="center", key="report_notice"):
        st.warning(
            f"{state}, but the DICOM report does not say so yet; it is tried again whenever this "
            f"case is opened, and when the viewer starts. {reported.problem}",
            icon=":material/sync_problem:",
        )
        if st.button("Try again", key="report_again"):
            _report(case, is_due=True)
            st.rerun()


def _report(case: OpenCase, *, is_due: bool = False) -> Reported:
    """Look at the reports after every new line of the log, and once the case is analysed again.

    At failed ones again after a while.
    """
    entries = case.log.of_case(case.ref)
    number = max((entry.number for entry in entries), default=0)
    record = case.folder / "case.json"
    computed_ns = record.stat().st_mtime_ns if record.exists() else 0
    place, state = f"reported:{case.key}", (number, computed_ns)
    known: tuple[tuple[int, int], float, Reported] | None = st.session_state.get(place)
    now_s = time.monotonic()
    if known is not None and known[0] == state and not is_due:
        is_over = not known[2].problem or now_s - known[1] < _AGAIN_S
        if is_over:
            return replace(known[2], written=0)
    found = report_case(case.folder, entries)
    st.session_state[place] = (state, now_s, found)
    return found


def review_panel(case: OpenCase) -> None:
    """The reader's own comment, and every line of the log."""
    if case.can_review:
        place = f"case_comment:{case.widgets}"
        if place not in st.session_state:
            st.session_state[place] = case.review.comment
        st.text_area(
            "Comment on the case", key=place, height=90, on_change=_comment, args=(case, place)
        )
    entries = [] if case.is_hidden else case.log.history(case.ref)
    if not entries:
        st.html('<p class="m-muted">Nobody has answered yet. Every answer is stored at once.</p>')
        return
    st.html(
        '<table class="m-table"><tr><th>When, UTC</th><th>Who</th><th>Said</th></tr>'
        + "".join(_line(case, *pair) for pair in reversed(_with_former(entries)[-30:]))
        + "</table>"
    )


def _with_former(entries: Sequence[Entry]) -> list[tuple[Entry, Review | None]]:
    """Every line with what the same reviewer had said of the same answer until then."""
    last: dict[tuple[str, str], Review] = {}
    pairs: list[tuple[Entry, Review | None]] = []
    for entry in entries:
        place = (entry.review.reviewer, entry.case.answer)
        pairs.append((entry, last.get(place)))
        last[place] = entry.review
    return pairs


@told
def _comment(case: OpenCase, place: str) -> None:
    words = str(st.session_state[place])
    case.save(lambda said: with_comment(said, words))


def _line(case: OpenCase, entry: Entry, before: Review | None) -> str:
    when = entry.review.reviewed_at.strftime("%Y-%m-%d %H:%M:%S")
    mark = " (blind)" if entry.is_blind else ""
    mark += "" if entry.case.is_about(case.ref.answer) else " (earlier result)"
    cells = (when, entry.review.reviewer + mark, "; ".join(_news(entry.review, before)))
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _news(review: Review, before: Review | None) -> Iterator[str]:
    """What a line says that the one before it did not."""
    known = (*before.findings, *before.masks) if before else ()
    for verdict in review.findings:
        if verdict not in known:
            yield f"{plain(verdict.finding)}: {verdict.answer} {verdict.comment}".strip()
    for mask in review.masks:
        if mask not in known:
            name = plain(mask.segment or "all masks")
            yield f"{mask.volume} {name}: {plain(mask.answer)} {mask.comment}".strip()
    if review.comment and (before is None or review.comment != before.comment):
        yield f"comment: {review.comment}"
    if review.is_signed:
        yield "● signed"
    elif before is not None and before.is_signed:
        yield "signature taken back"
