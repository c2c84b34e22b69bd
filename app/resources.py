"""What all sessions of one server share, opened once: the index, the review log, the models."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services.blind_reading import half_read_cases
from app.services.case_index import CaseIndex
from app.services.jobs import JobBook
from app.services.models import bundle_folders, read_models
from app.services.patients import PatientIndex
from app.services.report_writing import report_all
from app.services.result_folders import find_places
from app.services.review_log import open_review_log
from app.services.worklist import worklist_frame
from medmtl.core.errors import MedmtlError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from app.services.case_index import Snapshot
    from app.services.models import ModelFacts
    from app.services.review_log import ReviewLog, ReviewState
    from app.settings import Settings

__all__ = [
    "case_index",
    "catch_up",
    "half_read",
    "job_book",
    "models",
    "patients",
    "review_log",
    "review_states",
    "reviews_folder",
    "worklist_table",
]


@st.cache_resource(show_spinner="Reading the results ...")
def _index(
    folder: str,  # noqa: ARG001 - the key of the cache
    _settings: Settings,
) -> CaseIndex:
    index = CaseIndex(
        _settings.folder, further=(_settings.results,), reads_dates=_settings.shows_dates
    )
    index.snapshot()
    return index


def case_index(settings: Settings) -> CaseIndex:
    """The index of the folder, already filled."""
    return _index(str(settings.folder), settings)


@st.cache_resource(show_spinner=False)
def _patients(folder: str, images: tuple[str, ...]) -> PatientIndex:
    return PatientIndex(tuple(Path(place) for place in (*images, folder)))


def patients(settings: Settings) -> PatientIndex:
    """Which cases belong to one patient."""
    return _patients(str(settings.folder), tuple(str(place) for place in settings.images))


@st.cache_resource(show_spinner=False)
def job_book() -> JobBook:
    """The jobs of this server."""
    return JobBook()


@st.cache_resource(show_spinner=False)
def _reviews_folder(folder: str, results: str) -> Path:
    return Path(folder) if find_places(Path(folder)).results else Path(results)


def reviews_folder(settings: Settings) -> Path:
    """Where reviews lie unless told otherwise: with the results, never among images."""
    return _reviews_folder(str(settings.folder), str(settings.results))


@st.cache_resource(show_spinner=False)
def _open_log(url: str) -> ReviewLog:
    return open_review_log(url)


def review_log(settings: Settings) -> ReviewLog:
    """The open review log.

    Raises:
        ConfigError: If it cannot be opened.
    """
    if settings.reviews is not None:
        return _open_log(settings.reviews)
    folder = reviews_folder(settings)
    with suppress(OSError):  # the log itself says what is wrong with the place
        folder.mkdir(parents=True, exist_ok=True)
    return _open_log(f"sqlite:///{(folder / 'reviews.sqlite').as_posix()}")


@st.cache_resource(show_spinner=False)
def catch_up(_settings: Settings) -> None:
    """Once for each server, beside the pages: late signatures into reports, patients of studies."""
    patients(_settings).look(case_index(_settings).snapshot(), wait_s=0.0)
    try:
        work = (review_log(_settings), case_index(_settings))
    except MedmtlError:  # pages that need the log say what is wrong with it, the others go on
        return
    threading.Thread(target=_report_all, args=work, daemon=True).start()


def _report_all(log: ReviewLog, index: CaseIndex) -> None:
    with suppress(MedmtlError):  # the database went away: its cases say so when they are opened
        report_all(log, index.snapshot())


@st.cache_resource(show_spinner=False, max_entries=4)
def _states(
    _log: ReviewLog,
    place: str,  # noqa: ARG001 - the key of the cache
    last_number: int,  # noqa: ARG001 - the same
) -> dict[tuple[str, str, str], ReviewState]:
    return _log.states()


def review_states(settings: Settings) -> dict[tuple[str, str, str], ReviewState]:
    """How far every case is; asks the database again only after a save."""
    log = review_log(settings)
    return _states(log, str(log.engine.url), log.last_number())


@st.cache_resource(show_spinner=False, max_entries=8)
def _half_read(
    _log: ReviewLog,
    reader: str,
    place: tuple[str, str, int, int],  # noqa: ARG001 - the key of the cache
    _snapshot: Snapshot,
) -> frozenset[str]:
    return half_read_cases(_log.last_lines(reader), _snapshot.rows)


def half_read(settings: Settings, reader: str, snapshot: Snapshot) -> frozenset[str]:
    """Cases that this reader reads blind and has not finished; asks again after a save only."""
    log = review_log(settings)
    place = (str(log.engine.url), str(settings.folder), snapshot.number, log.last_number())
    return _half_read(log, reader, place, snapshot)


@st.cache_resource(show_spinner=False, max_entries=4)
def _models(
    folders: tuple[str, ...],  # noqa: ARG001 - the key of the cache
    _settings: Settings,
    _snapshot: Snapshot,
) -> dict[str, ModelFacts]:
    return read_models(bundle_folders(cache=_settings.model_cache, further=_snapshot.bundles))


def models(settings: Settings, snapshot: Snapshot) -> Mapping[str, ModelFacts]:
    """Every known model by checksum."""
    return _models(tuple(str(folder) for folder in snapshot.bundles), settings, snapshot)


@st.cache_resource(show_spinner=False, max_entries=2)
def _frame(
    folder: str,  # noqa: ARG001 - the key of the cache
    number: int,  # noqa: ARG001 - the same
    _snapshot: Snapshot,
    _modalities: dict[str, str],
) -> pd.DataFrame:
    return worklist_frame(_snapshot.rows.values(), modalities=_modalities)


def worklist_table(settings: Settings, snapshot: Snapshot) -> pd.DataFrame:
    """The whole worklist; built again only where a case changed."""
    modalities = {one.name: one.modality for one in models(settings, snapshot).values()}
    return _frame(str(settings.folder), snapshot.number, snapshot, modalities)
