"""run.json says with what the results were made, and not where or for whom."""

from __future__ import annotations

import json
import platform
from typing import Any

import pytest

from medmtl.core.prediction import ModelIdentity
from medmtl.report.case_json import as_json_bytes
from medmtl.report.run_record import run_record


def test_it_names_model_device_settings_versions_and_counts() -> None:
    record = run_record(
        ModelIdentity("m", "2", "ab"),
        settings={"device": "cpu", "backend": "torch", "cam": "all"},
        formats=["json"],
        counts={"cases": 3},
        this_run={"wall_s": 1.0},
    )
    record = json.loads(as_json_bytes(record))
    assert record["model"]["sha256"] == "ab"
    assert (record["device"], record["backend"]) == ("cpu", "torch")
    assert record["counts"] == {"cases": 3}
    assert record["versions"]["numpy"]
    assert platform.node() not in json.dumps(record)


@pytest.mark.parametrize(
    ("backends", "stated"),
    [
        ({"heart": "torch", "torso": "torch"}, "torch"),
        ({"heart": "torch", "torso": "openvino"}, {"heart": "torch", "torso": "openvino"}),
    ],
)
def test_of_several_models_device_and_backend_are_stated_too(
    backends: dict[str, str], stated: Any
) -> None:
    settings = {name: {"device": "cpu", "backend": one} for name, one in backends.items()}
    record = run_record(
        ModelIdentity("auto", "1", "ab"), settings=settings, formats=[], counts={}, this_run={}
    )
    assert record["device"] == "cpu"
    assert record["backend"] == stated
