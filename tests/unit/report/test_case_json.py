"""case.json has the fields of the contract and is strict JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from medmtl.core.flags import Flag
from medmtl.core.geometry import Geometry
from medmtl.core.prediction import (
    FindingResult,
    Measurement,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.report.case_json import as_json_bytes, case_record


def _record() -> dict[str, Any]:
    grid = Geometry.from_parts(shape=(4, 3, 2), spacing_mm=(0.5, 0.5, 8))
    volume = Volume(np.zeros(grid.shape), grid, id="ed", series_uid="1.2.3", path="a/b")
    prediction = Prediction(
        ModelIdentity("m", "1.0", "ab"),
        (VolumePrediction(volume, np.zeros(grid.shape, np.uint8)),),
        (SegmentResult("ed", 1, "liver", 0.0, 0, None),),
        (Measurement("ef", None, "%", "ed:lv"), Measurement("ratio", float("nan"), "1", "ed")),
        (FindingResult("f", np.float32(0.25), 0.5, np.bool_(False), True,  # type: ignore[arg-type]
                       cam_energy_in_segments={"liver": float("nan")}, measurements=("ef",)),),
        (Flag("empty-organ", "warning", "liver is empty"),),
        {"network": 1.0},
        notice="Research use only.",
    )  # fmt: skip
    study = Study("c0ffee", "dicom", "1.2", ())
    return case_record(
        study, prediction, cam_files={"f": {"ed": "ed/cam_f.nii.gz"}},
        files={"b": 2, "a": 1}, resume={"model_key": "k"}, timings_s={"network": 1.23456},
    )  # fmt: skip


def test_it_holds_what_the_contract_names() -> None:
    record = json.loads(as_json_bytes(_record()))
    assert record["schema_version"] == 1
    assert record["status"] == "done"
    assert record["notice"] == "Research use only."
    assert record["model"] == {"name": "m", "version": "1.0", "sha256": "ab"}
    assert record["source"] == {
        "kind": "dicom",
        "study_uid": "1.2",
        "volumes": [
            {
                "id": "ed", "series_uid": "1.2.3", "path": "a/b", "shape_ijk": [4, 3, 2],
                "spacing_mm": [0.5, 0.5, 8.0], "axis_code": "LPS",
            }
        ],
    }  # fmt: skip
    assert record["segments"][0] == {
        "volume": "ed", "label": 1, "name": "liver", "volume_ml": 0.0, "voxels": 0,
        "mean_intensity": None,
    }  # fmt: skip
    assert record["measurements"][0] == {"name": "ef", "value": None, "unit": "%", "from": "ed:lv"}
    finding = record["findings"][0]
    assert {k: finding[k] for k in ("name", "probability", "threshold", "decision")} == {
        "name": "f", "probability": 0.25, "threshold": 0.5, "decision": False,
    }  # fmt: skip
    assert finding["calibrated"] is True
    assert finding["cam"] == {"ed": "ed/cam_f.nii.gz"}
    assert finding["evidence"]["measurements"] == ["ef"]
    assert record["quality"]["flags"] == [
        {"code": "empty-organ", "severity": "warning", "message": "liver is empty"}
    ]
    assert record["timings_s"] == {"network": 1.235}
    assert list(record["files"]) == ["a", "b"]


def test_nan_never_appears_unknown_is_null() -> None:
    text = as_json_bytes(_record()).decode()
    assert "NaN" not in text
    record = json.loads(text)
    assert record["measurements"][1]["value"] is None
    assert record["findings"][0]["evidence"]["cam_energy_in_segments"] == {"liver": None}


def test_numpy_scalars_nan_and_infinity_inside_lists_become_plain_json() -> None:
    content = {"a": [np.float32("nan"), float("inf"), np.int16(3)], "b": {"c": np.bool_(True)}}
    assert json.loads(as_json_bytes(content)) == {"a": [None, None, 3], "b": {"c": True}}
