"""`medmtl scan`: the list of what would be read, and the same refusals as `convert`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.traps.clinic import good_clinic, mixed_clinic
from tests.traps.command_line import leaks_in, medmtl
from tests.traps.series import make_series


def scanned(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def keys(records: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(record["source"], record["code"]) for record in records}


def test_scan_and_convert_say_the_same(tmp_path: Path) -> None:
    """What the headers can tell is told by both; `convert` adds what the pixels tell."""
    clinic = mixed_clinic(tmp_path / "in")
    scan = medmtl("scan", "in", "--json", "scan.json", cwd=tmp_path)
    convert = medmtl("convert", "in", "-o", "out", cwd=tmp_path)

    report, done = scanned(tmp_path / "scan.json"), scanned(tmp_path / "out" / "convert.json")

    assert scan.status in {0, 1}, scan.stderr
    assert convert.status == 1
    assert keys(report["skipped"]) == keys(done["skipped"])
    assert {source for source, _ in keys(report["skipped"])} == set(clinic.skipped)
    assert keys(report["refusals"]) <= keys(done["refusals"])
    assert len(report["refusals"]) >= 1
    fields = {"source", "stage", "code", "found", "expected", "advice"}
    assert all(set(refusal) >= fields for refusal in report["refusals"])


def test_scan_lists_studies_and_series(tmp_path: Path) -> None:
    good_clinic(tmp_path / "in")
    outcome = medmtl("scan", "in", "--json", "scan.json", cwd=tmp_path)
    assert outcome.status == 0, outcome.stderr
    text = (tmp_path / "scan.json").read_text()
    assert "CT" in text
    assert "MR" in text
    dataset = make_series(series="ct").datasets[0]
    assert str(dataset.SeriesInstanceUID) in text
    assert str(dataset.StudyInstanceUID) in text


def test_scan_without_json_prints_a_list(tmp_path: Path) -> None:
    mixed_clinic(tmp_path / "in")
    outcome = medmtl("scan", "in", cwd=tmp_path)
    assert "CT" in outcome.stdout + outcome.stderr
    assert leaks_in(outcome) == []
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_scan_names_nobody(tmp_path: Path) -> None:
    mixed_clinic(tmp_path / "in")
    outcome = medmtl("scan", "in", "--json", "out/scan.json", "--json-logs", cwd=tmp_path)
    assert outcome.status in {0, 1}, outcome.stderr
    assert leaks_in(outcome, tmp_path / "out") == []


def test_scan_of_nothing_is_status_2(tmp_path: Path) -> None:
    outcome = medmtl("scan", "nowhere", cwd=tmp_path)
    assert outcome.status == 2
    assert "Traceback" not in outcome.stderr
    assert "nowhere" in outcome.stderr
