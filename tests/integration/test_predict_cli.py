"""`medmtl predict` says what is wrong in one line, before anything heavy is loaded or written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.predict import formats_of
from tests.interrupted_command import check_interrupted
from tests.threshold_batch import write_studies
from tests.tiny_bundle import torso_settings, write_tiny


def _predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "medmtl", "predict", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--formats", "mha"], "--formats: found 'mha', expected a list of nifti,json,png,seg,sr"),
        (
            ["--seg-type", "surface"],
            "--seg-type: found 'surface', expected one of binary, labelmap",
        ),
        (["--device", "tpu"], "--device: found 'tpu', expected one of auto, cpu, cuda"),
        (["--backend", "onnx"], "--backend: found 'onnx', expected one of auto, torch, openvino"),
    ],
)
def test_an_option_that_cannot_be_used_is_named(
    tmp_path: Path, options: list[str], said: str
) -> None:
    write_studies(tmp_path / "in", 1)
    result = _predict(tmp_path / "in", "-o", tmp_path / "out", *options)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["seg", "rtstruct"])
def test_dicom_results_of_nifti_alone_are_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    write_studies(tmp_path / "in", 1)
    formats = f"nifti,{name}"
    result = _predict(tmp_path / "in", "-o", tmp_path / "out", "--formats", formats, "--quiet")
    assert result.returncode == 2
    assert f"--formats: {name} needs DICOM input" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_results_inside_the_input_are_refused(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 1)
    result = _predict(tmp_path / "in", "-o", tmp_path / "in" / "results")
    assert result.returncode == 2
    assert "lies inside INPUT" in result.stderr
    assert not (tmp_path / "in" / "results").exists()


def test_an_input_of_results_alone_holds_no_image(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 1)
    (tmp_path / "in" / "run.json").touch()
    result = _predict(tmp_path / "in", "-o", tmp_path / "out")
    assert result.returncode == 2
    assert "1 folder(s) with results of medmtl left out" in result.stderr
    assert "No image volume in the input" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_input_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = _predict(tmp_path / "no", "-o", tmp_path / "out")
    assert result.returncode == 2
    assert "INPUT does not exist" in result.stderr
    assert str(tmp_path) not in result.stderr


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", "nifti json png seg sr pm"),  # what scripts rely on
        ("all,rtstruct", "nifti json png seg sr pm rtstruct"),
        ("rtstruct", "rtstruct"),
        ("rtstruct,sr", "seg sr rtstruct"),  # a report cites a segmentation
    ],
)
def test_structure_sets_are_written_where_they_are_named(text: str, chosen: str) -> None:
    assert formats_of(text, seg_type="binary") == tuple(chosen.split())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_a_batch_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    write_studies(source, 60)
    write_tiny(tmp_path / "tiny", torso_settings())
    check_interrupted(
        "predict", source, "-o", out, "--model", tmp_path / "tiny",
        when=lambda: bool(list(out.glob("*/case.json"))),
    )  # fmt: skip
    finished = len(list(out.glob("*/case.json")))
    assert 1 <= finished < 60
    again = _predict(source, "-o", out, "--model", tmp_path / "tiny")
    assert again.returncode == 0
    assert again.stderr.count("resumed") == finished
