"""What is new in an archive: one study that it cannot describe holds up no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmtl.pacs.address import PacsQuery
from medmtl.pacs.archive import Archive
from medmtl.pacs.arrivals import Arrivals
from medmtl.pacs.errors import PacsError
from medmtl.pacs.journal import Journal
from medmtl.pacs.retry import Retry
from tests.dicomweb_server import Answer, serve


def _json(*items: dict[str, str]) -> bytes:
    return json.dumps(
        [{tag: {"vr": "UI", "Value": [value]} for tag, value in item.items()} for item in items]
    ).encode()


STUDIES = Answer(body=_json({"0020000D": "1.2.1"}, {"0020000D": "1.2.2"}))
SERIES = Answer(body=_json({"0020000E": "1.2.2.1"}))
INSTANCES = Answer(body=_json({"0020000E": "1.2.2.1", "00080018": "1.2.2.1.1"}))
END = Answer()


@pytest.mark.parametrize("bad", [Answer(500), Answer(400), Answer(body=b"<html>")])
def test_a_study_that_cannot_be_described_holds_up_no_other(tmp_path: Path, bad: Answer) -> None:
    plan = (STUDIES, END, bad, SERIES, END, INSTANCES, END)
    with serve(*plan) as server:
        archive = Archive.connect(server.url, retry=Retry(attempts=1))
        journal = Journal.open(tmp_path / "watch.jsonl")
        failures: list[PacsError] = []
        arrivals = Arrivals(archive, PacsQuery(), journal, settle_s=0)
        (arrival,) = arrivals.settled(now_s=1.0, failures=failures)
    assert [ref.sop_uid for ref in arrival.images] == ["1.2.2.1.1"]
    assert len(failures) == 1
    assert "1.2.1" not in str(failures[0])
