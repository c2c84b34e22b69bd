"""Images not yet analysed, from the first look to the worklist: to the end, cancelled, and failed.

The model runs beside the viewer, as a user starts it from the page.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from medmtl.phantom import generate_torso, write_torso_study
from tests.browser.driver import CHROMIUM
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

PATIENCE_MS, NETWORK_MS = 90_000, 600_000  # on a busy machine; 20 s of work
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two torso studies."""
    for seed in (1, 2):
        torso = generate_torso(seed, spacing_mm=(8, 8, 8))
        write_torso_study(tmp_path / "images" / f"torso-{seed}", torso, seed=seed)
    return tmp_path / "images"


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def _start(page: Page, address: str) -> None:
    page.goto(f"{address}/studies", wait_until="commit")
    page.get_by_role("button", name="Analyse").click()


def _jobs(out: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "predict" in line and str(out) in line:
            found.append(process)
    return found


def test_a_study_is_analysed_from_the_page_and_opened(
    page: Page, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with viewer(images, "-o", str(out)) as address:
        page.goto(address, wait_until="commit")
        page.get_by_text("No finished case here").wait_for()
        page.get_by_role("button", name="Look for studies").click()
        page.get_by_text("2 studies · 2 not yet analysed").wait_for()
        page.get_by_role("button", name="Analyse").click()
        page.get_by_text("Analysis of all studies: at work").wait_for()
        page.get_by_text("Done.").wait_for(timeout=NETWORK_MS)
        page.get_by_text("2 studies · 0 not yet analysed").wait_for()
        page.get_by_role("button", name="Open the worklist").click()
        page.get_by_text("2 of 2 cases").wait_for()
        page.get_by_role("button", name="Open the first case").click()
        page.locator(".m-line").nth(5).wait_for()  # they come one after the other
        assert page.locator(".m-line").count() == 6
    assert len(list(out.glob("*/case.json"))) == 2


def test_a_cancelled_analysis_keeps_what_is_finished_and_can_go_on(
    page: Page, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with viewer(images, "-o", str(out)) as address:
        _start(page, address)
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled; finished cases are kept").wait_for()
        assert _jobs(out) == []
        assert not list((out / ".medmtl" / "partial").glob("*/case.json"))
        page.get_by_role("button", name="Analyse").click()
        page.get_by_text("Done.").wait_for(timeout=NETWORK_MS)
    cases = [json.loads(path.read_bytes()) for path in out.glob("*/case.json")]
    assert [case["status"] for case in cases] == ["done", "done"]


def test_an_analysis_that_cannot_start_says_why_and_the_viewer_goes_on(
    page: Page, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("a file where the results should go", encoding="utf-8")
    with viewer(images, "-o", str(out)) as address:
        _start(page, address)
        page.get_by_text("Failed.").wait_for()
        page.get_by_text("What it says").click()
        page.get_by_text("output folder could not be written").wait_for()
        assert "Traceback" not in page.content()
        assert page.get_by_role("button", name="Analyse").is_enabled()


def test_one_bad_study_stops_no_other(page: Page, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for path in sorted((images / "torso-1").iterdir())[3:]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - 2000])  # cut in the middle of its pixels
    with viewer(images, "-o", str(out)) as address:
        _start(page, address)
        page.get_by_role("button", name="Open the worklist").wait_for(timeout=NETWORK_MS)
        assert page.get_by_text("Traceback").count() == 0
    assert len(list(out.glob("*/case.json"))) == 1


def test_the_end_of_the_viewer_ends_its_analyses(page: Page, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with viewer(images, "-o", str(out)) as address:
        _start(page, address)
        page.get_by_role("button", name="Cancel").wait_for()
        assert len(_jobs(out)) == 1
    until_s = time.monotonic() + 20
    while _jobs(out) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert _jobs(out) == []
