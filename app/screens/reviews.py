"""Reviews: agreement of model and readers, and the exports."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.resources import case_index, half_read, job_book, models, review_log, reviews_folder
from app.services.agreement import finding_agreement, mask_agreement, reader_pairs
from app.services.blind_reading import is_half_read, is_whole
from app.services.corrections import CorrectionStore
from app.services.exports import manifest_command, reviews_csv, reviews_jsonl
from app.services.images import image_root, noted_inputs
from app.services.result_folders import find_places
from app.services.review_log import CaseRef
from app.services.words import sentence
from app.state import is_blind
from medmtl.data.result_case import read_result_case

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from app.services.case_index import Snapshot
    from app.services.case_row import CaseRow
    from app.services.corrections import KeptCorrection
    from app.services.review_log import Entry
    from app.view import View

__all__ = ["reviews_page"]


def reviews_page(view: View) -> None:
    """Tables over all reviews, and what can be taken away."""
    snapshot = case_index(view.settings).snapshot()
    entries = _whole(view, _here(review_log(view.settings).last_lines(), snapshot), snapshot)
    if not entries:
        st.subheader("No review yet")
        st.write("Open a case from the worklist and answer its findings; they are counted here.")
        if st.button("Worklist", type="primary"):
            view.go("worklist")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        only_signed = st.toggle("Signed only", value=True, key="reviews_signed")
        only_blind = st.toggle(
            "Blind only", key="reviews_blind",
            help="Readers who saw the model's answer first agree with it more often.",
        )  # fmt: skip
    entries = tuple(
        entry
        for entry in entries
        if (entry.review.is_signed or not only_signed) and (entry.is_blind or not only_blind)
    )
    _counts(entries)
    if not entries:
        st.info("No review fits these switches. Sign a case, or switch off 'Signed only'.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        _findings(entries, snapshot)
        _pairs(entries, snapshot)
    with right:
        _masks(view, entries, snapshot)
        _exports(view, entries, snapshot)


def _here(entries: tuple[Entry, ...], snapshot: Snapshot) -> tuple[Entry, ...]:
    """Cases by their names in this viewer; what is not here keeps its name, and enters no score."""
    return tuple(
        replace(entry, case=snapshot.placed(entry.case) or entry.case) for entry in entries
    )


def _whole(view: View, entries: tuple[Entry, ...], snapshot: Snapshot) -> tuple[Entry, ...]:
    """Without blind reviews that lack a finding, and all else that a blind reader must not know.

    That is every review of a case that this reader reads blind and has not finished.
    """
    reader, is_all_blind = view.reader.name, is_blind(view.settings)
    placed = [(entry, entry.case.among(snapshot.rows)) for entry in entries]
    hidden = half_read(view.settings, reader, snapshot)
    finished = {
        row.key
        for entry, row in placed
        if row is not None
        and entry.review.reviewer == reader
        and is_whole(entry.review, row.findings)
    }

    def is_shown(entry: Entry, row: CaseRow | None) -> bool:
        if row is None:
            return not is_all_blind
        is_known = row.key in finished or not is_all_blind
        return is_known and row.key not in hidden and not is_half_read(entry, row)

    return tuple(entry for entry, row in placed if is_shown(entry, row))


def _counts(entries: tuple[Entry, ...]) -> None:
    readers = {entry.review.reviewer for entry in entries}
    cases = {(entry.case.place, entry.case.model_sha256) for entry in entries}
    blind = sum(entry.is_blind for entry in entries)
    st.html(
        f'<div class="m-muted">Reviews {len(entries):,} · cases {len(cases):,} · '
        f"readers {len(readers):,} · blind {blind:,}</div>"
    )


def _findings(entries: tuple[Entry, ...], snapshot: Snapshot) -> None:
    rows = finding_agreement(entries, snapshot.rows)
    st.markdown("**Model against reader**")
    frame = pd.DataFrame(
        {
            "Finding": [sentence(row.finding) for row in rows],
            "Answers": [row.cases for row in rows],
            "Kappa": [row.kappa for row in rows],
            "Sensitivity": [row.sensitivity for row in rows],
            "Specificity": [row.specificity for row in rows],
            "Model only": [row.model_only for row in rows],
            "Reader only": [row.reader_only for row in rows],
            "Unsure": [row.unsure for row in rows],
        }
    )
    _table(frame, "No finding was answered.")


def _pairs(entries: tuple[Entry, ...], snapshot: Snapshot) -> None:
    rows = reader_pairs(entries, snapshot.rows)
    if not rows:
        return
    st.markdown("**Reader against reader**")
    frame = pd.DataFrame(
        {
            "Readers": [f"{row.first}, {row.second}" for row in rows],
            "Answers": [row.answers for row in rows],
            "Alike": [row.agreement for row in rows],
            "Kappa": [row.kappa for row in rows],
        }
    )
    _table(frame, "")


def _masks(view: View, entries: tuple[Entry, ...], snapshot: Snapshot) -> None:
    segments = {sha: one.segments for sha, one in models(view.settings, snapshot).items()}
    kept = _corrections(view, entries, snapshot)
    rows = mask_agreement(entries, snapshot.rows, kept, segments)
    st.markdown("**Masks**")
    frame = pd.DataFrame(
        {
            "Structure": [sentence(row.segment) for row in rows],
            "Accepted": [row.accepted for row in rows],
            "Needs correction": [row.wanting for row in rows],
            "Corrected": [row.corrected for row in rows],
            "Dice of the model": [row.dice for row in rows],
        }
    )
    _table(frame, "No mask was judged.")


def _corrections(
    view: View, entries: tuple[Entry, ...], snapshot: Snapshot
) -> list[KeptCorrection]:
    """The newest of every volume of these cases that corrects the answer of today."""
    store = CorrectionStore(reviews_folder(view.settings) / "reviews")
    here = (entry.case.among(snapshot.rows) for entry in entries)
    newest = {}
    for row in {row.key: row for row in here if row is not None}.values():
        case = CaseRef(row.run, row.case_id, row.model_sha256, row.identity)
        for kept in store.of_case(case, answer=row.answer):
            newest[row.key, kept.volume] = kept
    return list(newest.values())


def _table(frame: pd.DataFrame, if_empty: str) -> None:
    if frame.empty:
        st.html(f'<p class="m-muted">{if_empty}</p>')
        return
    numbers = {name: st.column_config.NumberColumn(format="%.2f")
               for name in ("Kappa", "Sensitivity", "Specificity", "Dice of the model", "Alike")
               if name in frame}  # fmt: skip
    st.dataframe(frame, hide_index=True, column_config=numbers, placeholder="")


def _exports(view: View, entries: tuple[Entry, ...], snapshot: Snapshot) -> None:
    if not view.reader.may("admin") or not entries:
        return
    st.markdown("**Export**")
    with st.container(horizontal=True):
        st.download_button("Table (CSV)", reviews_csv(entries, snapshot.rows), "reviews.csv")
        st.download_button("Reviews (JSON lines)", reviews_jsonl(entries), "reviews.jsonl")
    here = tuple(entry for entry in entries if entry.case.among(snapshot.rows))
    runs = sorted({entry.case.run for entry in here})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = st.selectbox("Manifest of", runs, format_func=lambda name: name or "these results",
                           key="manifest_run", width=260)  # fmt: skip
        base = _base(view)
        is_busy = job_book().running is not None
        if st.button("Write a manifest", disabled=is_busy or run is None, key="manifest_start"):
            _write_manifest(view, here, snapshot, str(run), base)
    st.html(
        '<p class="m-muted">Corrected and accepted masks and the readers\' findings, ready for '
        "<code>medmtl train</code>. Needs the images.</p>"
    )


def _images(view: View, snapshot: Snapshot, entries: Sequence[Entry]) -> Path | None:
    """The input of the run, by its first reviewed case."""
    record = read_result_case(snapshot.folder(entries[0].case.key)).record
    noted = noted_inputs(snapshot.folders[entries[0].case.run])
    roots = (*noted, *view.settings.images, view.settings.folder)
    return image_root(record["source"]["volumes"][0]["path"], roots)


def _base(view: View) -> Path | None:
    """The manifest of which a new version is wanted: one below the folder of the viewer."""
    root, made = view.settings.folder, reviews_folder(view.settings) / "manifests"
    found = [one for one in find_places(root).manifests if not one.is_relative_to(made)]
    if not found:
        return None
    return st.selectbox(
        "As a new version of", found, index=None, key="manifest_base", width=260,
        placeholder="none: a manifest of its own",
        format_func=lambda place: place.relative_to(root).as_posix(),
    )  # fmt: skip


def _write_manifest(
    view: View, entries: tuple[Entry, ...], snapshot: Snapshot, run: str, base: Path | None
) -> None:
    mine = [entry for entry in entries if entry.case.run == run]
    images = _images(view, snapshot, mine)
    if images is None:
        st.warning("Where are the images? Start the viewer with `--images FOLDER`.")
        return
    folder = reviews_folder(view.settings)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    out = folder / "manifests" / f"{run.replace('/', '-') or 'results'}-{stamp}"
    out.mkdir(parents=True)
    (out / "reviews.jsonl").write_bytes(reviews_jsonl(mine))
    arguments = manifest_command(
        snapshot.folders[run],
        images=images,
        masks=folder / "reviews" / run,
        reviews=out / "reviews.jsonl",
        out=out,
        base=base,
    )
    job_book().start(f"Manifest manifests/{out.name}, beside the reviews", arguments)
    view.go("studies")
