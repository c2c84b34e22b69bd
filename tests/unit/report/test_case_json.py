"""case.json has the fields of the contract and is strict JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from medmtl.core.flags import Flag
from medmtl.core.geometry import Geometry
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import (
    FindingResult,
    FindingUncertainty,
    Measurement,
    ModelIdentity,
    Prediction,
    PredictionSet,
    SegmentResult,
    SegmentUncertainty,
    UncertaintySource,
    VolumePrediction,
)
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.report.case_json import as_json_bytes, case_record


def _record() -> dict[str, Any]:
    grid = Geometry.from_parts(shape=(4, 3, 2), spacing_mm=(0.5, 0.5, 8))
    volume = Volume(
        np.zeros(grid.shape),
        grid,
        id="ed",
        series_uid="1.2.3",
        path="a/b",
        modality="MR",
        frame_of_reference_uid="1.2.9",
    )
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
        schema=LabelSchema(
            (SegmentSpec(1, "liver", Code("10200004", "Liver")),), (FindingSpec("f"),)
        ),
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
                "id": "ed", "series_uid": "1.2.3", "modality": "MR",
                "frame_of_reference_uid": "1.2.9", "path": "a/b", "shape_ijk": [4, 3, 2],
                "spacing_mm": [0.5, 0.5, 8.0], "axis_code": "LPS",
            }
        ],
    }  # fmt: skip
    assert record["segments"][0] == {
        "volume": "ed", "label": 1, "name": "liver", "volume_ml": 0.0, "voxels": 0,
        "mean_intensity": None,
        "code": {"value": "10200004", "meaning": "Liver", "scheme": "SCT"},
    }  # fmt: skip
    assert record["measurements"][0] == {"name": "ef", "value": None, "unit": "%", "from": "ed:lv"}
    finding = record["findings"][0]
    assert {k: finding[k] for k in ("name", "probability", "threshold", "decision")} == {
        "name": "f", "probability": 0.25, "threshold": 0.5, "decision": False,
    }  # fmt: skip
    assert finding["calibrated"] is True
    assert "code" not in finding
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


def test_sets_and_spread_are_added_only_where_they_exist() -> None:
    grid = Geometry.from_parts(shape=(2, 2, 2), spacing_mm=(1, 1, 1))
    volume = Volume(np.zeros(grid.shape), grid, id="ct")
    plain = Prediction(
        ModelIdentity("m", "1", "ab"),
        (VolumePrediction(volume, np.zeros(grid.shape, np.uint8)),),
        (SegmentResult("ct", 1, "lung", 1.0, 1, 0.0),),
        (),
        (FindingResult("edema", 0.5, 0.5, True, True),),
        (),
        {},
    )
    asked = replace(
        plain,
        segments=(replace(plain.segments[0], uncertainty=SegmentUncertainty(0.9, 0.8, 1.5)),),
        findings=(
            replace(
                plain.findings[0],
                prediction_set=PredictionSet(("present", "absent"), 0.9),
                uncertainty=FindingUncertainty(0.5, 0.1, 0.4, 0.6, 0.75),
            ),
        ),
        diagnosis_set=PredictionSet(("edema",), 0.9),
        uncertainty=UncertaintySource("tta", ("answer", "turned")),
    )
    before, after = (
        case_record(
            Study("c", "nifti", "", ()), prediction, cam_files={}, files={}, resume={},
            timings_s={},
        )
        for prediction in (plain, asked)
    )  # fmt: skip
    added = {"diagnosis_set", "uncertainty"}
    assert set(after) - set(before) == added
    assert after["diagnosis_set"] == {"classes": ["edema"], "coverage": 0.9, "abstains": False}
    assert after["uncertainty"] == {"method": "tta", "members": ["answer", "turned"]}
    (finding,) = after["findings"]
    assert finding["prediction_set"] == ["present", "absent"]
    assert finding["coverage"] == 0.9
    assert finding["abstains"] is True
    assert finding["uncertainty"] == {
        "mean": 0.5, "std": 0.1, "low": 0.4, "high": 0.6, "agreement": 0.75,
    }  # fmt: skip
    assert after["segments"][0]["uncertainty"] == {
        "pairwise_dice": 0.9, "min_pairwise_dice": 0.8, "volume_ml_std": 1.5,
    }  # fmt: skip
    for key in set(before) - {"segments", "findings"}:
        assert after[key] == before[key]
    assert before["findings"][0].items() <= finding.items()
    json.loads(as_json_bytes(after))
