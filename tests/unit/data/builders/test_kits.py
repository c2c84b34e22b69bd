"""The layout of KiTS 2023."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.kits import build_kits_manifest
from medmtl.data.builders.table import build_checked
from tests.miniatures import image_values, write_image, write_mask


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "case_id": f"case_{number:05d}", "gender": "male", "bmi": 29.47, "age_at_nephrectomy": 49,
        "malignant": True, "tumor_histologic_subtype": "clear_cell_rcc", "tumor_isup_grade": None,
        **changes,
    }  # fmt: skip


def copy(root: Path, count: int = 6) -> Path:
    for number in range(count):
        folder = root / "dataset" / f"case_{number:05d}"
        write_image(folder / "imaging.nii.gz", image_values(number))
        write_mask(folder / "segmentation.nii.gz", 1, 2, 3)
    entries = [entry(number, malignant=number != 2) for number in range(count)]
    (root / "dataset" / "kits23.json").write_text(json.dumps(entries))
    return root


@pytest.mark.parametrize("inside", ["", "dataset"])
def test_the_repository_or_its_dataset_folder(tmp_path: Path, inside: str) -> None:
    built = build_checked("kits", DataCopy.at(copy(tmp_path) / inside))
    assert built.is_whole
    manifest = built.manifest
    assert [case.findings["malignant_kidney_tumor"] for case in manifest.cases] == [
        True, True, False, True, True, True,
    ]  # fmt: skip
    assert manifest.cases[0].attributes == {"histologic_subtype": "clear_cell_rcc", "bmi": "29.47"}
    assert manifest.cases[0].covariates.age_years == 49


def test_what_is_missing_is_named_and_unknown(tmp_path: Path) -> None:
    root = copy(tmp_path) / "dataset"
    (root / "case_00001" / "imaging.nii.gz").unlink()
    entries = [entry(0, malignant=None), entry(2), entry(99)]
    (root / "kits23.json").write_text(json.dumps(entries))
    manifest, problems = build_kits_manifest(DataCopy.at(root))
    assert "case_00001: no imaging.nii.gz; left out" in problems
    assert "case_00099: in kits23.json, but no such folder" in problems
    assert [case.findings["malignant_kidney_tumor"] for case in manifest.cases] == [
        None, True, None, None, None,
    ]  # fmt: skip


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"case_00000/imaging\.nii\.gz"):
        build_kits_manifest(DataCopy.at(tmp_path))
