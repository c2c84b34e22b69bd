"""The wanted page over a login: kept in a cookie of ours, and never on another host."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.serving.after_login import BackToLink


@pytest.fixture(params=["", "radiology/viewer"])
def base(request: pytest.FixtureRequest) -> str:
    """The path before all addresses, with its slash."""
    return f"/{request.param}" if request.param else ""


@pytest.fixture
def client(base: str) -> TestClient:
    async def leave(_: object) -> RedirectResponse:
        return RedirectResponse("https://login.example/authorize", 302)

    async def back(_: object) -> RedirectResponse:
        return RedirectResponse(f"{base}/", 302)

    app = Starlette(
        routes=[Route(f"{base}/auth/login", leave), Route(f"{base}/oauth2callback", back)],
        middleware=[Middleware(BackToLink, base_url_path=base.strip("/"))],
    )
    return TestClient(app, f"http://viewer{base}", follow_redirects=False)


def _back(client: TestClient) -> str:
    """The page that opens, without the base."""
    location = str(client.get("/oauth2callback?code=1&state=2").headers["location"])
    base = client.base_url.path.rstrip("/")
    assert location.startswith(f"{base}/")
    return location.removeprefix(base)


@pytest.mark.parametrize("page", ["/case?case=results%2Fa&at=1.0,-2.0,3.0", "/experiments", "/"])
def test_the_page_that_was_asked_for_opens_once(client: TestClient, base: str, page: str) -> None:
    referrer = f"http://viewer{base}{page}"
    left = client.get("/auth/login?provider=x", headers={"Referer": referrer})
    assert left.headers["location"] == "https://login.example/authorize"
    assert "HttpOnly" in left.headers["set-cookie"]
    assert _back(client) == page
    assert _back(client) == "/"


@pytest.mark.parametrize(
    "referrer",
    ["", "http://viewer", "http://evil//evil.example", "http://evil/\\\\evil.example", "http://[",
     "http://viewer/a/../b", "http://viewer/case?" + "x" * 3000],
)  # fmt: skip
def test_what_is_no_page_of_ours_is_not_kept(client: TestClient, referrer: str) -> None:
    client.get("/auth/login", headers={"Referer": referrer})
    assert _back(client) == "/"


@pytest.mark.parametrize(
    "cookie", ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2Fcase%0d%0aSet-Cookie:x", "%"]
)
def test_a_cookie_that_somebody_made_leads_nowhere_else(client: TestClient, cookie: str) -> None:
    client.cookies.set("medmtl_wanted", cookie)
    assert _back(client) == "/"
