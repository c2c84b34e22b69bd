"""From a folder of nnU-Net and labels per case to an ordinary model, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tomli_w

from pipelines.__main__ import main
from tests.dicom_factory import make_series
from tests.integration.test_train_encoder import HEAD
from tests.nnunet_folder import dataset, plans, write_folder
from tests.tiny_run import settings, write_data


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["medmtl", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of nnU-Net, with random weights."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    labels = {"background": 0, "liver": 1, "spleen": 2}
    data = dataset(channel_names={"0": "MRI"}, labels=labels)
    return write_folder(tmp_path / "nnunet", plans=plans(), dataset=data, mirror_axes=())


def write_config(tmp_path: Path, folder: Path, **encoder: object) -> Path:
    values = settings(tmp_path / "data", max_steps=3)
    del values["preprocessing"], values["network"]["segments"], values["network"]["backbone"]
    values["network"]["head"] = HEAD
    values["encoder"] = {"from": str(folder), **encoder}
    values["head_refit"] = {"steps": 20, "batch": 8}
    path = tmp_path / "head.toml"
    path.write_text(tomli_w.dumps(values), encoding="utf-8")
    return path


def test_train_predict_and_evaluate(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data")
    config = write_config(tmp_path, folder)
    out = ("--data-root", data, "-o", tmp_path / "run", "--quiet")
    assert run(monkeypatch, "train", config, *out) == 0
    bundle = tmp_path / "run" / "bundle"
    assert run(monkeypatch, "models", "verify", bundle) == 0
    assert "Masks on 3 validation cases: mean Dice" in (bundle / "card.md").read_text("utf-8")

    values = np.random.default_rng(0).normal(300, 100, (8, 16, 16)).clip(1).astype(np.int16)
    make_series(tmp_path / "study", array=values.T, modality="MR")
    formats = ("--formats", "nifti,json,png,seg,sr,pm", "--uncertainty", "tta", "--quiet")
    wanted = ("--model", bundle, "--device", "cpu", "-o", tmp_path / "out", *formats)
    assert run(monkeypatch, "predict", tmp_path / "study", *wanted) == 0
    (path,) = (tmp_path / "out").glob("*/case.json")
    case = json.loads(path.read_text("utf-8"))
    assert [one["name"] for one in case["findings"]] == ["big", "old"]
    assert case["findings"][0]["uncertainty"]["std"] >= 0
    assert {"network_liver_volume", "network_spleen_volume"} <= {
        one["name"] for one in case["measurements"]
    }
    assert any(flag["code"] == "orientation-not-stated" for flag in case["quality"]["flags"])
    kinds = {pydicom.dcmread(one).Modality for one in path.parent.rglob("*.dcm")}
    assert {"SEG", "SR"} <= kinds
    assert any(path.parent.rglob("cam_*.pm.dcm"))

    for speed in ("fast", "best"):
        assert run(monkeypatch, "predict", tmp_path / "study", *wanted, "--speed", speed) == 2
    store = ("--tracking-uri", f"sqlite:///{tmp_path / 'registry.db'}")
    assert run(monkeypatch, "models", "register", bundle, *store) == 0
    again = ("--model", "models:/tiny/1", *store, "--device", "cpu", "--quiet")
    assert run(monkeypatch, "predict", tmp_path / "study", *again, "-o", tmp_path / "again") == 0
    (other,) = (tmp_path / "again").glob("*/case.json")
    found = json.loads(other.read_text("utf-8"))
    assert found["model"] == case["model"]
    assert [one["volume_ml"] for one in found["segments"]] == [
        one["volume_ml"] for one in case["segments"]
    ]

    judged = ("--manifest", data, "--split", "val", "--data-root", data, "-o", tmp_path / "judged")
    assert run(monkeypatch, "evaluate", "--model", bundle, *judged, "--quiet") == 0
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text("utf-8"))
    own = json.loads((bundle / "metrics.json").read_text("utf-8"))
    assert metrics["segmentation"]["mean_dice"] == own["segmentation"]["mean_dice"]
    assert set(metrics["diagnosis"]["per_finding"]) == {"big", "old"}


def test_lost_masks_are_status_one_and_a_missing_bundle_two(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_data(tmp_path / "data")
    out = ("--data-root", data, "-o", tmp_path / "run", "--quiet")
    config = write_config(tmp_path, tmp_path / "nowhere")
    assert run(monkeypatch, "train", config, *out) == 2
    assert "found no such bundle" in " ".join(capsys.readouterr().err.split())
    config = write_config(tmp_path, folder, training="full", max_dice_loss=0.0)
    rate = ("--set", "trainer.lr=0.05")
    assert run(monkeypatch, "train", config, *rate, *out) == 1
    assert "No bundle was written" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "bundle").exists()
