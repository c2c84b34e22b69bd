"""The viewer behind a login: a real provider, real tokens, a real browser; roles decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tests.app.results import write_seen_case
from tests.browser.driver import CHROMIUM, free_port
from tests.browser.login_service import CLIENT_ID, CLIENT_SECRET, LoginService, login_service
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


@pytest.fixture(scope="module")
def service() -> Iterator[LoginService]:
    with login_service(free_port(), {"sub": "nobody"}) as running:
        yield running


@pytest.fixture(scope="module")
def address(service: LoginService, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer that asks this provider."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    write_seen_case(folder)
    port = free_port()
    (folder / "auth.toml").write_text(
        f"""
[auth]
redirect_uri = "http://127.0.0.1:{port}/oauth2callback"
cookie_secret = "{"s" * 40}"
client_id = "{CLIENT_ID}"
client_secret = "{CLIENT_SECRET}"
server_metadata_url = "{service.address}/.well-known/openid-configuration"
roles_claim = "realm_access.roles"
""",
        encoding="utf-8",
    )
    options = ("--port", str(port), "--auth", str(folder / "auth.toml"))
    with viewer(folder, *options) as running:
        yield running


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A browser in which nobody has logged in; closed, or its pictures would slow the next one."""
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def _log_in(page: Page, address: str, service: LoginService, **claims: Any) -> None:
    """Through the provider and back, then to the case."""
    service.claims = claims
    page.goto(address)
    with page.expect_response("**/oauth2callback**"), page.expect_response(f"{address}/"):
        page.get_by_role("button", name="Log in").click()  # there, back, and to the first page
    page.locator("[data-testid=stAppViewContainer]").wait_for()
    page.goto(f"{address}/case?case=results/seen", wait_until="commit")


def test_without_a_login_there_is_no_case(page: Page, address: str) -> None:
    page.goto(f"{address}/case?case=results/seen", wait_until="commit")
    page.get_by_role("button", name="Log in").wait_for()
    assert page.locator(".m-line, [data-testid=stDataFrame]").count() == 0


def test_a_viewer_looks_and_does_not_answer(
    page: Page, address: str, service: LoginService
) -> None:
    _log_in(page, address, service, sub="v", realm_access={"roles": ["viewer"]})
    page.get_by_text("You may look, not review.").wait_for()
    expect(page.locator(".m-line")).to_have_count(2, timeout=PATIENCE_MS)
    assert page.get_by_role("button", name="Agree Shortcut Y", exact=True).count() == 0


def test_a_reviewer_answers_under_the_name_of_the_login(
    page: Page, address: str, service: LoginService
) -> None:
    _log_in(page, address, service, sub="1", email="r@ward", realm_access={"roles": ["reviewer"]})
    page.get_by_role("button", name="Agree Shortcut Y", exact=True).click()
    page.get_by_text("1 of 2 answered").wait_for()
    page.get_by_role("tab", name="Review").click()
    page.get_by_role("cell", name="r@ward").wait_for()


def test_after_the_login_the_link_opens_that_was_asked_for(
    page: Page, address: str, service: LoginService
) -> None:
    service.claims = {"sub": "v", "realm_access": {"roles": ["viewer"]}}
    page.goto(f"{address}/case?case=results/seen&finding=effusion", wait_until="commit")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("You may look, not review.").wait_for()
    chosen = page.locator("[data-testid=stBaseButton-primary]", has_text="Effusion")
    chosen.wait_for()
    assert "/case?" in page.url
    assert "finding=effusion" in page.url


def test_a_login_without_a_role_opens_nothing(
    page: Page, address: str, service: LoginService
) -> None:
    _log_in(page, address, service, sub="x", roles=["admin"])
    page.get_by_text("names none of the roles").wait_for()
    assert page.locator(".m-line").count() == 0


def test_a_token_that_somebody_else_signed_opens_nothing(
    page: Page, address: str, service: LoginService
) -> None:
    service.published = type(service.key).generate_key(2048, {"kid": "1"})
    try:
        _log_in(page, address, service, sub="f", realm_access={"roles": ["admin"]})
        page.get_by_role("button", name="Log in").wait_for()
        assert page.locator(".m-line").count() == 0
    finally:
        service.published = None
