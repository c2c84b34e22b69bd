"""The case page as Streamlit runs it: evidence, answers, signature, blind reading."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from app.components.scene import CrosshairMoved
from app.open_case import open_case
from app.services.access import Reader
from app.services.drafts import signed
from app.services.report_writing import Reported
from app.services.review_log import CaseRef, open_review_log
from app.serving.gateway import gateway
from app.serving.tokens import TokenBook
from app.settings import Settings
from app.shown_masks import keep_correction, newest_corrections, shown_labels
from app.view import View
from medmtl.core.errors import MedmtlError
from tests.app.results import LESION_CENTRE, SHA256, write_seen_case

if TYPE_CHECKING:
    from pathlib import Path

    from app.open_case import OpenCase
    from medmtl.core.review import Review

KEY = "results/seen"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    write_seen_case(tmp_path)
    url = f"sqlite:///{(tmp_path / 'reviews.sqlite').as_posix()}"
    made = Settings(folder=tmp_path, results=tmp_path / "out", reviews=url, reviewer="one")
    monkeypatch.setenv("MEDMTL_VIEW", made.as_json())
    return made


def _page() -> None:
    """AppTest opens only the first page of a navigation, so the page stands alone here."""
    import os

    from app.screens.case import case_page
    from app.services.access import Reader
    from app.settings import Settings
    from app.view import View

    settings = Settings.from_json(os.environ["MEDMTL_VIEW"])
    case_page(View(settings, Reader(settings.reviewer, "reviewer")))


def _open(*, is_blind: bool = False, **parameters: str) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=30)
    app.session_state["is_blind"] = is_blind
    app.query_params.update({"case": KEY} | parameters)
    app.run()
    assert not app.exception
    return app


def _said(settings: Settings) -> Review | None:
    entry = open_review_log(settings.reviews or "").latest(
        CaseRef("results", "seen", SHA256), "one"
    )
    return entry.review if entry else None


def _scene(app: AppTest) -> dict[str, Any]:
    component = app.get("bidi_component")[0]
    scene: dict[str, Any] = json.loads(component.proto.json)["scene"]
    return scene


def _press(app: AppTest, label: str) -> AppTest:
    (button,) = (one for one in app.button if one.label == label)
    button.click().run()
    assert not app.exception
    return app


def _text(app: AppTest) -> str:
    return " ".join(str(one.proto.body) for one in app.get("html"))


def test_the_most_probable_finding_is_chosen_and_looked_at(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway(), "places", TokenBook(lambda _: True))
    app = _open()
    assert "Nodule: present" in _text(app)
    scene = _scene(app)
    assert scene["finding"] == "nodule"
    assert scene["crosshair_lps"] is None  # the viewer goes to the finding
    find = gateway().places.redeem(scene["findings"][0]["place_url"].rpartition("/")[2])
    assert find is not None
    assert find().point_lps == pytest.approx(LESION_CENTRE)
    assert find().highest == 1.0


def test_an_answer_is_stored_at_once_and_the_next_finding_chosen(settings: Settings) -> None:
    app = _press(_open(), "Agree")
    review = _said(settings)
    assert review is not None
    assert [(one.finding, one.answer) for one in review.findings] == [("nodule", "agree")]
    assert "Effusion: absent" in _text(app)


def test_a_reload_shows_what_was_answered(settings: Settings) -> None:
    _press(_press(_open(), "Agree"), "Disagree")
    assert "2 of 2 answered" in _text(_open())


def test_a_signature_is_stored(settings: Settings) -> None:
    app = _press(_open(), "Agree")
    _press(app, "Sign")
    review = _said(settings)
    assert review is not None
    assert review.is_signed
    assert "● signed" in _text(_open())


def test_a_case_without_an_answer_is_not_signed(settings: Settings) -> None:
    app = _open()
    (button,) = (one for one in app.button if one.label == "Sign")
    assert button.disabled
    assert "Answer" in button.help
    (button,) = (one for one in _press(app, "Agree").button if one.label == "Sign")
    assert not button.disabled


def test_buttons_of_two_cases_and_findings_are_others(settings: Settings) -> None:
    """A key pressed before the page follows must not answer or sign what was not seen."""
    shutil.copytree(settings.folder / "results", settings.folder / "other")
    pages = [_open(), _open(finding="effusion"), _open(case="other/seen")]
    for label in ("Agree", "Sign"):
        keys = {one.key for app in pages for one in app.button if one.label == label}
        assert len(keys) == (3 if label == "Agree" else 2)


def test_an_answer_is_not_stored_for_the_finding_that_was_left_just_then(
    settings: Settings,
) -> None:
    app = _open()
    for label in ("Effusion", "Agree"):
        (button,) = (one for one in app.button if one.label == label)
        button.click()
    app.run()
    assert _said(settings) is None
    assert "another finding" in app.toast[0].value


def test_a_finding_chosen_by_a_key_of_the_viewer_counts_before_the_page_shows_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = _open()
    moved = CrosshairMoved((0.0, 0.0, 0.0), "image", "axial", (0.0, 1.0), "effusion")
    monkeypatch.setattr("app.screens.case_findings.waiting_event", lambda _: moved)
    _press(app, "Agree")
    assert _said(settings) is None


def test_an_answer_that_is_not_stored_says_why(settings: Settings) -> None:
    app = _open()
    with open_review_log(settings.reviews or "").engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON reviews BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    app = _press(app, "Agree")
    assert "was not stored" in app.error[0].value


def test_the_report_is_looked_at_again_once_the_case_is_analysed_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answer, and a new report without the signature."""
    app = _press(_open(), "Agree")
    looks: list[object] = []

    def look(folder: object, _: object) -> Reported:
        looks.append(folder)
        return Reported()

    monkeypatch.setattr("app.screens.case_review.report_case", look)
    os.utime(settings.folder / "results" / "seen" / "case.json", ns=(1, 1))
    app.run()
    app.run()
    assert len(looks) == 1


