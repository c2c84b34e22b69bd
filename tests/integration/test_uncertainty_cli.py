"""`medmtl predict --uncertainty` from the command line to case.json and cases.csv."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib

from tests.tiny_bundle import TORSO_FINDINGS, image, torso_settings, write_tiny


def test_the_spread_is_written_where_it_is_asked_for(tmp_path: Path) -> None:
    write_tiny(tmp_path / "bundle", torso_settings())
    volume = image()
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(volume.array, volume.geometry.affine_ras), tmp_path / "in/x.nii.gz")
    done = subprocess.run(
        [sys.executable, "-m", "medmtl", "predict", str(tmp_path / "in"), "-o",
         str(tmp_path / "out"), "--model", str(tmp_path / "bundle"), "--device", "cpu", "--cam",
         "none", "--formats", "json", "--uncertainty", "tta", "--quiet"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out/x/case.json").read_text())
    assert record["uncertainty"]["method"] == "tta"
    assert len(record["uncertainty"]["members"]) == 7
    for finding in record["findings"]:
        spread = finding["uncertainty"]
        assert spread["low"] <= finding["probability"] <= spread["high"]
    assert all("pairwise_dice" in segment["uncertainty"] for segment in record["segments"])
    (row,) = csv.DictReader((tmp_path / "out/cases.csv").read_text().splitlines())
    assert all(float(row[f"probability_std_{name}"]) > 0 for name in TORSO_FINDINGS)
