"""A diagnosis head on a network that was trained before: `medmtl train` with `encoder.from`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.build import train_run
from medmtl.build.encoder import with_encoder
from medmtl.config import TrainConfig
from medmtl.core.errors import BundleError, ConfigError
from medmtl.core.study import Study, VolumeRef
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.data.volume_file import read_volume_file
from medmtl.imports.monai import MonaiChoices, import_monai
from medmtl.imports.nnunet import import_nnunet
from medmtl.inference.bundle import load_bundle, verify_bundle
from medmtl.inference.predictor import load_predictor
from medmtl.training.config_file import settings_of
from medmtl.training.mask_change import MasksLostError
from medmtl.training.trainer import TrainingStoppedError
from tests.integration.test_train_run import Notes
from tests.monai_folder import monai_config, write_monai
from tests.nnunet_folder import dataset, plans, write_folder
from tests.tiny_run import settings, write_data

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = {"background": 0, "liver": 1, "spleen": 2}
REGIONS = {"background": 0, "trunk": [1, 2], "spleen": 2}
HEAD = {"embedding": 4, "hidden": 4, "pooling": ["global", "mask"], "measurements": "volumes"}


def imported(root: Path, *, dimensions: int = 3, **fields: Any) -> Path:
    """A bundle out of a folder of nnU-Net with random weights."""
    folds = fields.pop("folds", ("0",))
    transpose = fields.pop("transpose", [0, 1, 2])
    labels = fields.pop("labels", LABELS)
    order = {"regions_class_order": [1, 2]} if labels is REGIONS else {}
    write_folder(
        root / "nnunet",
        plans=plans(dimensions=dimensions, **fields) | {"transpose_forward": transpose},
        dataset=dataset(channel_names={"0": "MRI"}, labels=labels, **order),
        folds=folds,
        mirror_axes=(0,) if len(folds) > 1 else (),
        outputs=2 if labels is REGIONS else 3,
    )
    import_nnunet(root / "nnunet", root / "imported")
    return root / "imported"


def of_monai(root: Path, network: str) -> Path:
    """A bundle out of a MONAI bundle with random weights; its second segment is unknown here."""
    content = monai_config(network)
    content["pixdim"] = [2.0, 2.0, 3.0]
    write_monai(root / "monai", content, network)
    import_monai(root / "monai", root / "imported", choices=MonaiChoices(modality="MR"))
    return root / "imported"


def configuration(root: Path, source: Path, **changes: Any) -> TrainConfig:
    """The tiny run, with an encoder in place of backbone, segments and preprocessing."""
    values = settings(root, max_steps=4, steps_per_epoch=2)
    del values["preprocessing"], values["network"]["segments"], values["network"]["backbone"]
    values["network"]["head"] = HEAD | changes.pop("head", {})
    values["network"] |= changes.pop("network", {})
    values["encoder"] = {"from": str(source)} | changes.pop("encoder", {})
    values["head_refit"] = {"steps": 50, "batch": 8}
    return settings_of(TrainConfig, values | changes, source="tiny")


def studies(data: Path) -> list[Study]:
    found = []
    for case in read_manifest(data).in_split("val"):
        volume = replace(read_volume_file(data, case.volumes[0].image), modality="MR")
        ref = VolumeRef(volume.id, lambda _, one=volume: one, volume.geometry, "MR")  # type: ignore[misc]
        found.append(Study(case.case_id, "nifti", "", (ref,)))
    return found


def answers(bundle: Path, data: Path, **options: Any) -> list[Any]:
    predictor = load_predictor(bundle, device="cpu", **options)
    return [
        predictor.analyse(study, [ref.read() for ref in predictor.select(study)])
        for study in studies(data)
    ]


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"dimensions": 2},
        {"transpose": [2, 0, 1], "folds": ("0", "1"), "patch_size": [8, 12, 10]},
        {"labels": REGIONS, "spacing": [3.0, 2.0, 2.0]},
        {"residual": True},
    ],
    ids=["3d", "2d", "transposed, two folds", "regions", "residual"],
)
def test_a_frozen_encoder_keeps_its_masks_to_the_voxel(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path, **kind)
    result = train_run(configuration(data, bundle), tmp_path / "run", data_root=data)
    verify_bundle(result.bundle)
    for ours, theirs in zip(answers(result.bundle, data), answers(bundle, data), strict=True):
        assert len(np.unique(theirs.volumes[0].label_map)) > 1
        np.testing.assert_array_equal(ours.volumes[0].label_map, theirs.volumes[0].label_map)
        assert [one.name for one in ours.findings] == ["big", "old"]
    said = result.metrics["encoder"]
    assert (said["loss"], said["equal_voxels"], said["training"]) == (0.0, 1.0, "frozen")
    assert said["dice_before"] == said["dice_after"]


@pytest.mark.parametrize(("network", "embedding"), [("SegResNet", 4), ("UNet", 0)])
def test_masks_of_monai_are_kept_to_the_voxel(tmp_path: Path, network: str, embedding: int) -> None:
    data = write_data(tmp_path / "data")
    bundle = of_monai(tmp_path, network)
    config = configuration(data, bundle, head={"embedding": embedding})
    result = train_run(config, tmp_path / "run", data_root=data)
    both = zip(answers(result.bundle, data, cam="all"), answers(bundle, data), strict=True)
    for ours, theirs in both:
        np.testing.assert_array_equal(ours.volumes[0].label_map, theirs.volumes[0].label_map)
        assert [one.name for one in ours.findings] == ["big", "old"]
        assert all(cam.array.max() > 0 for one in ours.findings for cam in one.cams.values())
    if embedding:
        return
    with pytest.raises(ConfigError, match=r"not taken apart.*embedding = 0"):
        train_run(configuration(data, bundle), tmp_path / "other", data_root=data)


def test_it_can_be_stopped_while_features_are_computed(tmp_path: Path) -> None:
    """Which may take hours, before there is any step."""
    data = write_data(tmp_path / "data")
    config = configuration(data, imported(tmp_path))
    with pytest.raises(TrainingStoppedError, match=r"features .*: 1 of 3\. Start the same"):
        train_run(config, tmp_path / "run", data_root=data, should_stop=lambda: True)
    assert len(list((tmp_path / "run" / "cache" / "features").rglob("*.npz"))) == 1


def test_it_can_be_stopped_while_it_is_measured_and_is_not_overwritten(tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data"), tmp_path / "run"
    config = configuration(data, imported(tmp_path))
    with pytest.raises(TrainingStoppedError, match=r"cases measured: 1 of 3"):
        train_run(config, out, data_root=data, should_stop=(out / "uncalibrated").exists)
    train_run(config, out, data_root=data)
    with pytest.raises(ConfigError, match=r"found a run there.*--resume"):
        train_run(config, out, data_root=data)
    train_run(config, out, data_root=data, resume=True)


def test_the_result_is_an_ordinary_joint_bundle(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    changes: dict[str, Any] = {"calibration": {"method": "temperature", "min_each": 1}}
    config, notes = configuration(data, bundle, **changes), Notes()
    result = train_run(config, tmp_path / "run", data_root=data, tracker=notes)
    assert {"train, validation tiny 64", "bundle bundle", "figures/reliability.png"} <= set(
        notes.told
    )
    assert {"final/mean_dice", "final/macro_auroc"} <= set(notes.metrics)
    answer = answers(result.bundle, data, cam="all")[0]
    for finding in answer.findings:
        (cam,) = finding.cams.values()
        assert cam.array.min() >= 0
        assert 0 < cam.array.max() <= 1.0001
        size = [n * mm for n, mm in zip(cam.geometry.shape, cam.geometry.spacing_mm, strict=True)]
        assert size == pytest.approx([32.0, 32.0, 16.0])
        assert set(finding.cam_energy_in_segments) >= {"liver", "spleen"}
    names = [one.name for one in answer.measurements]
    assert names == ["network_liver_volume", "network_spleen_volume"]
    spread = answers(result.bundle, data, cam="none", uncertainty="tta")[0]
    assert spread.findings[0].uncertainty is not None
    assert spread.segments[0].uncertainty is not None
    np.testing.assert_array_equal(spread.volumes[0].label_map, answer.volumes[0].label_map)


def test_features_are_computed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    cache = {"manifests": [{"folder": str(data)}], "cache_dir": str(tmp_path / "cache")}
    with caplog.at_level("INFO", logger="medmtl.build.encoder_run"):
        train_run(configuration(data, bundle, data=cache), tmp_path / "a", data_root=data)
        first = caplog.text
        caplog.clear()
        other = configuration(data, bundle, data=cache, head={"hidden": 8}, seed=3)
        train_run(other, tmp_path / "b", data_root=data)
        assert "of 5 cases, 5 of them computed" in first
        assert "of 5 cases, 0 of them computed" in caplog.text
        caplog.clear()
        next((tmp_path / "cache" / "features").rglob("*.npz")).unlink()
        measured = configuration(data, bundle, data=cache, head={"embedding": 0})
        alone = train_run(measured, tmp_path / "m", data_root=data)
        # Measurements are there already, of all but one case.
        assert re.findall(r"cases, (\d) of them", caplog.text).count("1") == 1
        caplog.clear()
        apart = configuration(data, bundle, head={"embedding": 0})
        assert train_run(apart, tmp_path / "n", data_root=data).metrics == alone.metrics
        caplog.clear()
        entry = next((tmp_path / "cache" / "features").rglob("*.npz"))
        entry.write_bytes(entry.read_bytes()[:200])  # a damaged one is made anew
        deeper = configuration(data, bundle, data=cache, head={"levels": [-2]})
        train_run(deeper, tmp_path / "c", data_root=data)  # other levels are other features
        assert "of 5 cases, 5 of them computed" in caplog.text


@pytest.mark.parametrize("training", ["partial", "full"])
def test_fine_tuning_measures_what_the_masks_lose(tmp_path: Path, training: str) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    encoder = {"training": training, "max_dice_loss": 1.0}
    result = train_run(
        configuration(data, bundle, encoder=encoder), tmp_path / "run", data_root=data
    )
    said = json.loads((result.bundle / "metrics.json").read_text())["encoder"]
    assert said["equal_voxels"] < 1
    old, new = load_bundle(bundle).net.state_dict(), load_bundle(result.bundle).net.state_dict()
    changed = {name for name, value in old.items() if not torch.equal(value, new[name])}
    assert any(name.startswith("backbone.decoder") for name in changed)
    assert any(name.startswith("backbone.encoder.stages.1") for name in changed)
    is_finest_changed = any(name.startswith("backbone.encoder.stages.0") for name in changed)
    assert is_finest_changed == (training == "full")
    card = (result.bundle / "card.md").read_text()
    for name, before in said["dice_before"]["per_segment"].items():
        assert f"{name} {before:.4f}, {said['dice_after']['per_segment'][name]:.4f}" in card


def test_finer_levels_learn_more_slowly(tmp_path: Path) -> None:
    """AdamW's first step is as long as the learning rate: of two levels a tenth, a hundredth."""
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    trainer = settings(data, max_steps=1, steps_per_epoch=1)["trainer"]
    old = load_bundle(bundle).net.state_dict()
    moved: dict[float, dict[int, float]] = {}
    for decay in (1.0, 0.1):
        encoder = {"training": "full", "max_dice_loss": 1.0, "layer_decay": decay}
        config = configuration(data, bundle, encoder=encoder, trainer=trainer)
        run = train_run(config, tmp_path / str(decay), data_root=data)
        new = load_bundle(run.bundle).net.state_dict()
        moved[decay] = {
            stage: max(
                float((new[name] - old[name]).abs().max())
                for name in old
                if name.startswith(f"backbone.encoder.stages.{stage}.") and name.endswith("weight")
            )
            for stage in (0, 1)
        }
    assert moved[0.1][1] == pytest.approx(moved[1.0][1] / 10, rel=0.05)
    assert moved[0.1][0] == pytest.approx(moved[1.0][0] / 100, rel=0.05)


