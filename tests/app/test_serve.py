"""The settings of the server that protect the reader, against Streamlit's own check of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from streamlit import config
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from app.serve import _config
from app.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

LOGIN = """
[auth]
redirect_uri = "https://viewer.hospital.example/oauth2callback"
cookie_secret = "x"
client_id = "medmtl"
client_secret = "x"
server_metadata_url = "https://login.hospital.example/x"
"""


@pytest.mark.parametrize(
    ("has_login", "host", "is_served"),
    [
        (False, "127.0.0.1:8501", True),
        (False, "localhost:8501", True),
        (False, "[::1]:8501", True),
        (False, "rebound.example:8501", False),
        (True, "viewer.hospital.example", True),
        (True, "127.0.0.1:8501", True),
        (True, "rebound.example", False),
    ],
)
def test_only_a_known_name_opens_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_login: bool, host: str, is_served: bool
) -> None:
    auth = tmp_path / "auth.toml"
    auth.write_text(LOGIN, encoding="utf-8")
    settings = Settings(
        folder=tmp_path,
        results=tmp_path,
        host="0.0.0.0" if has_login else "127.0.0.1",  # noqa: S104 - nothing is opened
        auth=auth if has_login else None,
    )
    monkeypatch.setattr(config, "get_option", _config(settings).get)
    assert is_host_allowed(host) == is_served
