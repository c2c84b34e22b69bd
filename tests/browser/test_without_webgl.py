"""A browser without WebGL2: the server draws the same scene, the same way round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import LESION_LPS
from tests.browser.driver import NO_GL, ViewerPage, browser
from tests.browser.test_viewer import ORANGE, go_to, middle, share_of, tinted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def viewer(chromium: Browser, address: str) -> Iterator[ViewerPage]:
    assert chromium.is_connected()  # the one of the other tests; this one is a second
    with browser(*NO_GL) as without_webgl:
        yield ViewerPage.open(without_webgl, address)


def test_the_server_draws(viewer: ViewerPage) -> None:
    assert viewer.page.locator(".medmtl-viewer").get_attribute("data-renderer") == "server"


def test_mask_is_at_the_same_place_as_with_webgl(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    viewer.page.wait_for_timeout(1000)
    place = middle(tinted(viewer.picture(), ORANGE))
    assert place == pytest.approx(share_of(viewer, *LESION_LPS[:2]), abs=0.01)


def test_value_under_the_cursor_comes_from_the_server(viewer: ViewerPage) -> None:
    go_to(viewer, LESION_LPS)
    viewer.page.mouse.move(*viewer.at(*share_of(viewer, *LESION_LPS[:2])))
    viewer.page.wait_for_timeout(1000)
    assert "100 HU" in viewer.status()
    assert "lesion" in viewer.status()


def test_three_d_is_not_offered(viewer: ViewerPage) -> None:
    assert viewer.page.locator('.bar button[title^="3D"]').is_disabled()
