"""Findings: probability, decision, the reader's answer, and the evidence of the chosen one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from app.callbacks import told
from app.components.scene import CrosshairMoved
from app.components.volume_viewer import VIEWER, waiting_event
from app.findings_of_scene import finding_control
from app.look import current_look, look_at_finding
from app.services.case_view import measurement_label
from app.services.drafts import answer_of_reading, next_open, with_finding
from app.services.words import plain, sentence
from app.style import MEASUREMENT_HEAD, bar

if TYPE_CHECKING:
    from app.open_case import OpenCase
    from app.services.case_view import FindingView
    from app.services.drafts import Reading
    from medmtl.core.review import FindingAnswer, Review

__all__ = ["findings_panel"]

_ANSWERS: tuple[tuple[FindingAnswer, str, str], ...] = (
    ("agree", "Agree", "Y"),
    ("disagree", "Disagree", "X"),
    ("unsure", "Unsure", "U"),
)
_READINGS: tuple[tuple[Reading, str, str], ...] = (
    ("present", "Present", "Y"),
    ("absent", "Absent", "X"),
    ("unsure", "Unsure", "U"),
)
_GROUNDS = 3
"""Measurements named beside the decision; the others stand in the table."""
_MARKS = {"agree": "✓", "disagree": "✗", "unsure": "?"}


def findings_panel(case: OpenCase) -> None:
    """Every finding on a line; below them the chosen one."""
    if not case.answer.findings:
        st.write("This model makes no diagnosis; it draws masks only. See the structures.")
        return
    chosen = case.answer.finding(current_look(case).finding) or case.answer.findings[0]
    if case.is_hidden:
        st.info(
            "Blind reading: answer every finding from the image; then the model's answer is shown.",
            icon=":material/visibility_off:",
        )
    with st.container(key="findings", gap=None):
        for number, finding in enumerate(case.answer.findings):
            _line(case, finding, number, is_chosen=finding.name == chosen.name)
    if case.can_review:
        _answer(case, chosen)
    if not case.is_hidden:
        st.html(_evidence(case, chosen))
        _measurements(chosen)


def _line(case: OpenCase, finding: FindingView, number: int, *, is_chosen: bool) -> None:
    verdict = case.review.finding(finding.name)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            sentence(finding.name),
            key=finding_control(number),
            type="primary" if is_chosen else "tertiary",
            width=190,
            on_click=look_at_finding,
            args=(case, finding.name),
        )
        mark = _mark(verdict.answer, is_hidden=case.is_hidden) if verdict else ""
        st.html(_numbers(finding, mark, is_hidden=case.is_hidden))


def _mark(answer: FindingAnswer, *, is_hidden: bool) -> str:
    """Agreement, or only that there is an answer: agreement would tell what the model said."""
    return "●" if is_hidden else _MARKS[answer]


def _numbers(finding: FindingView, mark: str, *, is_hidden: bool) -> str:
    if is_hidden:
        return f'<div class="m-line"><span></span><b></b><b></b><em>{mark}</em></div>'
    drawn = bar(
        finding.probability,
        threshold=finding.threshold,
        is_present=finding.is_present,
        interval=finding.interval,
    )
    word = "<b>present</b>" if finding.is_present else "absent"
    return (
        f'<div class="m-line"><span>{drawn}</span><b>{finding.probability:.2f}</b>'
        f"<span>{word}</span><em>{mark}</em></div>"
    )


def _answer(case: OpenCase, finding: FindingView) -> None:
    verdict = case.review.finding(finding.name)
    with st.container(horizontal=True, vertical_alignment="center", key="answer"):
        if case.is_hidden:
            for reading, label, key in _READINGS:
                answer = answer_of_reading(reading, finding)
                _button(case, finding, answer, label, key, is_given=False)
        else:
            for answer, label, key in _ANSWERS:
                is_given = verdict is not None and verdict.answer == answer
                _button(case, finding, answer, label, key, is_given=is_given)
        place = f"comment:{case.widgets}:{finding.name}"
        if place not in st.session_state:
            st.session_state[place] = verdict.comment if verdict else ""
        st.text_input(
            "Comment",
            key=place,
            label_visibility="collapsed",
            placeholder=f"Comment on {plain(finding.name)}",
            on_change=_comment,
            args=(case, finding.name, place),
            disabled=verdict is None,
        )


def _button(
    case: OpenCase,
    finding: FindingView,
    answer: FindingAnswer,
    label: str,
    shortcut: str,
    *,
    is_given: bool,
) -> None:
    st.button(
        label,
        key=f"answer:{label}:{case.widgets}:{finding.name}",
        shortcut=shortcut,
        type="primary" if is_given else "secondary",
        on_click=_give,
        args=(case, finding, answer),
    )


@told
def _give(case: OpenCase, finding: FindingView, answer: FindingAnswer) -> None:
    """Store the answer, and go on to the next finding that has none."""
    name, decision = finding.name, finding.is_present
    if _chosen_last(case) != name:
        st.toast("Not stored: another finding was chosen just then.", icon=":material/warning:")
        return
    review = case.save(lambda said: with_finding(said, name, answer=answer, decision=decision))
    following = next_open(review, (one.name for one in case.answer.findings), after=name)
    if following is not None:
        look_at_finding(case, following)


def _chosen_last(case: OpenCase) -> str:
    """Name of the finding in front in the browser, whose choice the page may not show yet."""
    findings = case.answer.findings
    clicked = (
        one.name
        for number, one in enumerate(findings)
        if st.session_state.get(finding_control(number))
    )
    event = waiting_event(VIEWER)
    by_key = event.finding if isinstance(event, CrosshairMoved) else None
    name = next(clicked, None) or by_key or current_look(case).finding
    return (case.answer.finding(name) or findings[0]).name


@told
def _comment(case: OpenCase, name: str, place: str) -> None:
    words = str(st.session_state[place])

    def commented(said: Review) -> Review:
        verdict = said.finding(name)
        if verdict is None:
            return said
        answer, decision = verdict.answer, verdict.decision
        return with_finding(said, name, answer=answer, decision=decision, comment=words)

    case.save(commented)


def _evidence(case: OpenCase, finding: FindingView) -> str:
    lines = [
        _decision(finding),
        *_doubt(case, finding),
        _grounds(finding),
        _activation(case, finding),
    ]
    lines += [
        f'<span class="m-flag">⚠ {escape(flag.text)}</span>'
        for flag in case.answer.flags
        if flag.is_about(finding.name) and flag.severity != "info"
    ]
    return "".join(f"<p>{line}</p>" for line in lines if line).join(
        ('<div class="m-evidence">', "</div>")
    )


def _decision(finding: FindingView) -> str:
    word = "present" if finding.is_present else "absent"
    state = "calibrated" if finding.is_calibrated else "NOT calibrated: no frequency of disease"
    return (
        f"<b>{sentence(finding.name)}: {word}</b>. Probability {finding.probability:.3f} "
        f"({state}), threshold {finding.threshold:.2f}."
    )


def _doubt(case: OpenCase, finding: FindingView) -> list[str]:
    lines = []
    if finding.interval is not None and finding.agreement is not None:
        low, high = finding.interval
        lines.append(
            f"Spread over {case.answer.members} answers ({case.answer.method}): {low:.2f} to "
            f"{high:.2f}; {finding.agreement:.0%} decide alike."
        )
    if finding.prediction_set is not None:
        held = " or ".join(finding.prediction_set) or "nothing the model knows"
        lines.append(f"Not ruled out at {finding.coverage or 0:.0%} coverage: <b>{held}</b>.")
    if case.answer.classes is not None:
        held = ", ".join(plain(name) for name in case.answer.classes) or "nothing the model knows"
        lines.append(f"Diagnoses not ruled out: {held}.")
    return lines


def _grounds(finding: FindingView) -> str:
    """The measurements that moved the answer most, where the model can tell."""
    strongest = [one for one in finding.measurements if one.contribution][:_GROUNDS]
    told = (
        f"{plain(measurement_label(one.name))} {one.text} ({_speaks(one.contribution or 0)})"
        for one in strongest
    )
    return f"Rests most on {escape(', '.join(told))}." if strongest else ""


def _speaks(contribution: float) -> str:
    return f"{'for' if contribution > 0 else 'against'}, {abs(contribution):.1f}"


def _activation(case: OpenCase, finding: FindingView) -> str:
    if not finding.maps:
        return "No activation map was written for this finding."
    shares = ", ".join(f"{plain(name)} {share:.0%}" for name, share in finding.shares)
    where = f"Activation lies in {shares}. " if shares else ""
    measured = case.model.localisation.get(finding.name) if case.model else None
    if measured is None:
        score = "Its localisation was not measured."
    else:
        score = (
            f"On {measured.cases} cases of the model card the peak lay in the right structure in "
            f"{measured.pointing_game:.0%} (95 % CI {measured.low:.0%} to {measured.high:.0%})."
        )
    return f'{where}<span class="m-muted">A map is no proof of location. {score}</span>'


def _measurements(finding: FindingView) -> None:
    if not finding.measurements:
        return
    with st.expander(f"{len(finding.measurements)} measurements behind it"):
        rows = "".join(
            f"<tr><td>{escape(sentence(measurement_label(one.name)))}</td><td>{one.text}</td>"
            f'<td class="m-muted">{one.typical_text}</td>'
            f"<td>{_speaks(one.contribution) if one.contribution else ''}</td></tr>"
            for one in finding.measurements
        )
        st.html(f'<table class="m-table">{MEASUREMENT_HEAD}<th></th></tr>{rows}</table>')
        if any(one.contribution for one in finding.measurements):
            st.caption("For, against: how far each moved the logit from the mean training patient.")
