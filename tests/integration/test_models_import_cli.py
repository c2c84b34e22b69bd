"""`medmtl models import` and `predict --model FOLDER` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medmtl.inference.bundle import verify_bundle
from pipelines.__main__ import main
from tests.dicom_factory import make_series
from tests.miniatures import image_values, write_image
from tests.monai_folder import monai_config, write_monai
from tests.nnunet_folder import dataset, plans, write_folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["medmtl", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_import_then_predict_or_predict_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    bundle = tmp_path / "bundle"
    assert run(monkeypatch, "models", "import", "nnunet", folder, "-o", bundle) == 0
    said = capsys.readouterr().out
    assert "1  liver  SCT 10200004" in said
    assert "networks averaged: 1 (checkpoint_final.pth of fold 0)" in said
    verify_bundle(bundle)
    values = np.random.default_rng(0).normal(0, 100, (12, 11, 9)).astype(np.float32)
    image = write_image(tmp_path / "case.nii.gz", values)
    for model, out in ((bundle, "one"), (folder, "two")):
        arguments = ("--model", model, "--device", "cpu", "--quiet", "-o", tmp_path / out)
        assert run(monkeypatch, "predict", image, *arguments) == 0
    one, two = (
        json.loads((tmp_path / out / "case" / "case.json").read_text()) for out in ("one", "two")
    )
    assert one["segments"] == two["segments"]
    assert {segment["name"] for segment in one["segments"]} == {"liver", "odd_organ"}
    assert one["findings"] == []


def test_a_refused_folder_is_status_two_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    arguments = ("--folds", "0,3", "-o", tmp_path / "bundle")
    assert run(monkeypatch, "models", "import", "nnunet", folder, *arguments) == 2
    assert "found fold 0, expected 3" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("command", ["predict", "import"])
def test_a_folder_without_plans_is_named_alike_by_both_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    (folder / "plans.json").unlink()
    image = write_image(tmp_path / "case.nii.gz", np.zeros((8, 8, 8), np.float32))
    out = tmp_path / "out"
    arguments: dict[str, tuple[str | Path, ...]] = {
        "predict": ("predict", image, "--model", folder, "-o", out),
        "import": ("models", "import", "nnunet", folder, "-o", out),
    }
    assert run(monkeypatch, *arguments[command]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "found plans.json that cannot be read (no such file)" in said
    assert not out.exists()


def test_a_monai_bundle_or_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = monai_config()
    folder = write_monai(tmp_path / "monai", content)
    assert run(monkeypatch, "models", "import", "monai", folder, "-o", tmp_path / "bundle") == 0
    assert "1  spleen  SCT 78961009" in capsys.readouterr().out
    verify_bundle(tmp_path / "bundle")
    content["pixdim"] = "$[1.0] * 3"
    other = write_monai(tmp_path / "other", content)
    assert run(monkeypatch, "models", "import", "monai", other, "-o", tmp_path / "none") == 2
    assert "which would be evaluated" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "none").exists()


def test_dicom_results_name_the_organs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    bundle = tmp_path / "bundle"
    arguments = ("--orientation", "RAS", "-o", bundle)
    assert run(monkeypatch, "models", "import", "nnunet", folder, *arguments) == 0
    make_series(tmp_path / "dicom", array=image_values(3, (16, 15, 12)))
    more = ("--device", "cpu", "--quiet", "--formats", "json,seg,sr", "-o", tmp_path / "out")
    assert run(monkeypatch, "predict", tmp_path / "dicom", "--model", bundle, *more) == 0
    (path,) = (tmp_path / "out").rglob("segmentation.seg.dcm")
    organs = pydicom.dcmread(path).SegmentSequence
    assert organs[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert len(list((tmp_path / "out").rglob("findings.sr.dcm"))) == 1
    case = json.loads(next((tmp_path / "out").rglob("case.json")).read_text())
    assert "orientation-not-stated" not in {flag["code"] for flag in case["quality"]["flags"]}


def test_several_folders_are_one_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [
        write_folder(
            tmp_path / name, plans=plans(), dataset=dataset(labels={"background": 0, name: 1}),
            outputs=2,
        )
        for name in ("liver", "spleen")
    ]  # fmt: skip
    bundle = tmp_path / "bundle"
    assert run(monkeypatch, "models", "import", "nnunet", *folders, "-o", bundle) == 0
    said = capsys.readouterr().out
    assert "1  spleen  SCT 78961009" in said
    assert "part 2: 1 segments, networks averaged: 1 (checkpoint_final.pth of fold 0)" in said
    verify_bundle(bundle)