def test_a_network_of_monai_learns_on_in_its_own_window(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    bundle = of_monai(tmp_path, "SegResNet")
    encoder = {"training": "full", "max_dice_loss": 1.0}
    trainer = settings(data, max_steps=1, steps_per_epoch=1)["trainer"]
    config = configuration(data, bundle, encoder=encoder, trainer=trainer)
    result = train_run(config, tmp_path / "run", data_root=data)
    old, new = load_bundle(bundle).net.state_dict(), load_bundle(result.bundle).net.state_dict()
    assert all(not torch.equal(old[name], new[name]) for name in old if name.endswith("weight"))


def test_masks_that_lose_too_much_are_refused(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    encoder = {"training": "full", "max_dice_loss": 0.0, "distil_weight": 0.0}
    without_masks(data)
    with pytest.raises(MasksLostError, match=r"lost 0\.\d+ Dice to the masks before.*No bundle"):
        train_run(configuration(data, bundle, encoder=encoder), tmp_path / "run", data_root=data)
    assert not (tmp_path / "run" / "bundle").exists()
    assert not (tmp_path / "run" / "uncalibrated").exists()


def without_masks(data: Path) -> None:
    manifest = read_manifest(data)
    cases = tuple(
        replace(case, volumes=tuple(replace(v, segmentation=None) for v in case.volumes))
        for case in manifest.cases
    )
    write_manifest(replace(manifest, cases=cases), data)


def test_without_masks_those_of_the_encoder_are_kept_by_distillation(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    without_masks(data)
    bundle = imported(tmp_path)
    kept = {}
    for weight in (0.0, 30.0):
        encoder = {"training": "full", "max_dice_loss": 1.0, "distil_weight": weight}
        # In its first steps AdamW moves every weight alike, however small the loss.
        trainer = settings(data, max_steps=12, steps_per_epoch=12)["trainer"]
        config = configuration(data, bundle, encoder=encoder, trainer=trainer)
        result = train_run(config, tmp_path / f"run{weight}", data_root=data)
        said = result.metrics["encoder"]
        assert said["dice_before"]["mean"] is None
        kept[weight] = said["agreement"]["mean"]
    assert kept[30.0] > kept[0.0]


def test_a_bundle_of_medmtl_can_be_the_encoder(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    values = settings(data, max_steps=2)
    first = train_run(
        settings_of(TrainConfig, values, source="tiny"), tmp_path / "first", data_root=data
    )
    config = configuration(data, first.bundle, network={"findings": ["old"]})
    result = train_run(config, tmp_path / "run", data_root=data)
    for ours, theirs in zip(answers(result.bundle, data), answers(first.bundle, data), strict=True):
        np.testing.assert_array_equal(ours.volumes[0].label_map, theirs.volumes[0].label_map)
        assert [one.name for one in ours.findings] == ["old"]


def test_what_does_not_fit_is_one_line_and_leaves_no_bundle(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (BundleError, "no such bundle", {"encoder": {"from": str(tmp_path / "none")}}),
        (ConfigError, "no training case has a label for odd", {"network": {"findings": ["odd"]}}),
        (ConfigError, "network.findings is empty", {"network": {"findings": []}}),
        (ConfigError, "network.segments is that of", {"network": {"segments": ["spleen"]}}),
        (ConfigError, "pooling attention", {"head": {"pooling": ["global", "attention"]}}),
        (ConfigError, r"cam.levels \(-2,\) must be among", {"head": {"levels": [-1]}}),
        (ConfigError, "bundle.components", {"bundle": settings(data)["bundle"] | {
            "components": {"keep_largest": ["liver"]}}}),
        (ConfigError, "found bundle.input.modality CT, expected MR", {"bundle":
            settings(data)["bundle"] | {"input": {"modality": "CT"}}}),
    ]  # fmt: skip
    for number, (kind, text, changes) in enumerate(wrong):
        run, config = tmp_path / f"run{number}", configuration(data, bundle, **changes)
        with pytest.raises(kind, match=text) as caught:
            train_run(config, run, data_root=data)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / f"run{number}" / "bundle").exists()


def test_the_modality_is_that_of_the_encoder(tmp_path: Path) -> None:
    info = settings(tmp_path)["bundle"]
    del info["input"]
    config, encoder = with_encoder(configuration(tmp_path, imported(tmp_path), bundle=info))
    assert config.bundle.input == encoder.settings.input
    assert config.bundle.input.modality == "MR"


def test_fine_tuning_refuses_what_would_show_the_network_other_images(tmp_path: Path) -> None:
    """Before anything is computed; a frozen encoder looks at none of it."""
    data = write_data(tmp_path / "data")
    bundle = imported(tmp_path)
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("patch is that of the imported network", {"patch": {"size": [4, 4, 4]}}),
        ("planar_mr cuts patches of its own", {"augmentation": {"name": "planar_mr"}}),
        ("volume_ct clips to -1..1", {"augmentation": {"name": "volume_ct"}}),
        ("share no feature map to balance on", {"balancer": {"name": "pcgrad"}}),
    ]
    for number, (text, changes) in enumerate(wrong):
        config = configuration(data, bundle, encoder={"training": "full"}, **changes)
        with pytest.raises(ConfigError, match=text):
            train_run(config, tmp_path / f"run{number}", data_root=data)


def test_a_manifest_without_findings_is_said(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", truths=[{"big": None, "old": None}] * 8)
    bundle = imported(tmp_path)
    with pytest.raises(ConfigError, match="no training case has a label for big, old"):
        train_run(configuration(data, bundle), tmp_path / "run", data_root=data)
    assert not (tmp_path / "run" / "bundle").exists()


def test_fine_tuning_needs_cases_that_measure_it(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    manifest = read_manifest(data)
    cases = tuple(replace(case, split="train") for case in manifest.cases)
    write_manifest(replace(manifest, cases=cases), data)
    bundle = imported(tmp_path)
    config = configuration(data, bundle, encoder={"training": "full"})
    with pytest.raises(ConfigError, match="no validation cases"):
        train_run(config, tmp_path / "run", data_root=data)
