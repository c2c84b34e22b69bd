"""Reviews, studies, experiments and help as Streamlit runs them, full and empty."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from app.services.drafts import empty_review, signed, with_finding
from app.services.review_log import CaseRef, open_review_log
from app.settings import Settings
from medmtl.core.answer_key import answer_key
from medmtl.phantom import generate_torso, write_torso_study
from medmtl.tracking.gate import Evidence, judge
from medmtl.tracking.gate_settings import load_gate
from medmtl.tracking.mlflow_run import start_run
from medmtl.tracking.mlflow_store import connect
from medmtl.tracking.promotion import record_decision, set_alias
from medmtl.tracking.registry import register
from tests.app.results import SHA256, write_seen_case
from tests.evidence import CARD, good_metrics, write_evident

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


def _comparison(uri: str) -> None:
    """What stands under the table of runs once the newest two are chosen; AppTest clicks no row."""
    from pathlib import Path

    from app.screens.experiments import _comparison as draw
    from medmtl.tracking.browse import read_runs
    from medmtl.tracking.mlflow_store import connect

    draw(list(read_runs(connect(uri, store=Path()))))


def _sign(settings: Settings, reviewer: str = "one") -> None:
    case = CaseRef("results", "seen", SHA256)
    review = with_finding(empty_review(case, reviewer), "nodule", answer="disagree")
    open_review_log(settings.reviews or "").append(signed(review), case)


def test_reviews_are_counted_by_finding(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings)
    table = _open("reviews").dataframe[0].value
    assert table[["Finding", "Answers", "Model only"]].to_numpy().tolist() == [["Nodule", 1, 1]]


def test_a_half_read_blind_review_is_in_no_table(settings: Settings) -> None:
    write_seen_case(settings.folder)
    case = CaseRef("results", "seen", SHA256)
    review = with_finding(empty_review(case, "one"), "nodule", answer="disagree")
    open_review_log(settings.reviews or "").append(review, case, is_blind=True)
    assert _open("reviews").subheader[0].value == "No review yet"


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_blind_reader_sees_no_review_of_a_case_before_their_own_is_complete(
    settings: Settings, is_answered: bool
) -> None:
    write_seen_case(settings.folder)
    case, log = CaseRef("results", "seen", SHA256), open_review_log(settings.reviews or "")
    for reviewer in ("two", "one") if is_answered else ("two",):
        review = empty_review(case, reviewer)
        for name in ("nodule", "effusion"):
            review = with_finding(review, name, answer="disagree")
        log.append(signed(review), case, is_blind=True)
    app = AppTest.from_function(_page, args=("reviews", "admin"), default_timeout=60)
    app.session_state["is_blind"] = True
    app.run()
    assert not app.exception
    assert len(app.get("download_button")) == (2 if is_answered else 0)


def test_a_case_that_is_half_read_blind_shows_the_review_of_nobody(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings, "two")
    case = CaseRef("results", "seen", SHA256)
    half = with_finding(empty_review(case, "one"), "nodule", answer="disagree")
    open_review_log(settings.reviews or "").append(half, case, is_blind=True)
    assert _open("reviews").subheader[0].value == "No review yet"


def test_a_corrected_mask_of_an_earlier_answer_enters_no_table(settings: Settings) -> None:
    record = write_seen_case(settings.folder)
    _sign(settings)
    place = settings.folder / "reviews" / "results" / "seen"
    place.mkdir(parents=True)
    note = {
        "volume": "image", "reviewer": "one", "saved_at": "2026", "source": "seg",
        "model_sha256": SHA256, "file": "f", "voxels_changed": 1, "dice": {"nodule": 0.5},
        "answer": answer_key(record),
    }  # fmt: skip
    dice = []
    for answer in (note["answer"], "before"):
        (place / "a.json").write_text(json.dumps(note | {"answer": answer}), encoding="utf-8")
        tables = [one.value for one in _open("reviews").dataframe]
        dice.append([one["Dice of the model"].tolist() for one in tables if "Structure" in one])
    assert dice == [[[0.5]], []]


def test_only_an_admin_exports(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings)
    assert len(_open("reviews").get("download_button")) == 2
    assert len(_open("reviews", "reviewer").get("download_button")) == 0


def test_a_manifest_below_the_folder_is_offered_for_a_new_version(settings: Settings) -> None:
    write_seen_case(settings.folder)
    _sign(settings)
    assert not [one for one in _open("reviews").selectbox if one.key == "manifest_base"]
    for place in ("training", "manifests/torso-20260131"):  # the second is an export of before
        (settings.folder / place).mkdir(parents=True)
        for name in ("manifest.toml", "cases.csv"):
            (settings.folder / place / name).touch()
    assert _open("reviews").selectbox(key="manifest_base").options == ["training"]


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


def test_two_runs_are_compared_and_a_promoted_model_shows_its_card_and_who_and_why(
    settings: Settings, tmp_path: Path
) -> None:
    for name, dice, rate in (("joint", 0.8, 0.1), ("single", 0.7, 0.2)):
        run = start_run(None, experiment="heart", run_name=name, store=settings.tracking_store,
                        system_metrics_every_s=0)  # fmt: skip
        run.log_config({"lr": rate, "epochs": 3})
        run.log_metrics({"val/dice": dice}, step=1)
        run.close("FINISHED")
    connection = connect(None, store=settings.tracking_store)
    bundle, gate = write_evident(tmp_path / "bundle"), load_gate()
    version = register(connection, tmp_path / "bundle", name="torso")
    evidence = Evidence(bundle, bundle.metrics)
    place = record_decision(
        connection, version, alias="champion", by="a.lee", why="better", evidence=evidence,
        criteria=judge(evidence, None, gate), settings=gate,
    )  # fmt: skip
    set_alias(connection, version, alias="champion", by="a.lee", why="better", champion=None,
              run_id=place)  # fmt: skip
    compared = AppTest.from_function(_comparison, args=(connection.uri,), default_timeout=60).run()
    assert not compared.exception
    tables = [one.value for one in compared.dataframe]
    (metrics,) = (one for one in tables if "Metric" in one and len(one.columns) == 3)
    assert metrics[["joint", "single"]].to_numpy().tolist() == [[0.8, 0.7]]
    (differ,) = (one for one in tables if "Parameter" in one)
    assert differ["Parameter"].tolist() == ["lr"]
    app = _open("experiments", "viewer")
    tables = [one.value for one in app.dataframe]
    (versions,) = (one for one in tables if "Alias" in one and "SHA-256" in one)
    assert versions[["Model", "Version", "Alias"]].to_numpy().tolist() == [
        ["torso", "1", "champion"]
    ]
    (decisions,) = (one for one in tables if "Why" in one)
    assert decisions[["By", "Why", "Gate"]].to_numpy().tolist() == [["a.lee", "better", "passed"]]
    app.selectbox(key="card_of").set_value(0).run()
    assert any(one.value.strip() == CARD.strip() for one in app.markdown)


def test_an_evaluation_is_shown_with_its_figures_and_its_report(settings: Settings) -> None:
    folder = settings.folder / "evaluation"
    folder.mkdir()
    (folder / "report.html").write_text("<p>report</p>", encoding="utf-8")
    record = {"model": {"name": "torso", "version": "1.0"}, **good_metrics()}
    (folder / "metrics.json").write_text(json.dumps(record), encoding="utf-8")
    app = _open("experiments", "viewer")
    (figures,) = (one.value for one in app.dataframe if "Figure" in one.value)
    found = {row["Figure"]: row["Value"] for row in figures.to_dict("records")}
    assert found["Mean Dice"] == pytest.approx(0.9)
    assert [one.proto.label for one in app.get("download_button")] == ["Report (HTML)"]


def test_help_lists_the_keys(settings: Settings) -> None:
    shown = " ".join(str(one.proto.body) for one in _open("help").get("html"))
    assert all(word in shown for word in ("Y, X, U", "Shift S", "Research software"))
