"""Secrets are read from a file that nobody else may read, and are shown nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.pacs.credentials import Credentials, read_credentials


def _file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "pacs.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_user_and_password_or_token(tmp_path: Path) -> None:
    basic = read_credentials(_file(tmp_path, 'user = "me"\npassword = "planted"\n'))
    assert basic == Credentials("me", "planted")
    # RFC 7617 2: base64 of me:planted
    assert basic.header == "Basic bWU6cGxhbnRlZA=="
    assert read_credentials(_file(tmp_path, 'token = "planted"')).header == "Bearer planted"
    assert "planted" not in f"{basic} {basic!r}"


@pytest.mark.parametrize(
    "text",
    [
        'user = "me"',
        'password = "planted"',
        'token = "planted"\nuser = "me"\npassword = "planted"',
        'token = "planted"\nmore = "planted"',
        "token = 5",
        "planted",
        'token = "planted\\nX: y"',
        'user = "a:b"\npassword = "planted"',
        "",
    ],
)
def test_anything_else_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_credentials(_file(tmp_path, text))
    assert "planted" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such mode")
@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        read_credentials(_file(tmp_path, 'token = "planted"', mode))


def test_a_file_that_is_not_there_is_said_without_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_credentials(tmp_path / "no.toml")
    assert str(tmp_path) not in str(caught.value)
