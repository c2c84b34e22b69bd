"""Dark at the first visit, light by choice; Streamlit follows the system, and has no setting.

Its front end keeps the choice of the menu under `stActiveTheme-<path>-v2` in the browser's storage,
one for each address (Streamlit 1.67, static/js/utils). A line before its code carries the choice
over to every address, and says "Dark" where none was made. Where a later Streamlit has another key,
the system's preference holds again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.serving.preload import preload_links

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["DarkFirst"]

_SCRIPT = b"""<script>
(() => {
  const key = `stActiveTheme-${location.pathname}-v2`, kept = "medmtl-theme";
  try {
    localStorage.setItem(key, localStorage.getItem(kept) ?? '"Dark"');
    const set = Storage.prototype.setItem;
    Storage.prototype.setItem = function (name, value) {
      set.call(this, name, value);
      if (name.startsWith("stActiveTheme-")) set.call(this, kept, value);
    };
  } catch { /* a browser without storage follows the system */ }
})();
</script>"""
_LEFT_OUT = frozenset({b"accept-encoding", b"if-none-match", b"if-modified-since", b"range"})


class DarkFirst:
    """Puts the line into the page; everything else passes as it is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not _asks_for_page(scope):
            await self._app(scope, receive, send)
            return
        headers = [(name, value) for name, value in scope["headers"] if name not in _LEFT_OUT]
        page = _Page(send)
        await self._app({**scope, "headers": headers}, receive, page.send)


class _Page:
    """Holds a page back until it is whole."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = self._body.replace(b"<head>", b"<head>" + _SCRIPT, 1)
        body = body.replace(b"</head>", preload_links() + b"</head>", 1)
        headers = [pair for pair in self._start["headers"] if pair[0].lower() != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _asks_for_page(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET":
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
