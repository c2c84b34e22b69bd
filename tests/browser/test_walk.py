"""A reader's way through the viewer: keys, blind reading, corrected masks, one screen."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

from tests.app.results import LESION_CENTRE, case_record, finding, write_case, write_seen_case
from tests.browser.driver import CHROMIUM, ViewerPage
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, BrowserContext, Page

PATIENCE_MS = 90_000  # a busy machine draws a page slowly
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


CASES = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test that stores something has a case of its own."""
    place: Path = tmp_path_factory.mktemp("walk")
    for name in ("seen", "sent", "painted"):
        write_seen_case(place, name)
    write_case(place / "results", case_record("other", finding("nodule", 0.3)))
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with viewer(folder, "--base-url-path", "/reading/room/") as running:
        assert running.endswith("/reading/room")
        yield running


@pytest.fixture(autouse=True)
def _pages_are_closed(chromium: Browser, context: BrowserContext) -> Iterator[None]:
    """A page left open draws on, and looks for its viewer when that has ended."""
    kept = [*chromium.contexts]
    assert context in kept
    yield
    for opened in chromium.contexts:
        if opened not in kept:
            opened.close()


def _opened(chromium: Browser, address: str, *, width: int = 1440, height: int = 900) -> Page:
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    return page


def _chosen(page: Page) -> str:
    """The finding that the evidence is about."""
    return page.locator(".m-evidence b").first.inner_text()


def test_review_of_a_case_is_there_after_a_reload(chromium: Browser, address: str) -> None:
    page = _opened(chromium, "about:blank")
    outside: list[str] = []
    page.on("request", lambda asked: outside.append(asked.url))
    page.goto(f"{address}/case?case=results/seen")
    ViewerPage(page).settle()
    assert _chosen(page) == "Nodule: present"

    page.keyboard.press("y")
    page.get_by_text("1 of 2 answered").wait_for()
    page.get_by_text("Effusion: absent").wait_for()
    page.keyboard.press("x")
    page.get_by_text("2 of 2 answered").wait_for()
    page.get_by_role("tab", name="Structures").click()
    page.keyboard.press("g")
    page.get_by_role("tab", name="Review").click()
    page.get_by_text("all masks: accepted").wait_for()
    page.get_by_role("tab", name="Findings").click()
    page.keyboard.press("Shift+S")
    page.wait_for_url("**case=results%2Fsent**")  # the next case

    page.goto(f"{address}/case?case=results/seen")
    page.locator(".m-signed").wait_for()
    assert page.locator(".m-line em").all_inner_texts() == ["✓", "✗"]
    page.goto(address)
    page.get_by_text("1 signed").wait_for()
    assert [
        url for url in outside if address not in url and not url.startswith(("data:", "blob:"))
    ] == []


def test_the_crosshair_is_where_the_lesion_is(chromium: Browser, address: str) -> None:
    page = _opened(chromium, f"{address}/case?case=results/seen")
    ViewerPage(page).settle()
    page.wait_for_url("**at=**")
    at = page.evaluate("new URLSearchParams(location.search).get('at')")
    assert [float(part) for part in at.split(",")] == pytest.approx(LESION_CENTRE)


def test_the_worklist_opens_under_its_name(chromium: Browser, address: str) -> None:
    for typed in ("/worklist", "/", ""):
        page = _opened(chromium, f"{address}{typed}")
        page.locator("[data-testid=stDataFrame]").wait_for()
        assert page.url == f"{address}/"
        assert page.get_by_text("Page not found").count() == 0
        page.close()


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720)])
def test_a_case_fits_on_one_screen(chromium: Browser, address: str, size: tuple[int, int]) -> None:
    width, height = size
    page = _opened(chromium, f"{address}/case?case=results/seen", width=width, height=height)
    ViewerPage(page).settle()
    page.wait_for_timeout(500)
    main = "document.querySelector('[data-testid=stMain]')"
    assert page.evaluate(f"{main}.scrollHeight - {main}.clientHeight") <= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    bar = page.locator(".medmtl-viewer .bar").bounding_box()
    assert bar is not None
    assert bar["height"] < 40  # one row of tools
    page.set_viewport_size({"width": width, "height": height - 100})
    page.wait_for_function(f"{main}.scrollHeight - {main}.clientHeight <= 2")


