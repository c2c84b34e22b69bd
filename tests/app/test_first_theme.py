"""The line that makes a first visit dark goes into pages, and into nothing else."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.serving.first_theme import DarkFirst

PAGE = "<!doctype html><html><head><title>x</title></head><body>" + "y" * 5000 + "</body></html>"


async def _page(_: object) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def _data(_: object) -> PlainTextResponse:
    return PlainTextResponse("<head>")


def _client() -> TestClient:
    middleware = [Middleware(DarkFirst), Middleware(GZipMiddleware)]
    return TestClient(
        Starlette(routes=[Route("/", _page), Route("/data", _data)], middleware=middleware)
    )


def test_a_page_gets_the_line_before_its_own_code() -> None:
    answer = _client().get("/", headers={"accept": "text/html,*/*"})
    assert answer.text.startswith("<!doctype html><html><head><script>")
    assert answer.text.count("<script>") == 1
    assert answer.text.endswith(PAGE.partition("<head>")[2])
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_what_is_no_page_passes_as_it_is() -> None:
    assert _client().get("/data", headers={"accept": "*/*"}).text == "<head>"
    assert _client().get("/", headers={"accept": "*/*"}).text == PAGE
