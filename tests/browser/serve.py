"""`python -m tests.browser.serve FOLDER PORT [BASE]`: the page of the browser tests."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

from app.serving.gateway import gateway
from app.serving.routes import viewer_routes
from app.serving.whole_pages import keep_pages_whole


def main() -> None:
    """Serve one stage folder."""
    keep_pages_whole()
    port, base = int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    page = Path(__file__).with_name("page.py")
    app = st.App(page, routes=viewer_routes(gateway(), base_url_path=base))
    app.run(
        config={
            "server.address": "127.0.0.1",
            "server.port": port,
            "server.baseUrlPath": base,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "viewer",
            "logger.level": "warning",
        }
    )


if __name__ == "__main__":
    main()
