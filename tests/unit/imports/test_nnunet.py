"""A model folder of nnU-Net becomes a bundle that answers, or is refused by name."""

from __future__ import annotations

import json
import pickle
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
from medmtl.imports.nnunet_network import network_of
from medmtl.inference.bundle import load_bundle, load_folds, verify_bundle
from medmtl.inference.plans_predictor import PlansPredictor
from medmtl.inference.predictor import load_predictor
from medmtl.transforms.plans import Resampling
from tests.nnunet_folder import dataset, plans, write_folder

ARCHITECTURE = plans()["configurations"]["3d_fullres"]["architecture"]
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


def test_fold_0_is_missed_only_where_several_folds_are_there(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path / "model", plans=plans(), dataset=dataset(), folds=("1", "2", "10")
    )
    with pytest.raises(BundleError, match="found fold 1, 2, 10, expected 0, 3, 4, 5, 6, 7, 8, 9"):
        import_nnunet(folder, tmp_path / "x")
    shutil.rmtree(folder / "fold_10")
    with pytest.raises(BundleError, match="found fold 1, 2, expected 0 too"):
        import_nnunet(folder, tmp_path / "x")
    shutil.rmtree(folder / "fold_1")
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert settings.source == "checkpoint_final.pth of fold 2"


def test_a_fold_is_named_with_or_without_its_prefix_and_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(), folds=("0", "1"))
    chosen = NnunetChoices(folds=("fold_1", "0"))
    settings = import_nnunet(folder, tmp_path / "bundle", choices=chosen)
    assert settings.source == "checkpoint_final.pth of folds 1, 0"
    assert settings.source in (tmp_path / "bundle" / "card.md").read_text()
    for twice in (("0", "0"), ("0", "fold_0")):
        with pytest.raises(BundleError, match="found fold 0 named twice") as refused:
            import_nnunet(folder, tmp_path / "x", choices=NnunetChoices(folds=twice))
        check_wording(str(refused.value))


def test_best_and_final_checkpoints_are_not_mixed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(), folds=("0", "1"))
    final, best = "checkpoint_final.pth", "checkpoint_best.pth"
    shutil.copy(folder / "fold_0" / final, folder / "fold_0" / best)
    (folder / "fold_1" / final).rename(folder / "fold_1" / best)
    with pytest.raises(BundleError, match=f"found fold_1 without {final}, .* fold_0") as refused:
        import_nnunet(folder, tmp_path / "x")
    check_wording(str(refused.value))
    settings = import_nnunet(folder, tmp_path / "a", choices=NnunetChoices(checkpoint=best))
    assert settings.source == f"{best} of folds 0, 1"
    (folder / "fold_0" / final).unlink()
    assert import_nnunet(folder, tmp_path / "b").source == f"{best} of folds 0, 1"


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


