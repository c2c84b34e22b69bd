"""Masks sent from a browser: what is too large is refused, and each session sees its own only."""

from __future__ import annotations

import http.client
import shutil
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.app.results import write_seen_case
from tests.browser.driver import CHROMIUM
from tests.browser.viewer_command import viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

PATIENCE_MS = 90_000
LIMIT_MB = 200
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("uploads")
    write_seen_case(place)
    mask = place / "results" / "seen" / "image" / "segmentation.nii.gz"
    shutil.copy(mask, place / "mine.nii.gz")
    (place / "no-mask.nii.gz").write_bytes(b"no mask")
    with (place / "large.nii.gz").open("wb") as stream:
        stream.truncate((LIMIT_MB + 1) << 20)  # holes take no room
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with viewer(folder) as running:
        yield running


@pytest.fixture
def pages(chromium: Browser, address: str) -> Iterator[tuple[Page, Page]]:
    """Two browsers at the masks of one case."""
    contexts = [chromium.new_context(), chromium.new_context()]
    opened = []
    for context in contexts:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(f"{address}/case?case=results/seen", wait_until="commit")
        page.get_by_role("tab", name="Structures").click()
        page.get_by_text("Corrected mask", exact=True).click()
        page.locator("[data-testid=stFileUploader]").wait_for()
        opened.append(page)
    yield opened[0], opened[1]
    for context in contexts:
        context.close()


def _send(page: Page, path: Path) -> None:
    page.locator("input[type=file]").set_input_files(path)


def _status(address: str, method: str, headers: dict[str, str]) -> int:
    """Of a request whose body never comes: the server must decide by what it was told."""
    where = urlsplit(address)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)
    connection.putrequest(method, where.path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    pages: tuple[Page, Page], folder: Path
) -> None:
    sent: list[str] = []
    pages[0].on("request", lambda one: sent.append(one.method))
    _send(pages[0], folder / "large.nii.gz")
    pages[0].get_by_text(f"{LIMIT_MB}.0MB or smaller").wait_for()
    assert "PUT" not in sent


def test_what_is_no_mask_is_refused_in_words(pages: tuple[Page, Page], folder: Path) -> None:
    _send(pages[0], folder / "no-mask.nii.gz")
    pages[0].get_by_role("button", name="Use this mask").click()
    pages[0].get_by_text("expected a NIfTI-1 or -2 file").wait_for()
    assert "Traceback" not in pages[0].content()


def test_a_session_sees_its_own_uploads_only(
    pages: tuple[Page, Page], folder: Path, address: str
) -> None:
    mine, other = pages
    with mine.expect_request(lambda one: one.method == "PUT") as asked:
        _send(mine, folder / "mine.nii.gz")
    place = asked.value.url
    mine.get_by_role("button", name="Use this mask").wait_for()
    other.reload()
    other.get_by_role("tab", name="Structures").click()
    other.get_by_text("Corrected mask", exact=True).click()
    other.locator("[data-testid=stFileUploader]").wait_for()
    assert other.get_by_text("mine.nii.gz").count() == 0
    assert other.get_by_role("button", name="Use this mask").count() == 0
    for page in (other, mine):  # not even to who knows its address: the viewer's page answers
        answer = page.request.get(place)
        assert answer.headers["content-type"].startswith("text/html")
        assert b'<div id="root">' in answer.body()
    xsrf = {one["name"]: one["value"] for one in other.context.cookies(address)}["_streamlit_xsrf"]
    own = {"X-Xsrftoken": xsrf, "Cookie": f"_streamlit_xsrf={xsrf}"}
    large = {"Content-Length": str((LIMIT_MB + 1) << 20)}
    assert _status(place, "PUT", large) == 403  # no page of this viewer sends that
    assert _status(place, "PUT", own | large) == 413
    gone = place.replace(urlsplit(place).path.split("/")[-2], "0" * 36)
    assert _status(gone, "PUT", own | {"Content-Length": "0"}) == 400  # nobody's session
