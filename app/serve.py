"""The server process: Streamlit under the settings that protect the reader."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import streamlit as st
from starlette.middleware import Middleware

from app.serving.after_login import BackToLink
from app.serving.first_theme import DarkFirst
from app.serving.gateway import gateway
from app.serving.routes import viewer_routes
from app.serving.whole_pages import keep_pages_whole

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["serve"]

_MAIN = Path(__file__).with_name("main.py")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


def serve(settings: Settings) -> None:
    """Serve until the process is told to end."""
    for page in ("worklist", "case"):
        import_module(f"app.screens.{page}")  # or the first reader waits for them
    keep_pages_whole()
    base = settings.base_url_path
    routes = viewer_routes(gateway(), base_url_path=base)
    app = st.App(
        _MAIN.resolve(),
        secrets=_secrets(settings.auth),
        routes=routes,
        middleware=[Middleware(DarkFirst), Middleware(BackToLink, base_url_path=base)],
    )
    app.run(config=_config(settings))


def _config(settings: Settings) -> dict[str, Any]:
    """What must hold whatever configuration a user has elsewhere."""
    return {
        "server.address": settings.host,
        "server.port": settings.port,
        "server.baseUrlPath": settings.base_url_path,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": settings.max_upload_mb,
        "server.allowedHosts": _hosts(settings),
        "server.enableCORS": True,
        "server.corsAllowedOrigins": [],
        "server.enableXsrfProtection": True,
        "logger.level": "warning",
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
        "client.toolbarMode": "viewer",
    }


def _hosts(settings: Settings) -> list[str]:
    """Names under which the viewer answers: a foreign one that leads here (DNS rebinding) is none.

    With a login, pages are reached under the name that the login service sends the browser back to.
    """
    login = _secrets(settings.auth)
    public = urlsplit(login["auth"]["redirect_uri"]).hostname if login else None
    return list(dict.fromkeys((*_THIS_MACHINE, settings.host, *([public] if public else ()))))


def _secrets(auth: Path | None) -> dict[str, Any] | None:
    """The login, for Streamlit alone: it is on no command line and in no environment."""
    if auth is None:
        return None
    login = tomllib.loads(auth.read_text(encoding="utf-8"))["auth"]
    return {"auth": {key: value for key, value in login.items() if key != "roles_claim"}}
