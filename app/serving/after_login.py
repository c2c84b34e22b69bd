"""After a login the page opens that was asked for; Streamlit alone always opens the first one.

The way to the login service starts at the page that somebody wanted to see: the browser names it as
the referrer. A cookie of ten minutes keeps its path and query until the service sends the browser
back. Only a page of this viewer can be kept: never another host.
"""

from __future__ import annotations

import re
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BackToLink"]

_LEAVES, _RETURNS = "/auth/login", "/oauth2callback"  # Streamlit 1.67, starlette_auth_routes.py
_FIRST = "/"
_COOKIE = "medmtl_wanted"
_PAGE = r"/[a-z]*(?:\?[\x21-\x5b\x5d-\x7e]*)?"  # one of our pages; no space, no "\\"
_LONGEST = 2000
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


class BackToLink:
    """Keeps the wanted page over the login; everything else passes as it is.

    Args:
        app: What answers.
        base_url_path: Streamlit's `server.baseUrlPath`.
    """

    def __init__(self, app: ASGIApp, *, base_url_path: str = "") -> None:
        self._app = app
        base = f"/{base_url_path}" if base_url_path else ""
        self._leaves, self._returns, self._first = base + _LEAVES, base + _RETURNS, base + _FIRST
        self._pages = re.compile(re.escape(base) + _PAGE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path") if scope["type"] == "http" else None
        wanted = ""
        if path == self._leaves:
            wanted = _of_referrer(_header(scope, b"referer"))
        elif path == self._returns:
            wanted = _of_cookie(_header(scope, b"cookie"))
        if not self._is_ours(wanted):
            await self._app(scope, receive, send)
            return

        async def changed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                kept = path == self._leaves
                headers = _kept(headers, wanted) if kept else self._led_back(headers, wanted)
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, changed)

    def _is_ours(self, address: str) -> bool:
        return len(address) <= _LONGEST and self._pages.fullmatch(address) is not None

    def _led_back(
        self, headers: list[tuple[bytes, bytes]], wanted: str
    ) -> list[tuple[bytes, bytes]]:
        first = (b"location", self._first.encode())
        led = [(name, wanted.encode() if (name, value) == first else value)
               for name, value in headers]  # fmt: skip
        return [*led, (b"set-cookie", f"{_COOKIE}=; Max-Age=0; {_ATTRIBUTES}".encode())]


def _header(scope: Scope, wanted: bytes) -> str:
    found = (value for name, value in scope["headers"] if name == wanted)
    return next(found, b"").decode("latin-1")


def _of_referrer(referrer: str) -> str:
    try:
        parts = urlsplit(referrer)
    except ValueError:
        return ""
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path


def _of_cookie(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(_COOKIE)
    except CookieError:
        return ""
    return unquote(found.value) if found else ""


def _kept(headers: list[tuple[bytes, bytes]], wanted: str) -> list[tuple[bytes, bytes]]:
    cookie = f"{_COOKIE}={quote(wanted, safe='')}; Max-Age=600; {_ATTRIBUTES}"
    return [*headers, (b"set-cookie", cookie.encode())]