def test_a_signature_does_not_stand_under_a_result_that_was_computed_again(
    settings: Settings,
) -> None:
    _press(_press(_open(), "Agree"), "Sign")
    _compute_again(settings)
    app = _open()
    assert "m-signed" not in _text(app)
    assert "signed an earlier result" in _text(app)
    assert "0 of 2 answered" in _text(app)
    _press(app, "Agree")
    review = _said(settings)
    assert review is not None
    assert [(one.finding, one.decision) for one in review.findings] == [("effusion", True)]
    assert len(open_review_log(settings.reviews or "").last_lines()) == 2


def _compute_again(settings: Settings) -> None:
    """The same model answers otherwise now: no nodule, but an effusion."""
    path = settings.folder / "results" / "seen" / "case.json"
    record = json.loads(path.read_bytes())
    for found, probability in zip(record["findings"], (0.1, 0.9), strict=True):
        found |= {"probability": probability, "decision": probability > 0.5}
    path.write_text(json.dumps(record), encoding="utf-8")


def test_two_answers_on_one_image_take_painted_masks_each_its_own(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask on its way while the reader goes on must not end in the other case."""
    shutil.copytree(settings.folder / "results", settings.folder / "other")
    monkeypatch.setattr(gateway(), "masks", TokenBook(lambda _: True))
    urls = [_scene(_open(case=f"{run}/seen"))["volumes"][0]["save_url"]
            for run in ("results", "other")]  # fmt: skip
    assert None not in urls
    assert urls[0] != urls[1]


def test_a_case_that_answers_otherwise_now_has_other_addresses(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was painted on the masks of before, or cached by the browser, is not of this answer."""
    for book in ("masks", "places"):
        monkeypatch.setattr(gateway(), book, TokenBook(lambda _: True))

    def addresses() -> tuple[str, str]:
        scene = _scene(_open())
        return scene["volumes"][0]["save_url"], scene["findings"][0]["place_url"]

    before = addresses()
    assert addresses() == before
    _compute_again(settings)
    assert not {*before} & {*addresses()}


def test_a_mask_is_accepted(settings: Settings) -> None:
    _press(_open(), "Accept")
    review = _said(settings)
    assert review is not None
    assert [(one.volume, one.segment, one.answer) for one in review.masks] == [
        ("image", None, "accepted")
    ]


NODULE_VOXEL, LUNG_VOXEL = (0, 0, 0), (0, 0, 1)


@pytest.fixture
def corrected(settings: Settings) -> Settings:
    """Another reader has painted one voxel of the nodule."""
    case = _case_of(settings, "two")
    masks = case.masks("image")
    painted = masks.label_map.copy()
    painted[NODULE_VOXEL] = 2
    keep_correction(case, painted, volume="image", geometry=masks.geometry, source="painted")
    return settings


def _case_of(settings: Settings, reader: str) -> OpenCase:
    case = open_case(View(settings, Reader(reader, "reviewer")), KEY)
    assert case is not None
    return case


@pytest.mark.parametrize("source", ["painted", "seg"])
def test_a_correction_of_one_structure_keeps_the_earlier_one_of_another(
    corrected: Settings, source: str
) -> None:
    """Painted on the model's own mask, or sent as a file that describes no nodule."""
    case = _case_of(corrected, "one")
    masks = case.masks("image")
    drawn = masks.label_map.copy()
    drawn[LUNG_VOXEL] = 1
    keep_correction(
        case, drawn, volume="image", geometry=masks.geometry, source=source,
        segments=("lung",) if source == "seg" else None, base=masks.label_map,
    )  # fmt: skip
    kept = newest_corrections(case)["image"]
    counts = shown_labels(case, "image").read().array
    assert (counts[NODULE_VOXEL], counts[LUNG_VOXEL]) == (2, 1)
    assert (kept.segments, kept.voxels_changed) == (None, 2)  # both structures of the model
    review = _said(corrected)
    assert review is not None
    assert [(one.segment, one.answer) for one in review.masks] == [("lung", "corrected")]


def test_a_mask_that_is_painted_back_is_no_correction_any_more(corrected: Settings) -> None:
    case = _case_of(corrected, "two")
    case.save(signed)
    masks = case.masks("image")
    keep_correction(
        case, masks.label_map, volume="image", geometry=masks.geometry, source="painted",
        base=shown_labels(case, "image").read().array,
    )  # fmt: skip
    kept = newest_corrections(case)["image"]
    assert (kept.segments, kept.voxels_changed) == ((), 0)
    review = _case_of(corrected, "two").review
    assert (review.masks, review.is_signed) == ((), False)


def test_who_paints_one_structure_says_nothing_of_the_others(corrected: Settings) -> None:
    case = CaseRef("results", "seen", SHA256)
    said = open_review_log(corrected.reviews or "").latest(case, "two")
    assert said is not None
    assert [(one.segment, one.answer) for one in said.review.masks] == [("nodule", "corrected")]


def test_the_mask_of_another_reader_is_named_and_not_taken_for_the_models(
    corrected: Settings,
) -> None:
    app = _open()
    assert "IMAGE by two" in _text(app)
    review = _said_after(_press(app, "Accept"), corrected)
    nodule, lung = review.mask("image", "nodule"), review.mask("image", "lung")
    assert (nodule and nodule.answer, lung and lung.answer) == ("corrected", "accepted")


def test_the_models_own_mask_can_be_seen_and_accepted(corrected: Settings) -> None:
    app = _open()
    theirs = _scene(app)["volumes"][0]["labels_url"]
    (switch,) = (one for one in app.toggle if one.label == "The model's own masks")
    switch.set_value(True).run()
    assert _scene(app)["volumes"][0]["labels_url"] != theirs
    review = _said_after(_press(app, "Accept"), corrected)
    nodule = review.mask("image", "nodule")
    assert (nodule and nodule.answer) == "accepted"


def test_a_correction_of_an_earlier_answer_is_told_and_not_shown(corrected: Settings) -> None:
    record = corrected.folder / "results" / "seen" / "case.json"
    again = json.loads(record.read_bytes())
    again["source"]["volumes"][0]["series_uid"] = "2.25.9"
    record.write_text(json.dumps(again), encoding="utf-8")
    shown = _text(_open())
    assert "IMAGE by two" not in shown
    assert "which do not count here: 1." in shown


def test_a_blind_reader_sees_nothing_of_the_answer_before_giving_one(settings: Settings) -> None:
    app = _open(is_blind=True)
    scene = _scene(app)
    assert scene["segments"] == []
    assert [(one["activation"], one["place_url"]) for one in scene["findings"]] == [
        (None, None)
    ] * 2
    assert scene["volumes"][0]["labels_url"] is None
    shown = _text(app)
    assert not any(word in shown for word in ("0.90", "present", "absent", "mL", "cut off"))
    _press(_press(app, "Present"), "Present")
    entry = open_review_log(settings.reviews or "").latest(
        CaseRef("results", "seen", SHA256), "one"
    )
    assert entry is not None
    assert entry.is_blind
    assert [one.answer for one in entry.review.findings] == ["agree", "disagree"]
    assert _scene(app)["segments"]
    assert "0.90" in _text(app)


def test_a_blind_reader_is_not_told_whether_the_model_agrees(settings: Settings) -> None:
    app = _press(_open(is_blind=True), "Present")
    shown = _text(app)
    assert "●" in shown
    assert not any(mark in shown for mark in ("✓", "✗"))
    assert [tab.label for tab in app.tabs][2] == "Quality"


def test_a_case_that_was_seen_before_the_switch_was_on_is_not_read_blind(
    settings: Settings,
) -> None:
    app = _open()
    app.session_state["is_blind"] = True
    app.run()
    assert "Nodule: present" in _text(app)
    _press(app, "Agree")
    entry = open_review_log(settings.reviews or "").latest(
        CaseRef("results", "seen", SHA256), "one"
    )
    assert entry is not None
    assert not entry.is_blind


def test_a_viewer_for_blind_readers_has_no_way_around(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDMTL_VIEW", replace(settings, is_blind=True).as_json())
    app = _open()
    assert "0.90" not in _text(app)
    (switch,) = (one for one in app.toggle if one.label == "Blind reading")
    assert switch.disabled


def test_the_order_of_a_blind_reader_tells_nothing_of_urgency(settings: Settings) -> None:
    app = AppTest.from_function(_page, default_timeout=30)
    app.session_state["reading_order"] = ["results/urgent", "results/calm", KEY]
    app.query_params["case"] = KEY
    assert "3 of 3" in _text(app.run())
    app.session_state["is_blind"] = True
    assert "2 of 3" in _text(app.run())


def test_an_answer_changed_after_the_model_was_seen_is_not_blind(settings: Settings) -> None:
    app = _press(_press(_open(is_blind=True), "Present"), "Present")
    _press(app, "Accept")
    case, log = CaseRef("results", "seen", SHA256), open_review_log(settings.reviews or "")
    assert [entry.is_blind for entry in log.history(case)] == [True, True, True]
    _press(app, "Agree")
    assert not log.history(case)[-1].is_blind


def test_a_tab_from_before_the_answer_was_shown_changes_nothing_blind(
    settings: Settings,
) -> None:
    stale, app = _open(is_blind=True), _open(is_blind=True)
    _press(_press(app, "Present"), "Present")
    _press(stale, "Absent")
    last = open_review_log(settings.reviews or "").latest(CaseRef("results", "seen", SHA256), "one")
    assert last is not None
    assert not last.is_blind


def test_who_judged_a_mask_has_seen_the_answer(settings: Settings) -> None:
    _press(_open(), "Accept")
    assert _scene(_open(is_blind=True))["segments"]


def test_a_comment_and_an_answer_of_one_moment_are_both_kept(settings: Settings) -> None:
    app = _open()
    app.text_area[0].input("small")  # leaving the field and the click arrive together
    review = _said_after(_press(app, "Agree"), settings)
    assert (review.comment, len(review.findings)) == ("small", 1)


def test_answers_of_two_tabs_of_one_reader_are_both_kept(settings: Settings) -> None:
    first, second = _open(), _open(finding="effusion")
    _press(first, "Agree")
    review = _said_after(_press(second, "Disagree"), settings)
    assert {one.finding: one.answer for one in review.findings} == {
        "nodule": "agree",
        "effusion": "disagree",
    }


def _said_after(_: AppTest, settings: Settings) -> Review:
    review = _said(settings)
    assert review is not None
    return review


def test_who_may_only_look_cannot_save(settings: Settings) -> None:
    case = open_case(View(settings, Reader("one", "viewer")), KEY)
    assert case is not None
    with pytest.raises(MedmtlError, match="not review"):
        case.save(signed)
    assert _said(settings) is None


def test_a_link_reopens_the_case_at_its_point(settings: Settings) -> None:
    app = _open(finding="effusion", at="1.0,2.0,3.0", layout="axial")
    scene = _scene(app)
    assert scene["crosshair_lps"] == [1.0, 2.0, 3.0]
    assert scene["layout"] == "axial"
    assert "Effusion: absent" in _text(app)


def test_a_case_whose_image_is_missing_still_shows_its_answer(settings: Settings) -> None:
    (settings.folder / "images" / "seen.nii.gz").unlink()
    app = _open()
    assert "--images" in app.warning[0].value
    assert "Nodule: present" in _text(app)


def test_a_case_that_is_not_there_says_what_to_do(settings: Settings) -> None:
    app = _open(case="../../etc")
    assert app.subheader[0].value == "No such case"
