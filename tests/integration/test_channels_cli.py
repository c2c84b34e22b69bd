"""`medmtl predict` with an imported network of two input channels, on NIfTI and DICOM."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.core.geometry import Geometry
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import write_manifest
from medmtl.data.volume_file import read_volume_file
from pipelines.__main__ import main
from tests.dicom_factory import make_series
from tests.miniatures import write_image
from tests.monai_folder import METADATA, monai_config, write_monai
from tests.nnunet_folder import dataset, plans, write_folder

SHAPE = (14, 13, 10)
TWO = {"0": "T1", "1": "FLAIR"}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["medmtl", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def predict(
    monkeypatch: pytest.MonkeyPatch, source: Path, model: Path, out: Path, *more: str
) -> int:
    arguments = ("--model", model, "--device", "cpu", "--quiet", "--formats", "nifti,json")
    return run(monkeypatch, "predict", source, *arguments, "-o", out, *more)


def case(out: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / name / "case.json").read_text())
    return found


def labels(out: Path, name: str) -> Any:
    return read_volume_file(out / name / "image", "segmentation.nii.gz").array


def reasons(out: Path) -> set[str]:
    with (out / "failures.csv").open() as stream:
        return {row["reason"].partition(":")[0] for row in csv.DictReader(stream)}


def image(seed: int) -> Any:
    return np.random.default_rng(seed).normal(100, 60, SHAPE).astype(np.int16)


def two_channel_plans() -> dict[str, Any]:
    return plans(normalization_schemes=["ZScoreNormalization"] * 2, use_mask_for_norm=[False] * 2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_folder(
        tmp_path / "model", plans=two_channel_plans(), dataset=dataset(channel_names=TWO), inputs=2
    )


def test_numbers_names_and_folders_of_nifti_are_one_case(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    images = tmp_path / "images"
    for names in (("p1_0000", "p1_0001"), ("p2_t1", "p2_flair"), ("p3/T1", "p3/FLAIR")):
        for seed, name in enumerate(names):
            write_image(images / f"{name}.nii.gz", image(seed))
    for seed, name in enumerate(("p4_flair", "p4_t1")):  # the same two files, the other way round
        write_image(images / f"{name}.nii.gz", image(seed))
    assert predict(monkeypatch, images, model, tmp_path / "out") == 0
    first = labels(tmp_path / "out", "p1")
    assert len(np.unique(first)) > 1
    for name in ("p2", "p3"):
        np.testing.assert_array_equal(labels(tmp_path / "out", name), first)
    assert (labels(tmp_path / "out", "p4") != first).any()
    said = case(tmp_path / "out", "p3")["channels"]
    assert [(one["name"], one["path"], one["matched_by"]) for one in said] == [
        ("T1", "p3/T1.nii.gz", "name"), ("FLAIR", "p3/FLAIR.nii.gz", "name"),
    ]  # fmt: skip


def test_a_channel_without_weight_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With zero weights of its second channel a network is that of the first alone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    one = write_folder(tmp_path / "one", plans=plans(), dataset=dataset(channel_names={"0": "T1"}))
    two = write_folder(
        tmp_path / "two", plans=two_channel_plans(), dataset=dataset(channel_names=TWO), inputs=2
    )
    paths = [folder / "fold_0" / "checkpoint_final.pth" for folder in (one, two)]
    contents = [torch.load(path, weights_only=False) for path in paths]
    for name, value in contents[1]["network_weights"].items():
        own = contents[0]["network_weights"][name]
        if value.shape != own.shape:
            value.zero_()
            value[:, :1] = own
        else:
            value.copy_(own)
    torch.save(contents[1], paths[1])
    for seed in range(2):
        write_image(tmp_path / "images" / f"p1_000{seed}.nii.gz", image(seed))
    write_image(tmp_path / "alone" / "p1.nii.gz", image(0))
    assert predict(monkeypatch, tmp_path / "images", two, tmp_path / "both") == 0
    assert predict(monkeypatch, tmp_path / "alone", one, tmp_path / "single") == 0
    both, single = (labels(tmp_path / out, "p1") for out in ("both", "single"))
    np.testing.assert_array_equal(both, single)


def test_series_of_a_study_are_channels_and_a_bad_study_stops_no_other(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    images, out = tmp_path / "images", tmp_path / "out"

    def series(study: str, name: str, seed: int, **more: Any) -> None:
        make_series(
            images / study / str(seed), array=image(seed), modality="MR", name=f"series{seed}",
            study=study,
            **{"SeriesDescription": name, **more},
        )  # fmt: skip

    series("good", "ax FLAIR", 1)
    series("good", "t1_mprage", 0)
    series("missing", "ax FLAIR", 1)
    series("twice", "ax FLAIR", 1)
    series("twice", "T1 Qwertz", 0)
    series("twice", "t1 again", 2)
    series("apart", "FLAIR", 1)
    series("apart", "T1", 0, FrameOfReferenceUID="1.2.3")
    coarse = Geometry.from_parts(
        shape=SHAPE, spacing_mm=(1.5, 1.5, 3.0), origin_lps=(-12.0, -22.0, 28.0)
    )
    series("grids", "T1", 0)
    series("grids", "FLAIR", 1, geometry=coarse)
    assert predict(monkeypatch, images, model, out) == 1
    done = [json.loads(path.read_text()) for path in out.glob("*/case.json")]
    by_flag = {bool(one["channels"][1]["resampled"]): one for one in done}
    assert len(done) == len(by_flag) == 2
    assert [one["matched_by"] for one in by_flag[False]["channels"]] == ["name", "name"]
    assert len({one["series_uid"] for one in by_flag[False]["channels"]}) == 2
    (volume,) = by_flag[False]["source"]["volumes"]
    assert volume["series_uid"] == by_flag[False]["channels"][0]["series_uid"]
    assert "channel-resampled" in {flag["code"] for flag in by_flag[True]["quality"]["flags"]}
    assert reasons(out) == {"channel-ambiguous", "channel-missing", "channels-unrelated"}
    assert "qwertz" not in (out / "failures.csv").read_text().lower()
    assert predict(monkeypatch, images, model, out, "--channel", "T1=T1 Qwertz") == 1
    assert reasons(out) == {"channel-missing"}
    assert all("qwertz" not in path.read_text().lower() for path in out.rglob("*.json"))


def test_a_channel_the_model_has_not_is_status_two(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_image(tmp_path / "images" / "p1_0000.nii.gz", image(0))
    arguments = (tmp_path / "images", model, tmp_path / "out", "--channel", "T2=x")
    assert predict(monkeypatch, *arguments) == 2
    assert predict(monkeypatch, *arguments[:3]) == 1  # one channel of two


def test_an_evaluation_is_told_which_volume_is_which_channel(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, array in (("a", image(0)), ("b", image(1)), ("mask", image(2) > 100)):
        write_image(tmp_path / f"{name}.nii.gz", array.astype(np.int16))
    rows = (VolumeRow("a", "a.nii.gz", "mask.nii.gz", None, ("liver",)), VolumeRow("b", "b.nii.gz"))
    schema = LabelSchema((SegmentSpec(1, "liver"),), ())
    cases = (Case("p1", "p1", "test", None, rows),)
    write_manifest(Manifest("two", "CC0", "", "", "MR", schema, cases), tmp_path / "manifest")

    def dice(name: str, *channels: str) -> float | None:
        arguments = ("--model", model, "--manifest", tmp_path / "manifest", "--device", "cpu")
        more = [part for text in channels for part in ("--channel", text)]
        places = ("--data-root", tmp_path, "-o", tmp_path / name, "--quiet")
        status = run(monkeypatch, "evaluate", *arguments, *places, *more)
        metrics = json.loads((tmp_path / name / "metrics.json").read_text("utf-8"))
        assert status == metrics["n_failed"]
        value: float | None = metrics["segmentation"]["mean_dice"]["value"]
        return value

    assert dice("unsaid") is None
    right, turned = dice("right", "T1=a", "FLAIR=b"), dice("turned", "T1=b", "FLAIR=a")
    assert right is not None
    assert right != turned


def test_a_watched_folder_is_told_which_series_is_which_channel(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for seed, name in enumerate(("T1 first", "ax FLAIR", "T1 second")):
        make_series(
            tmp_path / "images" / "study" / str(seed), array=image(seed), modality="MR",
            name=f"series{seed}", study="one", SeriesDescription=name,
        )  # fmt: skip
    wanted = ("--model", model, "--device", "cpu", "--once", "--settle", "0", "--quiet")
    places = (tmp_path / "images", *wanted, "-o")
    assert run(monkeypatch, "watch", *places, tmp_path / "unsaid") == 1
    assert reasons(tmp_path / "unsaid") == {"channel-ambiguous"}
    said = ("--channel", "T1=T1 second")
    assert run(monkeypatch, "watch", *places, tmp_path / "out", *said) == 0
    (path,) = (tmp_path / "out").glob("*/case.json")
    assert json.loads(path.read_text())["channels"][0]["matched_by"] == "option"


def test_a_monai_network_of_two_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = monai_config(in_channels=2)
    metadata = json.loads(json.dumps(METADATA))
    metadata["network_data_format"]["inputs"]["image"] |= {"channel_def": TWO, "num_channels": 2}
    folder = write_monai(tmp_path / "monai", content, metadata=metadata, inputs=2)
    bundle = tmp_path / "bundle"
    arguments = ("-o", bundle)
    assert run(monkeypatch, "models", "import", "monai", folder, *arguments) == 0
    for seed in range(2):
        write_image(tmp_path / "a" / f"p1_000{seed}.nii.gz", image(seed))
        write_image(tmp_path / "b" / f"p1_000{1 - seed}.nii.gz", image(seed))
    for name in ("a", "b"):
        assert predict(monkeypatch, tmp_path / name, bundle, tmp_path / f"out-{name}") == 0
    assert (labels(tmp_path / "out-a", "p1") != labels(tmp_path / "out-b", "p1")).any()
    assert [one["name"] for one in case(tmp_path / "out-a", "p1")["channels"]] == ["T1", "FLAIR"]
