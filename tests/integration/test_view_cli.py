"""`medmtl view` as a user starts it: a real server, its refusals, its end."""

from __future__ import annotations

import getpass
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import pipelines.view as command
from app.settings import Settings
from tests.app.results import case_record, finding, write_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEDMTL = (sys.executable, "-m", "medmtl", "view")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - it is refused
LOGIN = """
[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "secret"
client_id = "medmtl"
client_secret = "secret"
"""


def _refused(*arguments: str) -> str:
    done = subprocess.run(
        [*MEDMTL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    return " ".join(done.stderr.split())


@contextmanager
def _running(
    *arguments: str, ended_by: signal.Signals = signal.SIGINT
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command and the address that it printed."""
    with subprocess.Popen([*MEDMTL, *arguments], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        try:
            found = re.match(r"Viewer: (\S+)", program.stdout.readline())
            assert found is not None
            yield program, found[1]
        finally:
            program.send_signal(ended_by)
            try:
                program.wait(timeout=30)
            except subprocess.TimeoutExpired:
                program.kill()  # or leaving the block would wait for ever
                raise


@pytest.mark.parametrize(("given", "shown"), [(" one ", "one"), (" ", getpass.getuser())])
def test_reader_and_blind_reading_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, shown: str
) -> None:
    started: list[dict[str, Any]] = []

    def serve(settings: dict[str, Any]) -> bool:
        started.append(settings)
        return True

    monkeypatch.setattr(command, "_serve", serve)
    command.view(tmp_path, reviewer=given, blind=True)
    assert (started[0]["reviewer"], started[0]["is_blind"]) == (shown, True)
    assert Settings.from_json(json.dumps(started[0])).is_blind


@pytest.mark.slow
def test_the_address_answers_and_a_second_viewer_takes_another_port(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a", finding("nodule", 0.9)))
    with (
        _running(str(tmp_path), ended_by=signal.SIGTERM) as (program, address),
        _running(str(tmp_path)) as (_, other),
    ):
        assert address.startswith("http://127.0.0.1:")
        assert other != address
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
            assert answer.status == 200
        assert program.poll() is None
    with pytest.raises(OSError, match=r"refused|Refused"):
        urllib.request.urlopen(address, timeout=5)  # noqa: S310 - the same


def test_a_page_that_is_open_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    with _running(str(tmp_path)) as (program, address):
        host, port = address.removeprefix("http://").split(":")
        request = f"GET /_stcore/health HTTP/1.1\r\nHost: {host}\r\n"
        with socket.create_connection((host, int(port)), timeout=30) as page:
            page.sendall(request.encode())  # never finished: the server waits for the rest
            program.send_signal(signal.SIGINT)
            assert program.wait(timeout=30) == 0


def test_a_viewer_in_the_background_of_a_shell_ends_at_ctrl_c(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a shell does to such a program
    try:
        with _running(str(tmp_path)) as (program, _):
            program.send_signal(signal.SIGINT)
            assert program.wait(timeout=30) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_two_that_start_at_once_take_two_ports(tmp_path: Path) -> None:
    write_results(tmp_path, case_record("a", finding("nodule", 0.9)))
    programs = [
        subprocess.Popen([*MEDMTL, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        said = [program.stdout.readline() for program in programs if program.stdout]
    finally:
        for program in programs:
            program.send_signal(signal.SIGINT)
            program.communicate(timeout=60)
    assert len({re.match(r"Viewer: (\S+)", line)[1] for line in said}) == 2  # type: ignore[index] # a line without an address fails here


def test_the_server_listens_on_this_machine_only(tmp_path: Path) -> None:
    with _running(str(tmp_path)) as (_, address):
        port = int(address.rsplit(":", 1)[1])
        connections = socket.getaddrinfo(socket.gethostname(), port, type=socket.SOCK_STREAM)
        outside = {entry[4][0] for entry in connections} - {"127.0.0.1", "::1"}
        for host in outside:
            with pytest.raises(OSError):  # noqa: PT011 - refused, or no route
                socket.create_connection((str(host), port), timeout=2).close()


def test_beyond_this_machine_a_login_is_demanded(tmp_path: Path) -> None:
    said = _refused(str(tmp_path), "--host", EVERYWHERE)
    assert "open to everybody" in said
    assert "--auth" in said


def test_a_login_that_lacks_something_is_refused_without_its_secrets(tmp_path: Path) -> None:
    path = tmp_path / "auth.toml"
    path.write_text(LOGIN, encoding="utf-8")
    said = _refused(str(tmp_path), "--host", EVERYWHERE, "--auth", str(path))
    assert "lacks server_metadata_url" in said
    assert "secret" not in said.replace("client_secret", "").replace("cookie_secret", "")


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} cannot be opened" in _refused(str(tmp_path), "--port", str(port))


def test_a_port_that_cannot_be_is_said(tmp_path: Path) -> None:
    assert "65535" in _refused(str(tmp_path), "--port", "99999")


@pytest.mark.parametrize("path", ["a b", "a//b", "../up", "https://host/viewer", "a?b"])
def test_what_is_no_base_path_is_refused(tmp_path: Path, path: str) -> None:
    assert "such as radiology/viewer" in _refused(str(tmp_path), "--base-url-path", path)


@pytest.mark.parametrize("arguments", [["missing"], [".", "--images", "missing"]])
def test_a_folder_that_is_not_there_is_said(arguments: list[str]) -> None:
    assert "'missing': found none" in _refused(*arguments)
