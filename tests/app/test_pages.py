"""The pages as Streamlit runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.services.case_row import row_of_case
from app.services.drafts import empty_review, signed, with_finding
from app.services.review_log import CaseRef, open_review_log
from app.settings import Settings
from tests.app.results import SHA256, case_record, finding, write_results

if TYPE_CHECKING:
    from app.services.case_row import CaseRow

MAIN = Path(__file__).parents[2] / "app" / "main.py"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a viewer over `tmp_path / "results"`, as `medmtl view` would hand them over."""
    folder = tmp_path / "results"
    folder.mkdir()
    url = f"sqlite:///{(folder / 'reviews.sqlite').as_posix()}"
    made = Settings(folder=folder, results=tmp_path / "out", reviews=url)
    monkeypatch.setenv("MEDMTL_VIEW", made.as_json())
    return made


def _open() -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=30).run()
    assert not app.exception
    return app


def test_settings_survive_the_way_to_the_server(settings: Settings) -> None:
    assert Settings.from_json(settings.as_json()) == settings


def test_the_worklist_lists_every_case_most_urgent_first(settings: Settings) -> None:
    write_results(
        settings.folder,
        case_record("low", finding("nodule", 0.1)),
        case_record("high", finding("nodule", 0.9)),
    )
    assert _open().dataframe[0].value["case"].tolist() == ["high", "low"]


def test_a_search_narrows_the_worklist(settings: Settings) -> None:
    write_results(settings.folder, case_record("a"), case_record("b"))
    app = _open()
    app.text_input[0].set_value("b").run()
    assert app.dataframe[0].value["case"].tolist() == ["b"]


def test_a_search_without_result_says_what_to_do(settings: Settings) -> None:
    write_results(settings.folder, case_record("a"))
    app = _open()
    app.text_input[0].set_value("zebra").run()
    assert not app.dataframe
    assert "Clear the search" in app.info[0].value


def test_an_empty_folder_says_what_to_do(settings: Settings) -> None:
    app = _open()
    assert app.subheader[0].value == "No finished case here"
    assert "medmtl view RESULTS" in app.markdown[0].value


def test_a_review_database_that_cannot_be_opened_is_a_sentence_and_no_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(settings.folder, case_record("a"))
    text = settings.as_json().replace("reviews.sqlite", "missing/reviews.sqlite")
    monkeypatch.setenv("MEDMTL_VIEW", text)
    assert "--reviews" in _open().error[0].value


def test_a_blind_reader_sees_no_answer_in_the_worklist(settings: Settings) -> None:
    write_results(
        settings.folder,
        case_record("b", finding("nodule", 0.9), flags={"segment-empty": "warning"}),
        case_record("a", finding("nodule", 0.1)),
    )
    app = AppTest.from_file(str(MAIN), default_timeout=30)
    app.session_state["is_blind"] = True
    app.run()
    shown = app.dataframe[0].value
    assert shown["case"].tolist() == ["a", "b"]
    assert set(shown.columns) <= {"case", "date", "modality", "model", "review"}


def test_a_half_read_blind_case_shows_no_answer_once_the_switch_is_off(settings: Settings) -> None:
    findings = (finding("nodule", 0.9), finding("cyst", 0.8))
    records = [
        case_record(name, *findings, source=_source(name), flags={"cine": "warning"})
        for name in ("half", "whole")
    ]
    write_results(settings.folder, *records)
    log = open_review_log(settings.reviews or "")
    for row, names in zip(map(_row, records), (("nodule",), ("nodule", "cyst")), strict=True):
        case = CaseRef(row.run, row.case_id, row.model_sha256, row.identity, row.answer)
        review = empty_review(case, settings.reviewer)
        for name in names:
            review = with_finding(review, name, answer="agree", decision=True)
        log.append(review, case, is_blind=True)
    shown = _open().dataframe[0].value.set_index("case")
    assert shown.loc["half", ["present", "flags"]].tolist() == ["", ""]
    assert shown.loc["half", ["p:nodule", "p:cyst"]].isna().all()
    assert shown.loc["whole", "present"] == "nodule, cyst"


def _source(name: str) -> dict[str, Any]:
    return {**case_record(name)["source"], "study_uid": f"2.25.{len(name)}"}


def _row(record: dict[str, Any]) -> CaseRow:
    return row_of_case(record, run="")


def _low_and_high(settings: Settings) -> AppTest:
    """A worklist in the order high, low."""
    write_results(
        settings.folder,
        case_record("low", finding("nodule", 0.1)),
        case_record("high", finding("nodule", 0.9)),
    )
    return _open()


def _signed_meanwhile(app: AppTest, settings: Settings) -> None:
    """Another reader signs the first case, which moves to the end, and the page runs."""
    case = CaseRef("", "high", SHA256)
    open_review_log(settings.reviews or "").append(signed(empty_review(case, "two")), case)
    app.run()


def test_a_click_opens_the_case_that_stood_there(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another reader signs the first case in the moment of the click: it moves to the end."""
    app = _low_and_high(settings)
    opened: list[str] = []
    monkeypatch.setattr("app.screens.worklist.clicked_row", lambda *_, **__: 0)
    monkeypatch.setattr("app.view.View.go_to_case", lambda _, key: opened.append(key))
    _signed_meanwhile(app, settings)
    assert app.session_state["reading_order"] == ["low", "high"]
    assert opened == ["high"]


def test_a_run_that_ends_before_the_table_is_drawn_leaves_the_order_of_the_old_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = _low_and_high(settings)
    monkeypatch.setattr("app.screens.worklist.clicked_row", lambda *_, **__: st.stop())
    _signed_meanwhile(app, settings)
    assert app.session_state["reading_order"] == ["high", "low"]


def test_an_unknown_error_is_a_sentence_and_no_trace(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(settings.folder, case_record("a"))

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("PATIENT^NAME")

    monkeypatch.setattr("app.screens.worklist.select_rows", broken)
    app = _open()
    assert "could not be drawn (ZeroDivisionError)" in app.error[0].value
    assert "PATIENT" not in app.error[0].value