def test_3d_lowres_is_imported_as_it_is(tmp_path: Path) -> None:
    content = plans(spacing=[2.0, 2.0, 2.0], patch_size=[8, 4, 8])
    full = content["configurations"].pop("3d_fullres")
    content["configurations"] = {
        "3d_lowres": full | {"next_stage": "3d_cascade_fullres"},
        "3d_fullres": full | {"spacing": [1.0, 1.0, 1.0]},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    folder = write_folder(tmp_path / "model", plans=content, dataset=dataset())
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert settings.version == "nnUNetTrainer-3d_lowres"
    assert settings.preprocessing.spacing_mm == (2.0, 2.0, 2.0)  # type: ignore[union-attr]
    assert answer(tmp_path / "bundle").volumes[0].label_map.shape == (13, 12, 9)


def test_a_configuration_takes_what_it_does_not_say_from_another(tmp_path: Path) -> None:
    content = plans(spacing=[2.0, 2.0, 2.0])
    content["configurations"] = {
        "3d_small": {"inherits_from": "3d_base", "patch_size": [4, 8, 8]},
        "3d_base": {"inherits_from": "3d_fullres", "spacing": [1.5, 1.5, 1.5]},
        **content["configurations"],
    }
    folder = write_folder(tmp_path / "model", plans=content, dataset=dataset())
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert settings.sliding_window is not None
    assert settings.sliding_window.patch_size == (4, 8, 8)
    assert settings.preprocessing.spacing_mm == (1.5, 1.5, 1.5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("stated", "found"),
    [
        (None, Resampling(order=3)),  # as the planner writes it
        ({}, Resampling(order=3, force_separate_z=False)),  # as nnU-Net's function has it
        ({"order": 1}, Resampling(order=1, force_separate_z=False)),
        ({"order": 1, "force_separate_z": None, "is_seg": False}, Resampling(order=1)),
        (
            {"force_separate_z": None, "separate_z_anisotropy_threshold": 5, "order_z": 1},
            Resampling(order=3, order_z=1, anisotropy=5),
        ),
    ],
)
def test_options_of_resampling_are_nnunets(tmp_path: Path, stated: Any, found: Resampling) -> None:
    content = plans(resampling_fn_data_kwargs=stated)
    folder = write_folder(tmp_path / "model", plans=content, dataset=dataset())
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert settings.preprocessing.data == found  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("residual", "name"),
    [
        (False, "dynamic_network_architectures.architectures.unet.PlainConvUNet"),
        (True, "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"),
        (True, "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"),
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        {"conv_op": "torch.nn.Conv3d", "norm_op": "torch.nn.InstanceNorm3d"},
        {"norm_op_kwargs": {"affine": True}, "nonlin_kwargs": None},
        {"nonlin_kwargs": {"negative_slope": 0.01, "inplace": True}},
    ],
)
def test_names_and_options_that_are_the_same_network(
    residual: bool, name: str, arguments: dict[str, Any]
) -> None:
    configuration = plans(residual=residual)["configurations"]["3d_fullres"]
    expected = network_of(configuration)
    configuration["architecture"]["network_class_name"] = name
    configuration["architecture"]["arch_kwargs"] |= arguments
    assert network_of(configuration) == expected


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


@pytest.mark.parametrize(
    ("content", "folds", "option"),
    [
        (dataset(channel_names={"0": "T2 weighted"}), ("0",), "--modality"),
        (dataset(), ("0", "2"), "--folds"),
    ],
)
def test_a_refusal_on_the_fly_names_the_command_that_has_the_option(
    tmp_path: Path, content: dict[str, Any], folds: tuple[str, ...], option: str
) -> None:
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=content, folds=folds)
    command = f"`medmtl models import nnunet {folder} -o BUNDLE {option} ...` first"
    with pytest.raises(BundleError, match=re.escape(command)):
        cached_import(folder, cache=tmp_path / "cache")


@pytest.mark.parametrize("sign", ["plans.json", "dataset.json", "plans.pkl", "fold_0/any"])
def test_half_a_folder_is_known_as_one(tmp_path: Path, sign: str) -> None:
    assert not is_nnunet_folder(tmp_path)
    (tmp_path / sign).parent.mkdir(exist_ok=True)
    (tmp_path / sign).touch()
    assert is_nnunet_folder(tmp_path)
    (tmp_path / "bundle.toml").touch()
    assert not is_nnunet_folder(tmp_path)


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
    with pytest.raises(BundleError, match=r"name \S+, which would be executed") as refused:
        import_nnunet(folder, tmp_path / "bundle")
    check_wording(str(refused.value))
    assert not target.exists()
    assert not (tmp_path / "bundle").exists()
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    assert target.exists()
    del content["extra"]  # as the refusal advises
    torch.save(content, path)
    import_nnunet(folder, tmp_path / "bundle")


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


def _checkpoint(content: bytes) -> Any:
    return lambda folder: (folder / "fold_0" / "checkpoint_final.pth").write_bytes(content)


def _entries(**fields: Any) -> Any:
    def edit(folder: Path) -> None:
        path = folder / "fold_0" / "checkpoint_final.pth"
        torch.save(torch.load(path, weights_only=False) | fields, path)

    return edit


