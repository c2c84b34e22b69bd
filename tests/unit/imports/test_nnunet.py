"""A model folder of nnU-Net becomes a bundle that answers, or is refused by name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medmtl.core.errors import BundleError, ConfigError, OutputError
from medmtl.core.geometry import Geometry
from medmtl.core.study import Study, VolumeRef
from medmtl.core.volume import Volume
from medmtl.imports.cached import cached_import, is_nnunet_folder
from medmtl.imports.checkpoint import read_checkpoint
from medmtl.imports.nnunet import NnunetChoices, import_nnunet
from medmtl.inference.bundle import load_bundle, load_folds, verify_bundle
from medmtl.inference.plans_predictor import PlansPredictor
from medmtl.inference.predictor import load_predictor
from tests.nnunet_folder import dataset, plans, write_folder

REGIONS = {
    "labels": {"background": 0, "heart": [1, 2], "lv": [2], "ignore": 3},
    "regions_class_order": [1, 2],
}


def study(kind: str = "nifti") -> tuple[Study, Volume]:
    values = np.random.default_rng(0).normal(40, 60, (13, 12, 9)).astype(np.float32)
    geometry = Geometry.from_parts(
        shape=values.shape, spacing_mm=(0.8, 0.8, 2.5), origin_lps=(0.0, 0.0, 0.0)
    )
    volume = Volume(id="image", array=values, geometry=geometry)
    ref = VolumeRef(id="image", decode=lambda _: volume, geometry=geometry, modality="")
    return Study(case_id="case", kind=kind, study_uid="", volumes=(ref,)), volume


def answer(bundle: Path, kind: str = "nifti") -> Any:
    case, volume = study(kind)
    analyser = load_predictor(bundle, device="cpu")
    assert isinstance(analyser, PlansPredictor)
    assert list(analyser.select(case)) == list(case.volumes)
    return analyser.analyse(case, [volume])


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_import_and_answer(tmp_path: Path, dimensions: int, residual: bool) -> None:
    folder = write_folder(
        tmp_path / "model", plans=plans(dimensions=dimensions, residual=residual), dataset=dataset()
    )
    settings = import_nnunet(folder, tmp_path / "bundle")
    verify_bundle(tmp_path / "bundle")
    assert [(s.label, s.name) for s in settings.segments] == [(1, "liver"), (2, "odd_organ")]
    codes = [segment.code.value if segment.code else None for segment in settings.segments]
    assert codes == ["10200004", None]
    prediction = answer(tmp_path / "bundle")
    labels = prediction.volumes[0].label_map
    assert labels.shape == (13, 12, 9)
    assert set(np.unique(labels)) <= {0, 1, 2}
    assert len(np.unique(labels)) > 1
    assert [segment.voxels for segment in prediction.segments] == [
        int((labels == label).sum()) for label in (1, 2)
    ]


def test_weights_are_kept_to_the_last_bit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    import_nnunet(folder, tmp_path / "bundle")
    stated = torch.load(
        folder / "fold_0" / "checkpoint_final.pth",
        weights_only=False,
    )["network_weights"]
    for name, value in load_bundle(tmp_path / "bundle").net.backbone.state_dict().items():
        assert torch.equal(value, stated[name]), name


def test_folds_are_averaged(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(), folds=("0", "1"))
    settings = import_nnunet(folder, tmp_path / "both")
    assert settings.folds == ("weights_fold1.safetensors",)
    verify_bundle(tmp_path / "both")
    first, second = load_folds(load_bundle(tmp_path / "both"))
    assert not torch.equal(
        first.state_dict()["backbone.decoder.seg_layers.0.weight"],
        second.state_dict()["backbone.decoder.seg_layers.0.weight"],
    )
    import_nnunet(folder, tmp_path / "one", choices=NnunetChoices(folds=("1",)))
    both = answer(tmp_path / "both").volumes[0].label_map
    one = answer(tmp_path / "one").volumes[0].label_map
    assert (both != one).any()
    with pytest.raises(BundleError, match="found fold 0, 1, expected 4"):
        import_nnunet(folder, tmp_path / "x", choices=NnunetChoices(folds=("4",)))


def test_a_gap_between_the_folds_is_a_copy_that_is_not_whole(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "model", plans=plans(), dataset=dataset(), folds=("0", "1", "2")
    )
    shutil.rmtree(folder / "fold_1")
    with pytest.raises(BundleError, match="found fold 0, 2, expected 1 too") as refused:
        import_nnunet(folder, tmp_path / "bundle")
    check_wording(str(refused.value))
    assert not (tmp_path / "bundle").exists()
    settings = import_nnunet(folder, tmp_path / "two", choices=NnunetChoices(folds=("0", "2")))
    assert settings.folds == ("weights_fold2.safetensors",)


def test_regions_are_painted_in_their_order_and_measured_whole(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(**REGIONS), outputs=2)
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert [segment.name for segment in settings.segments] == ["heart_remainder", "lv"]
    prediction = answer(tmp_path / "bundle")
    labels = prediction.volumes[0].label_map
    voxel_ml = 0.8 * 0.8 * 2.5 / 1000
    assert {m.name: m.value for m in prediction.measurements} == pytest.approx(
        {"heart_whole": (labels > 0).sum() * voxel_ml, "lv_whole": (labels == 2).sum() * voxel_ml}
    )


def test_mirroring_can_be_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    with_views = import_nnunet(folder, tmp_path / "a").sliding_window
    without = import_nnunet(
        folder, tmp_path / "b", choices=NnunetChoices(has_mirroring=False)
    ).sliding_window
    assert with_views is not None
    assert without is not None
    assert (with_views.mirror_axes, without.mirror_axes) == ((0, 1, 2), ())


def test_dicom_is_warned_of_an_orientation_that_nobody_stated(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    import_nnunet(folder, tmp_path / "source")
    import_nnunet(folder, tmp_path / "ras", choices=NnunetChoices(orientation="RAS"))

    def codes(name: str, kind: str) -> set[str]:
        return {flag.code for flag in answer(tmp_path / name, kind).flags}

    assert "orientation-not-stated" in codes("source", "dicom")
    assert "orientation-not-stated" not in codes("source", "nifti")
    assert "orientation-not-stated" not in codes("ras", "dicom")


def test_plans_before_the_architecture_was_written_down(tmp_path: Path) -> None:
    new = plans()
    old = json.loads(json.dumps(new))
    own = old["configurations"]["3d_fullres"]
    arguments = own.pop("architecture")["arch_kwargs"]
    own |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": arguments["n_conv_per_stage"],
        "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"],
        "conv_kernel_sizes": arguments["kernel_sizes"],
        "pool_op_kernel_sizes": arguments["strides"],
    }
    folder = write_folder(tmp_path / "model", plans=new, dataset=dataset())
    first = import_nnunet(folder, tmp_path / "new")
    (folder / "plans.json").write_text(json.dumps(old))
    assert import_nnunet(folder, tmp_path / "old").network == first.network


def test_no_uncertainty_is_promised(tmp_path: Path) -> None:
    import_nnunet(
        write_folder(tmp_path / "model", plans=plans(), dataset=dataset()), tmp_path / "bundle"
    )
    with pytest.raises(ConfigError, match="an imported model has none"):
        load_predictor(tmp_path / "bundle", uncertainty="tta")


def test_a_folder_given_as_model_is_imported_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    assert is_nnunet_folder(folder)
    first = cached_import(folder, cache=tmp_path / "cache")
    stamp = (first / "bundle.toml").stat().st_mtime_ns
    assert cached_import(folder, cache=tmp_path / "cache") == first
    assert (first / "bundle.toml").stat().st_mtime_ns == stamp
    assert not is_nnunet_folder(first)
    (first / "weights.safetensors").write_bytes(b"damaged")
    assert cached_import(folder, cache=tmp_path / "cache") == first  # made anew
    verify_bundle(first)
    (folder / "dataset.json").write_text(json.dumps(dataset(description="another")))
    assert cached_import(folder, cache=tmp_path / "cache") != first


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "was-executed"
    folder = write_folder(
        tmp_path / "model", plans=plans(), dataset=dataset(), extra=Hostile(target)
    )
    with pytest.raises(BundleError, match=r"name \S+, which would be executed"):
        import_nnunet(folder, tmp_path / "bundle")
    assert not target.exists()
    assert not (tmp_path / "bundle").exists()
    torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert target.exists()


def test_the_allowed_names_are_inert(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    logged = read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")["logging"]
    for value in (logged["mean_fg_dice"][0], logged["epoch_start"][0]):
        assert type(value).__name__ == "scalar"
        assert not isinstance(value, np.generic)


def check_wording(text: str) -> None:
    """One line: what was found, what was expected, and then what to do."""
    assert "\n" not in text
    assert re.search(r"found .*expected .*[.;] [A-Z].*\.\Z", text), text


def _cut(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(path.read_bytes()[:-2000])


def _empty(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"")


def _nan(folder: Path) -> None:
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    next(iter(content["network_weights"].values())).fill_(float("nan"))
    torch.save(content, path)


def _architecture(**fields: Any) -> Any:
    def edit(folder: Path) -> None:
        path = folder / "plans.json"
        content = json.loads(path.read_text())
        content["configurations"]["3d_fullres"]["architecture"] |= fields
        path.write_text(json.dumps(content))

    return edit


def _edit(name: str, **fields: Any) -> Any:
    def edit(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return edit


def _configure(**fields: Any) -> Any:
    def edit(folder: Path) -> None:
        path = folder / "plans.json"
        content = json.loads(path.read_text())
        content["configurations"]["3d_fullres"] |= fields
        path.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "plans.json").unlink(),
            r"plans.json that cannot be read \(no",
        ),
        (
            lambda folder: (folder / "dataset.json").write_text("{"),
            "dataset.json that cannot be read",
        ),
        (lambda folder: shutil.rmtree(folder / "fold_0"), "found fold none"),
        (
            lambda folder: next(folder.rglob("*.pth")).unlink(),
            "found fold_0 without checkpoint",
        ),
        (lambda folder: (folder / "plans.pkl").touch(), r"nnU-Net v1 \(plans.pkl\)"),
        (_cut, "damaged or shortened file"),
        (_empty, "damaged or shortened file"),
        (lambda folder: (folder / "plans.json").write_text("[]"), "found list in plans.json"),
        (_edit("dataset.json", labels={"background": 0, "a": "x"}), "a label that is no number"),
        (_edit("dataset.json", labels={"background": 0, "A": 1, "a": 2}), "two labels of one name"),
        (_architecture(network_class_name="nets.Primus"), "network Primus, expected PlainConvUNet"),
        (_architecture(arch_kwargs={}), "an architecture without|norm_op = None"),
        (_configure(architecture="new in version 9"), "an architecture without"),
        (_configure(inherits_from="3d_other"), "no configuration '3d_other'"),
        (_nan, "weights that are no numbers"),
        (_edit("plans.json", configurations={}), "no configuration '3d_fullres'"),
        (_configure(previous_stage="3d_lowres"), "found a cascade after 3d_lowres"),
        (_configure(preprocessor_name="My"), "preprocessor_name = 'My'"),
        (_configure(resampling_fn_data="fast"), "resampling_fn_data = 'fast'"),
        (_configure(normalization_schemes=["RGBTo01Normalization"]), "RGBTo01Normalization"),
        (_configure(normalization_schemes=["a", "b"]), "schemes of 2 channels, expected 1"),
        (_configure(patch_size=[8]), "no usable patch_size"),
        (_edit("plans.json", image_reader_writer="Tiff3DIO"), "image_reader_writer = 'Tiff3DIO'"),
        (_edit("plans.json", transpose_forward=[0, 0, 1]), "must hold 0, 1 and 2"),
        (_edit("dataset.json", labels={"background": 0, "a": 1, "b": 3}), "without gap"),
        (
            _edit("dataset.json", labels={"background": 0, "a": 1}),
            r"seg_layers.0.bias: found \(3",
        ),
        (_edit("dataset.json", labels={"a": 1}), "background = 0"),
        (
            _edit("dataset.json", labels={"background": 0, "a": [1, 2], "b": 2}),
            "regions_class_order = None",
        ),
        (_edit("dataset.json", channel_names={"0": "CT", "1": "PET"}), "of 1 channels, expected 2"),
        (_edit("dataset.json", channel_names={"0": "CT", "2": "PET"}), "a name for each of 0, 1"),
        (_edit("dataset.json", channel_names={"0": "T1", "1": "t1"}), "expected 2 different names"),
        (_edit("dataset.json", channel_names={}), r"found channel_names = \{\}"),
        (_edit("dataset.json", channel_names={"0": "zscore"}), "--modality CT or MR or PT"),
    ],
)
def test_what_does_not_fit_is_named_and_leaves_nothing(
    tmp_path: Path, damage: Any, message: str
) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    damage(folder)
    with pytest.raises(BundleError, match=message) as refused:
        import_nnunet(folder, tmp_path / "out" / "bundle")
    check_wording(str(refused.value))
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_folds_of_different_trainings_and_a_taken_place_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset())
    other = write_folder(
        tmp_path / "other", plans=plans(), dataset=dataset(), trainer_name="nnUNetTrainerOther"
    )
    shutil.move(other / "fold_0", folder / "fold_1")
    with pytest.raises(BundleError, match="different trainer"):
        import_nnunet(folder, tmp_path / "bundle")
    import_nnunet(folder, tmp_path / "bundle", choices=NnunetChoices(folds=("0",)))
    with pytest.raises(OutputError, match="exists already"):
        import_nnunet(folder, tmp_path / "bundle", choices=NnunetChoices(folds=("0",)))
