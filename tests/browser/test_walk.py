"""A reader's way through the viewer: worklist, case, findings, review, signature, reload."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.app.results import LESION_CENTRE, case_record, finding, write_case, write_seen_case
from tests.browser.driver import CHROMIUM, ViewerPage
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

PATIENCE_MS = 90_000  # a busy machine draws a page slowly
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_seen_case(tmp_path)
    write_case(tmp_path / "results", case_record("other", finding("nodule", 0.3)))
    return tmp_path


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with viewer(folder) as running:
        yield running


def _opened(chromium: Browser, address: str, *, width: int = 1440, height: int = 900) -> Page:
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address)
    return page


def _chosen(page: Page) -> str:
    """The finding that the evidence is about."""
    return page.locator(".m-evidence b").first.inner_text()


def test_review_of_a_case_is_there_after_a_reload(chromium: Browser, address: str) -> None:
    page = _opened(chromium, address)
    outside: list[str] = []
    page.on("request", lambda asked: outside.append(asked.url))
    page.get_by_role("button", name="Open the first case").wait_for()
    page.wait_for_timeout(500)  # its key is listened for a moment after it is drawn
    page.keyboard.press("o")
    page.locator(".m-line").first.wait_for()
    assert "case=results%2Fseen" in page.url
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
    page.wait_for_url("**case=results%2Fother**")  # the next case

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


@pytest.mark.parametrize("size", [(1440, 900), (1280, 720)])
def test_a_case_fits_on_one_screen(chromium: Browser, address: str, size: tuple[int, int]) -> None:
    width, height = size
    page = _opened(chromium, f"{address}/case?case=results/seen", width=width, height=height)
    ViewerPage(page).settle()
    page.wait_for_timeout(500)
    main = "document.querySelector('[data-testid=stMain]')"
    assert page.evaluate(f"{main}.scrollHeight - {main}.clientHeight") <= 2
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_blind_reader_is_shown_no_mask_before_the_answer(chromium: Browser, address: str) -> None:
    page = _opened(chromium, address)
    page.locator("[data-testid=stDataFrame]").wait_for()
    page.locator("[data-testid=stPopoverButton]").click()
    page.get_by_text("Blind reading").click()
    page.keyboard.press("Escape")
    page.get_by_text("2 of 2 cases").wait_for()
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
    kept = json.loads((folder / "results" / ".medmtl" / "viewer.json").read_bytes())
    assert set(kept["cases"]) == {"seen", "other"}