def _weight(make: Any) -> Any:
    """The first weight made into something else."""

    def edit(folder: Path) -> None:
        path = folder / "fold_0" / "checkpoint_final.pth"
        content = torch.load(path, weights_only=False)
        name, value = next(iter(content["network_weights"].items()))
        content["network_weights"][name] = make(value)
        torch.save(content, path)

    return edit


def _architecture(**fields: Any) -> Any:
    return _configure(architecture=ARCHITECTURE | fields)


def _arguments(**fields: Any) -> Any:
    return _architecture(arch_kwargs=ARCHITECTURE["arch_kwargs"] | fields)


def _intensities(**fields: float) -> Any:
    """Of the only channel, a CT, over a whole data set."""
    content = plans(normalization_schemes=["CTNormalization"])
    content["foreground_intensity_properties_per_channel"]["0"] |= fields
    return _edit("plans.json", **content)


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
        *(
            (_checkpoint(content), "damaged or shortened file, or one that torch did not write")
            for content in (
                b"",
                b"PK\x03",
                b"<!DOCTYPE html><html></html>",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
                np.random.default_rng(0).bytes(500),
                pickle.dumps({"network_weights": {}}),
            )
        ),
        (_entries(network_weights=[1]), "found an entry of another kind"),
        (_entries(init_args={}), "found no 'configuration'"),
        (_entries(inference_allowed_mirroring_axes=(0, 5)), r"mirroring of axes \(0, 5\)"),
        (_weight(lambda _: [1.0]), "found a list, no tensor"),
        (_weight(lambda value: value.to_sparse()), r"found \(4, 1, 3, 3, 3\), not dense"),
        (_weight(lambda value: value.int()), "of torch.int32"),
        (_weight(lambda value: value.to(torch.complex64)), "of torch.complex64"),
        (_weight(lambda value: value.fill_(float("nan"))), "weights that are no numbers"),
        (lambda folder: (folder / "plans.json").write_text("[]"), "found list in plans.json"),
        *(
            (_edit("dataset.json", labels={"background": 0, "a": value}), "label that is no number")
            for value in ("x", 1.7, True, None, [1.7])
        ),
        (_edit("dataset.json", labels={"background": 0, "a": [1, 2.5]}), "region that is no list"),
        (
            _edit("dataset.json", labels={"background": 0, "a": [0, 1]}, regions_class_order=[1]),
            "a label outside 1 to 65535",
        ),
        (_edit("dataset.json", labels={"background": 0, "A": 1, "a": 2}), "two labels of one name"),
        *(
            (_architecture(network_class_name=name), f"network_class_name = {name!r}")
            for name in ("nets.Primus", "my.own.PlainConvUNet", "PlainConvUNet", None)
        ),
        (_architecture(arch_kwargs={}), "nonlin = not stated"),
        (_architecture(arch_kwargs=None), "arch_kwargs = None, expected a table"),
        (_architecture(arch_kwargs=[1]), r"arch_kwargs = \[1\], expected a table"),
        (_configure(architecture="new in version 9"), "architecture = 'new .* expected a table"),
        (_configure(architecture={}), "an architecture without 'network_class_name'"),
        (_arguments(conv_op="Conv3dFoo"), "conv_op = 'Conv3dFoo'"),
        (_arguments(norm_op="my.FancyInstanceNorm3d"), "norm_op = 'my.FancyInstanceNorm3d'"),
        (_arguments(norm_op="torch.nn.InstanceNorm2d"), "norm_op = 'torch.nn.InstanceNorm2d'"),
        (_arguments(norm_op_kwargs=[1]), "norm_op_kwargs = .* expected a table"),
        (_arguments(norm_op_kwargs=None), "norm_op_kwargs.affine = not stated"),
        (_arguments(norm_op_kwargs={"affine": False}), "norm_op_kwargs.affine = False"),
        (_arguments(norm_op_kwargs={"affine": True, "eps": 1e-3}), "norm_op_kwargs.eps = 0.001"),
        (
            _arguments(norm_op_kwargs={"affine": True, "track_running_stats": True}),
            "norm_op_kwargs.track_running_stats = True",
        ),
        (_arguments(nonlin_kwargs={"negative_slope": 0.2}), "nonlin_kwargs.negative_slope = 0.2"),
        (_arguments(n_stages="x"), "n_stages = 'x', expected a whole number"),
        (_arguments(strides=None), "strides = None, expected a list"),
        (_arguments(features_per_stage=[4, "x"]), r"fit together \(filters.1: "),
        *(
            (_edit("plans.json", configurations={"3d_fullres": value}), "expected a table")
            for value in (None, [1], 3)
        ),
        (_configure(inherits_from=[1]), r"no configuration \[1\]"),
        (_configure(inherits_from="3d_other"), "no configuration '3d_other'"),
        (_edit("plans.json", configurations={}), "no configuration '3d_fullres'"),
        (_configure(previous_stage="3d_lowres"), "found a cascade after 3d_lowres"),
        (_configure(preprocessor_name="My"), "preprocessor_name = 'My'"),
        (_configure(resampling_fn_data="fast"), "resampling_fn_data = 'fast'"),
        (_configure(normalization_schemes=["RGBTo01Normalization"]), "RGBTo01Normalization"),
        (_configure(normalization_schemes=["a", "b"]), "schemes of 2 channels, expected 1"),
        (_configure(normalization_schemes=None), "normalization_schemes = None, expected a list"),
        (_configure(normalization_schemes=3), "normalization_schemes = 3, expected a list"),
        (_configure(use_mask_for_norm=3), "use_mask_for_norm = 3, expected a list"),
        (_configure(resampling_fn_data_kwargs=[1]), "resampling_fn_data_kwargs = .* a table"),
        (
            _configure(resampling_fn_probabilities_kwargs="x"),
            "resampling_fn_probabilities_kwargs = 'x', expected a table",
        ),
        (
            _configure(resampling_fn_data_kwargs={"order": 3, "mode": "wrap"}),
            "an option of resampling_fn_data_kwargs = 'mode'",
        ),
        (
            _configure(resampling_fn_data_kwargs={"order": 3, "is_seg": True}),
            "resampling_fn_data_kwargs.is_seg = 'True'",
        ),
        (_configure(resampling_fn_data_kwargs={"order": "x"}), "unusable preprocessing"),
        *(
            (_intensities(**{name: value}), "unusable preprocessing")
            for name, value in (
                ("mean", float("nan")),
                ("std", float("inf")),
                ("std", -1.0),
                ("percentile_00_5", 5000.0),
                ("percentile_99_5", float("-inf")),
            )
        ),
        (_configure(spacing=[1.0, 1.0, float("inf")]), "unusable preprocessing"),
        (_configure(patch_size=[8, 8, 7]), r"patch_size of \(8, 8, 7\), expected multiples of"),
        (_arguments(squeeze_excitation=True), "squeeze_excitation = True"),
        (_arguments(secret=1), "a setting of arch_kwargs = 'secret'"),
        (
            _entries(inference_allowed_mirroring_axes=(0, 0, 1)),
            r"mirroring of axes \(0, 0, 1\), expected different axes",
        ),
        (_configure(patch_size=[8]), "an unusable patch_size"),
        (_configure(patch_size=None), "an unusable patch_size"),
        (_edit("plans.json", image_reader_writer="Tiff3DIO"), "image_reader_writer = 'Tiff3DIO'"),
        (_edit("plans.json", transpose_forward=[0, 0, 1]), "must hold 0, 1 and 2"),
        (_edit("dataset.json", labels={"background": 0, "a": 1, "b": 3}), "without gap"),
        (
            _edit("dataset.json", labels={"background": 0, "a": 1}),
            r"seg_layers.0.bias: found \(3",
        ),
        (_edit("dataset.json", labels={"a": 1}), "background = 0"),
        (_edit("dataset.json", labels={"background": "x", "a": 1}), "background = 0"),
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
