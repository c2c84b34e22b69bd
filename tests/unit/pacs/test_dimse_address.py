"""Application entities as a user names them."""

from __future__ import annotations

import pytest

from medmtl.core.errors import ConfigError
from medmtl.pacs.dimse_address import (
    DimseListener,
    DimsePeer,
    is_dimse_address,
    parse_listener,
    parse_peer,
)


def test_an_archive() -> None:
    assert parse_peer("dimse://PACS@host:104") == DimsePeer("PACS", "host", 104, "MEDMTL", False)
    peer = parse_peer("dimses://Main%20PACS@10.0.0.7:2762?calling=AI%201")
    assert peer == DimsePeer("Main PACS", "10.0.0.7", 2762, "AI 1", True)
    assert parse_peer("dimse://PACS@[::1]:104").host == "::1"


def test_a_listener_is_this_machine_alone_unless_told_otherwise() -> None:
    assert parse_listener("dimse://:11112") == DimseListener("MEDMTL", "127.0.0.1", 11112)
    assert parse_listener("dimse://AI@:11112") == parse_listener("dimse://:11112?aet=AI")
    full = parse_listener("dimses://0.0.0.0:2762?aet=AI&from=A&from=B&max_mb=5")
    assert full == DimseListener("AI", "0.0.0.0", 2762, ("A", "B"), 5_000_000, True)  # noqa: S104 - what a user may ask for
    assert [
        parse_listener(f"dimse://{host}:1").is_local for host in ("", "localhost", "[::1]")
    ] == [True] * 3
    assert not full.is_local


@pytest.mark.parametrize(
    "text",
    [
        "dimse://PACS@host", "dimse://host:104", "dimse://PACS@:104", "dimse://PACS@host:x",
        "dimse://PACS:secret@host:104", "dimse://PACS@host:104/path", "dimse://PACS@host:104#x",
        "dimse://PACS@host:104?calling=A&calling=B", "dimse://PACS@host:104?study=1",
        "dimse://SEVENTEENLETTERSX@host:104", "dimse://A%5CB@host:104", "dimse://%20A@host:104",
        "dimse://PACS@host:104?calling=",
    ],
)  # fmt: skip
def test_what_is_no_archive_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        parse_peer(text)
    assert "host" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "query", ["max_mb=0", "max_mb=-1", "max_mb=x", "aet=A&aet=B", "calling=A", "from=A%5CB"]
)
def test_what_is_no_listener_is_refused(query: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        parse_listener(f"dimse://:11112?{query}")


def test_which_addresses_are_dimse() -> None:
    assert is_dimse_address("dimse://:1")
    assert is_dimse_address("DIMSES://:1")
    assert not is_dimse_address("dimse")
    assert not is_dimse_address("https://host/dimse://")
