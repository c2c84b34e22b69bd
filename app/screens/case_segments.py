"""Structures: volumes beside those of the training cases, the reader's word on every mask."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.callbacks import told
from app.look import current_look, look_at_segment
from app.services.case_view import measurement_label
from app.services.drafts import with_judgement, with_mask
from app.services.uploads import read_upload
from app.services.words import plain, sentence
from app.shown_masks import (
    keep_correction,
    newest_corrections,
    outdated_corrections,
    shown_corrections,
)
from app.style import MEASUREMENT_HEAD
from app.tables import clicked_row
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from app.open_case import OpenCase
    from app.services.case_view import SegmentView
    from medmtl.core.review import MaskAnswer, Review

__all__ = ["segments_panel"]

_ANSWERS: tuple[tuple[MaskAnswer, str, str], ...] = (
    ("accepted", "Accept", "G"),
    ("needs_correction", "Needs correction", "Q"),
)
_MOST_PX = 380
_MARKS = {"accepted": "✓", "needs_correction": "✗", "corrected": "✎"}


def segments_panel(case: OpenCase) -> None:
    """One table per volume, then the verdict on the chosen mask."""
    if case.is_hidden:
        st.write("Hidden until every finding has your answer.")
        return
    if not case.answer.segments:
        st.write("This model draws no masks.")
    else:
        volume = _volume(case)
        shown = [one for one in case.answer.segments if one.volume == volume]
        chosen = _table(case, volume, shown)
        if case.can_review:
            _verdict(case, volume, chosen)
            _correct(case, volume)
    _derived(case)


def _volume(case: OpenCase) -> str:
    volumes = list(dict.fromkeys(segment.volume for segment in case.answer.segments))
    if len(volumes) == 1:
        return volumes[0]
    front = current_look(case).volume
    return st.segmented_control(
        "Volume", volumes, default=front if front in volumes else volumes[0], required=True,
        format_func=lambda name: name.upper(), key=f"volume:{case.key}",
        label_visibility="collapsed",
    )  # fmt: skip


def _table(case: OpenCase, volume: str, shown: list[SegmentView]) -> SegmentView | None:
    """The table; the row that is clicked is where the crosshair goes."""
    frame = pd.DataFrame(
        {
            "said": [_said(case, segment) for segment in shown],
            "name": [sentence(segment.name) for segment in shown],
            "ml": [segment.volume_ml for segment in shown],
            "range": [_range(segment) for segment in shown],
            "agreement": [segment.pairwise_dice for segment in shown],
            "mean": [segment.mean_intensity for segment in shown],
        }
    )
    config = st.column_config
    columns = {
        "said": config.TextColumn("", width=28),
        "name": config.TextColumn("Structure", width=150),
        "ml": config.NumberColumn("mL", format="%.1f", width=70),
        "range": config.TextColumn("Training cases, mL", width=120,
                                   help="1st to 99th percentile, where the model states it: "
                                        "it does not for lesions."),
        "agreement": config.NumberColumn("Agreement", format="%.2f", width=80,
                                         help="Mean Dice between the answers of the run."),
        "mean": config.NumberColumn("Mean", format="%.0f", width=60, help="Mean intensity."),
    }  # fmt: skip
    if frame["agreement"].isna().all():
        columns.pop("agreement")
    key = f"segments:{case.key}:{volume}"
    row = clicked_row(frame, key=key, columns=columns, most_px=_MOST_PX)
    chosen = shown[row] if row is not None else None
    gone = f"gone:{case.key}"
    if chosen is not None and st.session_state.get(gone) != (volume, chosen.label):
        st.session_state[gone] = (volume, chosen.label)
        look_at_segment(case, volume, chosen.label)
    return chosen


def _said(case: OpenCase, segment: SegmentView) -> str:
    verdict = case.review.mask(segment.volume, segment.name)
    return _MARKS[verdict.answer] if verdict else ""


def _range(segment: SegmentView) -> str:
    if segment.expected_ml is None:
        return "no range"
    low, high = segment.expected_ml
    mark = " ⚠" if segment.is_outside else ""
    return f"{low:.0f} to {high:.0f}{mark}"


def _verdict(case: OpenCase, volume: str, chosen: SegmentView | None) -> None:
    name = chosen.name if chosen else None
    verdict = case.review.mask(volume, name) if name else None
    with st.container(horizontal=True, vertical_alignment="center", key="mask_answer"):
        st.html(f'<span class="m-muted">{sentence(name) if name else "All masks"}:</span>')
        for answer, label, shortcut in _ANSWERS:
            st.button(
                label,
                key=f"mask:{label}:{case.widgets}:{volume}:{name}",
                shortcut=shortcut,
                type="primary" if verdict and verdict.answer == answer else "secondary",
                on_click=_say,
                args=(case, volume, name, answer),
            )
    place = f"mask_comment:{case.widgets}:{volume}:{name}"
    if verdict is not None:
        if place not in st.session_state:
            st.session_state[place] = verdict.comment
        st.text_input(
            "Comment", key=place, label_visibility="collapsed", on_change=_comment,
            placeholder="What is wrong with this mask?", args=(case, volume, name, place),
        )  # fmt: skip


@told
def _say(case: OpenCase, volume: str, segment: str | None, answer: MaskAnswer) -> None:
    """Of the chosen structure; of every mask of the case where none is chosen."""
    shown = {name: kept.segments for name, kept in shown_corrections(case).items()}

    def judged(said: Review) -> Review:
        for one in (volume,) if segment else case.answer.volumes:
            corrected = shown.get(one, ())
            said = with_judgement(said, one, answer=answer, segment=segment, corrected=corrected)
        return said

    case.save(judged)


@told
def _comment(case: OpenCase, volume: str, segment: str | None, place: str) -> None:
    words = str(st.session_state[place])

    def commented(said: Review) -> Review:
        verdict = said.mask(volume, segment or "")
        if verdict is None:
            return said
        return with_mask(said, volume, segment=segment, answer=verdict.answer, comment=words)

    case.save(commented)


def _correct(case: OpenCase, volume: str) -> None:
    newest = newest_corrections(case).get(volume)
    outdated = outdated_corrections(case)
    if outdated:
        st.html(
            f'<span class="m-muted">Corrected masks of an earlier answer, before this case was '
            f"analysed again, which do not count here: {outdated}.</span>"
        )
    title = "Corrected mask" if newest is None else "Corrected mask ✎"
    with st.expander(title):
        if newest is not None:
            overlap = ", ".join(
                f"{plain(name)} {value:.3f}" for name, value in newest.dice.items()
                if value is not None and value < 1
            )  # fmt: skip
            st.html(
                f'<span class="m-muted">{escape(newest.source)} by {escape(newest.reviewer)}, '
                f"{newest.saved_at[:16].replace('T', ' ')} UTC, {newest.voxels_changed:,} voxels "
                f"changed. Dice with the model: {overlap or 'unchanged'}.</span>"
            )
        sent = st.file_uploader(
            f"Mask of {volume} (NIfTI, DICOM SEG or RTSTRUCT)",
            key=f"upload:{case.key}:{volume}",
            type=["nii", "gz", "dcm"],
        )
        if sent is not None and st.button("Use this mask", type="primary"):
            _keep(case, volume, sent.name, sent.getvalue())


def _keep(case: OpenCase, volume: str, name: str, content: bytes) -> None:
    masks = case.masks(volume)
    try:
        read = read_upload(
            content, name=name, case=case.result, volume_id=volume,
            max_mb=case.view.settings.max_upload_mb,
        )  # fmt: skip
    except MedmtlError as error:
        st.error(str(error), icon=":material/error:")
        return
    keep_correction(
        case, read.label_map, volume=volume, geometry=masks.geometry, source=read.kind,
        segments=read.segments,
    )  # fmt: skip
    for flag in read.flags:
        st.toast(flag.message)
    st.rerun()


def _derived(case: OpenCase) -> None:
    if not case.answer.measurements:
        return
    with st.expander(f"{len(case.answer.measurements)} derived measurements"):
        rows = "".join(
            f"<tr><td>{escape(sentence(measurement_label(one.name)))}</td><td>{one.text}</td>"
            f'<td class="m-muted">{one.typical_text}</td>'
            f'<td class="m-muted">{escape(plain(one.source))}</td></tr>'
            for one in case.answer.measurements
        )
        st.html(f'<table class="m-table">{MEASUREMENT_HEAD}<th>From</th></tr>{rows}</table>')
