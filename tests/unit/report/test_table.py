"""cases.csv and failures.csv: stable, readable by any spreadsheet, harmless in one."""

from __future__ import annotations

import csv
import io
from typing import Any

from medmtl.core.study import Refusal
from medmtl.report.table import Failure, case_row, cases_csv, failures_csv


def _record(case_id: str, *, volumes: tuple[str, ...] = ("ed", "es")) -> dict[str, Any]:
    return {
        "case_id": case_id,
        "status": "done",
        "model": {"name": "m", "version": "1"},
        "source": {"volumes": [{"id": volume} for volume in volumes]},
        "segments": [
            {"volume": volume, "name": "lv", "volume_ml": 10.0 * (n + 1)}
            for n, volume in enumerate(volumes)
        ],
        "measurements": [{"name": "ef", "value": None}],
        "findings": [
            {"name": "dcm", "decision": True, "probability": 0.9},
            {"name": "hcm", "decision": False, "probability": 0.1},
            {"name": "rv", "decision": True, "probability": 0.6},
        ],
        "quality": {"flags": [{"code": "b"}, {"code": "a"}, {"code": "b"}]},
    }


def _read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_a_row_says_status_findings_volumes_and_flags() -> None:
    (row,) = _read(cases_csv([case_row(_record("x"))]))
    assert row["status"] == "done"
    assert row["findings"] == "dcm;rv"
    assert row["volumes"] == "ed;es"
    assert row["flags"] == "a;b"
    assert row["probability_hcm"] == "0.1"
    assert row["volume_ml_lv"] == "10.0;20.0"
    assert row["ef"] == ""


def test_with_one_volume_a_segment_column_is_a_number() -> None:
    (row,) = _read(cases_csv([case_row(_record("x", volumes=("image",)))]))
    assert float(row["volume_ml_lv"]) == 10.0


def test_the_order_of_rows_does_not_depend_on_the_order_of_work() -> None:
    rows = [case_row(_record(name)) for name in ("b", "c", "a")]
    assert cases_csv(rows) == cases_csv(rows[::-1])
    assert [row["case_id"] for row in _read(cases_csv(rows))] == ["a", "b", "c"]


def test_a_failed_case_has_a_row_without_numbers() -> None:
    rows = _read(cases_csv([case_row(_record("a")), {"case_id": "b", "status": "failed"}]))
    assert rows[1]["status"] == "failed"
    assert rows[1]["probability_dcm"] == ""


def test_a_name_that_a_spreadsheet_would_run_is_quoted() -> None:
    (row,) = _read(cases_csv([{"case_id": "=cmd|' /C calc'!A0", "status": "failed"}]))
    assert row["case_id"].startswith("'=")


def test_failures_say_what_stage_reason_and_advice_once_each() -> None:
    refusal = Refusal(
        "series 1a2b", "sort", "missing-slices", "a gap of 5 mm", "2.5 mm", "Export again."
    )
    failure = Failure.from_refusal(refusal, case_id="c1")
    content = failures_csv([failure, failure])
    assert content.decode().splitlines()[0].startswith("what,stage,reason,advice")
    (row,) = _read(content)
    assert row["what"] == "series 1a2b"
    assert row["stage"] == "sort"
    assert row["reason"] == "missing-slices: found a gap of 5 mm, expected 2.5 mm"
    assert row["advice"] == "Export again."
    assert row["case_id"] == "c1"


def test_prediction_sets_and_spread_have_columns_only_where_a_model_has_them() -> None:
    plain = case_row(_record("a"))
    assert not {"abstains", "diagnosis_set", "probability_std_dcm"} & set(plain)
    record = _record("b")
    for finding, abstains in zip(record["findings"], (True, False, True), strict=True):
        finding |= {"abstains": abstains, "uncertainty": {"std": 0.125}}
    record["diagnosis_set"] = {"classes": ["dcm", "none"]}
    row = case_row(record)
    assert row["abstains"] == "dcm;rv"
    assert row["diagnosis_set"] == "dcm;none"
    assert row["probability_std_hcm"] == 0.125
