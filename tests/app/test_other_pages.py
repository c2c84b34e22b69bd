"""Reviews, studies, experiments and help as Streamlit runs them, full and empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from app.services.drafts import empty_review, signed, with_finding
from app.services.review_log import CaseRef, open_review_log
from app.settings import Settings
from medmtl.phantom import generate_torso, write_torso_study
from medmtl.tracking.mlflow_run import start_run
from tests.app.results import SHA256, write_seen_case

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    url = f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}"
    folder = tmp_path / "folder"
    folder.mkdir()
    made = Settings(folder=folder, results=tmp_path / "out", reviews=url,
                    tracking_store=tmp_path / "mlflow")  # fmt: skip
    monkeypatch.setenv("MEDMTL_VIEW", made.as_json())
    return made


def _page(name: str, role: str) -> None:
    """One page by itself; AppTest opens only the first page of a navigation."""
    import os
    from importlib import import_module

    from app.services.access import Reader
    from app.settings import Settings
    from app.view import View

    settings = Settings.from_json(os.environ["MEDMTL_VIEW"])
    draw = getattr(import_module(f"app.screens.{name}"), f"{name}_page")
    draw(View(settings, Reader("one", role)))  # type: ignore[arg-type] # the caller's word


def _open(name: str, role: str = "admin") -> AppTest:
    app = AppTest.from_function(_page, args=(name, role), default_timeout=60).run()
    assert not app.exception
    assert not app.error
    return app


def _sign(settings: Settings) -> None:
    case = CaseRef("results", "seen", SHA256)
    review = with_finding(empty_review(case, "one"), "nodule", answer="disagree")
    open_review_log(settings.reviews or "").append(signed(review), case)


def test_reviews_are_counted_by_finding(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings)
    table = _open("reviews").dataframe[0].value
    assert table[["Finding", "Answers", "Model only"]].to_numpy().tolist() == [["Nodule", 1, 1]]


def test_only_an_admin_exports(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings)
    assert len(_open("reviews").get("download_button")) == 2
    assert len(_open("reviews", "reviewer").get("download_button")) == 0


def test_reviews_that_are_not_signed_are_left_out_and_that_is_said(settings: Settings) -> None:
    write_seen_case(settings.folder)
    case = CaseRef("results", "seen", SHA256)
    draft = with_finding(empty_review(case, "one"), "nodule", answer="agree")
    open_review_log(settings.reviews or "").append(draft, case)
    app = _open("reviews")
    assert "Signed only" in app.info[0].value
    app.toggle[0].set_value(False).run()
    assert len(app.dataframe) == 1


def test_images_without_results_are_listed_and_only_an_admin_analyses(settings: Settings) -> None:
    torso = generate_torso(1, spacing_mm=(16, 16, 16))
    write_torso_study(settings.folder / "study", torso, seed=1)
    app = _open("studies")
    assert app.dataframe[0].value["State"].tolist() == ["not yet"]
    assert [one.label for one in app.button] == ["Analyse"]
    assert not _open("studies", "reviewer").button


def test_an_empty_folder_says_so(settings: Settings) -> None:
    assert "is empty" in _open("studies").info[0].value
    assert _open("reviews").subheader[0].value == "No review yet"


def test_without_a_store_the_experiments_say_what_makes_one(settings: Settings) -> None:
    app = _open("experiments")
    assert "MLFLOW_TRACKING_URI" in app.info[0].value
    assert "medmtl evaluate" in app.info[-1].value


def test_a_run_is_shown_with_its_curve(settings: Settings) -> None:
    run = start_run(None, experiment="heart", run_name="first", store=settings.tracking_store,
                    system_metrics_every_s=0)  # fmt: skip
    for step in (1, 2):
        run.log_metrics({"val/dice": step / 10}, step=step)
    run.close("FINISHED")
    app = _open("experiments")
    assert app.dataframe[0].value["Run"].tolist() == ["first"]
    assert app.selectbox(key="curve").value == "val/dice"
    assert app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")


def test_help_lists_the_keys(settings: Settings) -> None:
    shown = " ".join(str(one.proto.body) for one in _open("help").get("html"))
    assert all(word in shown for word in ("Y, X, U", "Shift S", "Research software"))
