"""The line that makes a first visit dark goes into pages, and into nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.serving.first_theme import DarkFirst
from app.serving.preload import preload_links

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
    title, end, rest = PAGE.partition("<head>")[2].partition("</head>")
    assert title in answer.text
    assert answer.text.endswith(preload_links().decode() + end + rest)
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_code_that_is_asked_for_ahead_is_there_and_not_asked_for_twice() -> None:
    static = Path(streamlit.__file__).parent / "static"
    page = (static / "index.html").read_text(encoding="utf-8")
    linked = re.findall(r'href="\./(static/[^"]+)"', preload_links().decode())
    assert any("DataFrame" in name for name in linked)
    assert all((static / name).is_file() for name in linked)
    assert len(set(linked)) == len(linked)
    assert not [name for name in linked if name in page]


def test_what_is_no_page_passes_as_it_is() -> None:
    assert _client().get("/data", headers={"accept": "*/*"}).text == "<head>"
    assert _client().get("/", headers={"accept": "*/*"}).text == PAGE
