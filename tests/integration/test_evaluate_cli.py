"""`medmtl manifest` and `medmtl evaluate` from the outside: exit status and one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medmtl.data.manifest import read_manifest, write_manifest

REPOSITORY = Path(__file__).resolve().parents[2]


def medmtl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "MEDMTL_DATA_ROOT"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=REPOSITORY, env={**clean, **environment}, capture_output=True, text=True, check=False,
        timeout=600,
    )  # fmt: skip


@pytest.fixture
def acdc(tmp_path: Path) -> Path:
    """The ACDC layout with one patient of a few voxels."""
    folder = tmp_path / "acdc" / "training" / "patient001"
    folder.mkdir(parents=True)
    (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\nHeight: 170\nWeight: 70\n")
    for number, frame in enumerate(("01", "09")):
        image = np.arange(8 * 8 * 4, dtype=np.int16).reshape(8, 8, 4) + number
        mask = (image % 4).astype(np.uint8)
        for array, suffix in ((image, ""), (mask, "_gt")):
            path = folder / f"patient001_frame{frame}{suffix}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.5, 1.5, 8.0, 1.0])), path)
    return tmp_path / "acdc"


def test_a_manifest_of_a_good_copy_is_written(acdc: Path, tmp_path: Path) -> None:
    out = tmp_path / "manifest"
    done = medmtl("manifest", "acdc", "--root", str(acdc), "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert "1 cases (1 train)" in done.stderr
    assert (out / "cases.csv").read_text().count("patient001_frame") == 4


def test_a_patient_that_cannot_be_used_is_named(acdc: Path, tmp_path: Path) -> None:
    (acdc / "training" / "patient002").mkdir()
    out = tmp_path / "manifest"
    done = medmtl("manifest", "acdc", "--root", str(acdc), "-o", str(out))
    assert done.returncode == 1
    assert "patient002" in done.stderr
    assert (out / "cases.csv").is_file()


def test_no_data_set_at_the_root_cannot_start(tmp_path: Path) -> None:
    done = medmtl("manifest", "acdc", "--root", str(tmp_path), "-o", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "training/patient001/Info.cfg" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_broken_manifest_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text("name = 3\n")
    done = medmtl(
        "evaluate", "--model", "m", "--manifest", str(tmp_path), "-o", str(tmp_path / "out")
    )
    assert done.returncode == 2
    assert "licence: Field required" in done.stderr
    assert "cases.csv: file not found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_split_without_truth_is_refused_before_the_model_is_loaded(
    acdc: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "manifest"
    medmtl("manifest", "acdc", "--root", str(acdc), "-o", str(folder))
    known = read_manifest(folder)
    (case,) = known.cases
    rows = tuple(replace(row, segmentation=None, annotated_segments=()) for row in case.volumes)
    blind = replace(case, split="test", volumes=rows, findings=dict.fromkeys(case.findings))
    write_manifest(replace(known, cases=(blind,)), folder)
    done = medmtl(
        "evaluate", "--model", "no-such-model", "--manifest", str(folder),
        "--data-root", str(acdc), "-o", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 2
    assert "without any mask or known finding" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_result_folder_that_takes_no_files_is_said_before_the_model_is_loaded(
    acdc: Path, tmp_path: Path
) -> None:
    manifest, out = str(tmp_path / "manifest"), tmp_path / "out"
    medmtl("manifest", "acdc", "--root", str(acdc), "-o", manifest)
    out.write_text("a file")
    done = medmtl(
        "evaluate", "--model", "no-such-model", "--manifest", manifest,
        "--data-root", str(acdc), "-o", str(out),
    )  # fmt: skip
    assert done.returncode == 2
    assert "The evaluation could not be written" in done.stderr
    assert "no-such-model" not in done.stderr
    assert out.read_text() == "a file"


def test_a_wrong_data_root_is_one_error_and_the_environment_names_the_right_one(
    acdc: Path, tmp_path: Path
) -> None:
    manifest, out = str(tmp_path / "manifest"), str(tmp_path / "out")
    medmtl("manifest", "acdc", "--root", str(acdc), "-o", manifest)
    arguments = ("evaluate", "--model", "no-such-model", "--manifest", manifest, "-o", out)
    lost = medmtl(*arguments)
    assert lost.returncode == 2
    assert "--data-root" in lost.stderr
    found = medmtl(*arguments, MEDMTL_DATA_ROOT=str(acdc))
    assert found.returncode == 2
    assert "--data-root" not in found.stderr
    assert "no-such-model" in found.stderr
