"""Studies: images that are not yet analysed, and the analysis in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.resources import case_index, job_book
from app.services.studies import list_studies
from app.services.words import plain
from medmtl import MedmtlError

if TYPE_CHECKING:
    from app.services.jobs import Job
    from app.services.studies import StudyList
    from app.view import View

__all__ = ["studies_page"]

_ALL = "all studies"
_FORMATS = "nifti,json,png"
_STATES = {
    "running": "Running",
    "done": "Done",
    "partly": "Done; some cases failed",
    "failed": "Failed",
    "cancelled": "Cancelled; finished cases are kept",
}
_ENDS = {"done": (st.success, "task_alt"), "failed": (st.error, "error")}


def studies_page(view: View) -> None:
    """What can be analysed, and how far the running analysis is."""
    _job(view)
    snapshot = case_index(view.settings).snapshot()
    wants = f"studies:{view.settings.folder}"
    if snapshot.rows and wants not in st.session_state:
        st.write("Look for images in the folder that have no result yet. Only headers are read.")
        if st.button("Look for studies", type="primary"):
            st.session_state[wants] = True
            st.rerun()
        return
    st.session_state[wants] = True  # the list stays while its first results come in
    try:
        found = _listed(str(view.settings.folder), view)
    except MedmtlError as error:
        st.info(str(error), icon=":material/folder_off:")
        return
    analysed = {row.case_id for row in snapshot.rows.values()}
    _table(found, analysed)
    if found.studies and view.reader.may("admin"):
        _start(view, found, analysed)
    _refused(found)


@st.cache_resource(show_spinner="Reading headers ...", ttl=600, max_entries=2)
def _listed(folder: str, _view: View) -> StudyList:  # noqa: ARG001 - the key of the cache
    return list_studies(_view.settings.folder)


def _table(found: StudyList, analysed: set[str]) -> None:
    left = len(found.open(analysed))
    st.html(
        f'<div class="m-muted">{len(found.studies):,} studies · {left:,} not yet analysed · '
        f"{len(found.refusals):,} refused · {found.skipped:,} files that are no image</div>"
    )
    if not found.studies:
        why = " See below why." if found.refusals else ""
        st.info(f"No image in this folder can be analysed.{why}", icon=":material/info:")
        return
    frame = pd.DataFrame(
        {
            "Case": [one.case_id for one in found.studies],
            "State": [
                "analysed" if one.case_id in analysed else "not yet" for one in found.studies
            ],
            "Modality": [one.modality for one in found.studies],
            "Volumes": [one.volumes for one in found.studies],
            "Voxels": [one.shape for one in found.studies],
            "Notes": [", ".join(plain(code) for code in one.flags) for one in found.studies],
        }
    )
    st.dataframe(frame, hide_index=True, height=min(420, 36 * (len(frame) + 1)), key="studies")


def _start(view: View, found: StudyList, analysed: set[str]) -> None:
    left = found.open(analysed)
    if not left:
        st.success("Every study has a result.", icon=":material/check:")
        return
    single = {one.case_id: one.folder for one in left if one.folder}
    choices = [_ALL, *single]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        what = st.selectbox("Analyse", choices, width=260, key="studies_what")
        doubt = st.toggle("With spread (7 times longer)", key="studies_doubt")
        if st.button("Analyse", type="primary", disabled=job_book().running is not None):
            place = view.settings.folder / (single.get(what) or "")
            arguments = ["predict", str(place), "-o", str(view.settings.results)]
            arguments += ["--formats", _FORMATS, "--uncertainty", "tta" if doubt else "none"]
            job_book().start(f"Analysis of {what}", arguments)
            st.rerun()
    st.html(
        '<div class="m-muted">Each study goes to the shipped model that fits it. Finished cases '
        "are not computed again.</div>"
    )


def _job(view: View) -> None:
    jobs = job_book().jobs
    if not jobs:
        return
    job = jobs[-1]
    if job.state == "running":
        _running(view, job)
        return
    draw, icon = _ENDS.get(job.state, (st.warning, "info"))
    draw(f"{job.title}: {_STATES[job.state]}.", icon=f":material/{icon}:")
    _words(job)
    if st.button("Open the worklist"):
        case_index(view.settings).snapshot(fresh=True)
        view.go("worklist")


@st.fragment(run_every=1.0)
def _running(view: View, job: Job) -> None:
    if job.state != "running":
        case_index(view.settings).snapshot(fresh=True)
        st.rerun()
    share = job.done / job.total if job.total else 0.0
    counted = f"{job.done} of {job.total} cases" if job.total else "at work"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(share, text=f"{job.title}: {counted}", width="stretch")
        if view.reader.may("admin") and st.button("Cancel", icon=":material/stop:"):
            job.cancel()
            st.rerun()
    _words(job)


def _words(job: Job) -> None:
    said = [f"{level.lower()}: {message}" for level, message in job.lines[-30:]]
    if said:
        with st.expander("What it says"):
            st.code("\n".join(said), language=None)


def _refused(found: StudyList) -> None:
    if not found.refusals:
        return
    with st.expander(f"{len(found.refusals)} series could not be read safely"):
        st.dataframe(
            pd.DataFrame(
                [
                    {"What": one.source, "Found": one.found, "Expected": one.expected,
                     "What to do": one.advice}
                    for one in found.refusals
                ]
            ),
            hide_index=True,
        )  # fmt: skip