def test_a_blind_reader_is_shown_no_mask_before_the_answer(chromium: Browser, address: str) -> None:
    page = _opened(chromium, address)
    page.locator("[data-testid=stDataFrame]").wait_for()
    page.locator("[data-testid=stPopoverButton]").click()
    page.get_by_text("Blind reading").click()
    page.keyboard.press("Escape")
    page.get_by_text(f"{CASES} of {CASES} cases").wait_for()
    page.wait_for_timeout(500)
    asked: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    for _ in range(2):  # by case: "other" has no image
        page.keyboard.press("o")
    page.get_by_text("Blind reading:").wait_for()
    assert page.locator(".m-bar").count() == 0
    assert not [url for url in asked if "/medmtl/mask/" in url]


def test_the_index_is_kept_for_the_next_start(
    folder: Path, address: str, chromium: Browser
) -> None:
    _opened(chromium, address).locator("[data-testid=stDataFrame]").wait_for()
    index = folder / "results" / ".medmtl" / "viewer.json"
    expected = {"seen", "sent", "painted", "other"}
    assert _within(20, lambda: index.exists() and set(_cases(index)) == expected), _cases(index)


def _cases(index: Path) -> list[str]:
    return list(json.loads(index.read_bytes())["cases"])


def _within(seconds: float, is_there: Callable[[], bool]) -> bool:
    """The page may be shown before the index is written."""
    end_s = time.monotonic() + seconds
    while not is_there():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True


def _masks(folder: Path, case_id: str) -> Path:
    return folder / "results" / case_id / "image" / "segmentation.nii.gz"


def _stored(folder: Path, case_id: str) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    """The note and the voxels of the one correction of a case."""
    (note,) = (folder / "reviews" / "results" / case_id).glob("*.json")
    (mask,) = note.parent.glob("*.nii.gz")
    return json.loads(note.read_bytes()), np.asarray(nib.load(mask).dataobj)


def _mark_is_there(page: Page, address: str, case_id: str) -> None:
    page.goto(f"{address}/case?case=results/{case_id}")
    page.get_by_role("tab", name="Structures").click()
    page.get_by_text("Corrected mask ✎").wait_for()


def test_a_mask_that_is_sent_back_is_stored_and_shown(
    context: BrowserContext, folder: Path, address: str, tmp_path: Path
) -> None:
    model = nib.load(_masks(folder, "sent"))
    corrected = np.asarray(model.dataobj).copy()
    corrected[corrected == 2] = 1
    corrected[12:15, 12:15, 20:23] = 2  # the nodule lies elsewhere
    nib.save(nib.Nifti1Image(corrected, model.affine), tmp_path / "corrected.nii.gz")
    page = context.new_page()
    page.goto(f"{address}/case?case=results/sent")
    ViewerPage(page).settle()
    with page.expect_response("**/medmtl/volume/**") as fetched:  # the new mask is drawn
        page.get_by_role("tab", name="Structures").click()
        page.get_by_text("Corrected mask", exact=True).click()
        page.locator("input[type=file]").set_input_files(tmp_path / "corrected.nii.gz")
        page.get_by_role("button", name="Use this mask").click()
    assert fetched.value.ok
    page.get_by_text("Corrected mask ✎").wait_for()
    note, kept = _stored(folder, "sent")
    assert note["source"] == "nifti"
    assert np.array_equal(kept, corrected)
    _mark_is_there(page, address, "sent")
    page.close()


def test_what_is_painted_is_stored_as_a_correction(
    context: BrowserContext, folder: Path, address: str
) -> None:
    at = ",".join(map(str, LESION_CENTRE))
    shown = ViewerPage.open(context, f"{address}/case?case=results/painted&layout=axial&at={at}")
    shown.press("b")
    box = shown.page.locator(".medmtl-viewer .stage").bounding_box()
    assert box is not None
    mm = 1.04 * 64 / min(box["width"], box["height"])
    middle = -1.0  # of 32 voxels of 2 mm from -32 mm on
    x, y = (0.5 + (place - middle) / mm / box[side]
            for place, side in ((-24.0, "width"), (-24.0, "height")))  # fmt: skip
    shown.drag((x, y), (x + 0.001, y))
    shown.page.locator(".medmtl-viewer").get_by_text("Save mask").click()
    shown.page.get_by_text("Corrected mask stored.").wait_for()
    note, kept = _stored(folder, "painted")
    assert note["source"] == "painted"
    changed = np.argwhere(kept != np.asarray(nib.load(_masks(folder, "painted")).dataobj))
    assert len(changed) == note["voxels_changed"] > 4
    assert set(kept[tuple(changed.T)]) == {1}
    assert set(changed[:, 2]) == {21}  # the slice that was shown
    assert changed[:, :2].mean(axis=0) * 2 - 32 == pytest.approx([-24, -24], abs=1.5)
    _mark_is_there(shown.page, address, "painted")
    shown.page.close()
