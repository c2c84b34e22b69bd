"""A bundle behind MLflow's interface answers as `medmtl predict` does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import nibabel as nib
import pandas
import pytest

from medmtl.core.errors import MedmtlError
from medmtl.inference.mlflow_loader import _load_pyfunc
from tests.threshold_batch import write_studies
from tests.tiny_bundle import TORSO_FINDINGS, torso_settings, write_tiny

if TYPE_CHECKING:
    from pathlib import Path


def test_paths_go_in_and_one_row_per_case_comes_out(tmp_path: Path) -> None:
    write_tiny(tmp_path / "bundle", torso_settings())
    write_studies(tmp_path / "two", 2)
    write_studies(tmp_path / "one", 1)
    (tmp_path / "one" / "case00.nii").rename(tmp_path / "one" / "other.nii")
    model = _load_pyfunc(str(tmp_path / "bundle"))
    table = pandas.DataFrame({"path": [str(tmp_path / "two"), str(tmp_path / "one")]})
    out = tmp_path / "out"
    answers = model.predict(table, {"out": str(out), "device": "cpu"})
    assert answers["input"].tolist() == [0, 0, 1]
    assert answers["status"].tolist() == ["done"] * 3
    for row in answers.to_dict("records"):
        case = json.loads((out / row["case_id"] / "case.json").read_text())
        for finding in case["findings"]:
            assert row[f"probability_{finding['name']}"] == finding["probability"]
            assert row[f"decision_{finding['name']}"] == finding["decision"]
        (mask,) = json.loads(row["masks"])
        assert nib.load(mask).shape == (20, 16, 6)
    assert {f"probability_{name}" for name in TORSO_FINDINGS} <= set(answers.columns)


def test_an_input_that_is_not_there_is_refused(tmp_path: Path) -> None:
    write_tiny(tmp_path / "bundle", torso_settings())
    model = _load_pyfunc(str(tmp_path / "bundle"))
    with pytest.raises(MedmtlError):
        model.predict(pandas.DataFrame({"path": [str(tmp_path / "no")]}), {"out": str(tmp_path)})
