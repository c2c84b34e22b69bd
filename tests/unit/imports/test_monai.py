"""A MONAI bundle by its literals, with the answer of MONAI's own steps; code in it is refused."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data.meta_tensor import MetaTensor

from medmtl.core.errors import BundleError
from medmtl.core.geometry import Geometry
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.imports.monai import MonaiChoices, import_monai
from medmtl.inference.bundle import load_bundle, verify_bundle
from medmtl.inference.monai_predictor import MonaiPredictor
from medmtl.inference.predictor import load_predictor
from medmtl.inference.routes import MonaiRoute
from medmtl.networks.monai_nets import MonaiNetConfig
from medmtl.transforms.monai_plan import MonaiPreprocessing
from tests.monai_folder import METADATA, NETWORKS, monai_config, write_monai

CROPPED = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
NORMALISED = {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
SCALED = {"_target_": "ScaleIntensityd", "keys": "image"}
LABELS_FIRST = [monai_config()["postprocessing"]["transforms"][at] for at in (0, 2, 1)]
"""As the whole-body model of the zoo does: the largest class, then its way back, nearest."""


def volume() -> Volume:
    values = np.random.default_rng(0).normal(50, 80, (14, 13, 9)).astype(np.float32)
    geometry = Geometry.from_parts(
        shape=values.shape, spacing_mm=(1.0, 1.0, 2.5), origin_lps=(0.0, 0.0, 0.0)
    )
    return Volume(id="image", array=values, geometry=geometry)


def answer(bundle: Path) -> Any:
    analyser = load_predictor(bundle, device="cpu")
    assert isinstance(analyser, MonaiPredictor)
    case = Study(case_id="case", kind="nifti", study_uid="", volumes=())
    return analyser.analyse(case, [volume()]).volumes[0].label_map


def test_a_member_of_an_ensemble_answers_beside_another_case(tmp_path: Path) -> None:
    """Networks are given along: two cases of a batch go over one route at the same time."""
    write_monai(tmp_path / "monai", monai_config("SegResNet"), "SegResNet")
    import_monai(tmp_path / "monai", tmp_path / "bundle")
    bundle, other = (load_bundle(tmp_path / "bundle") for _ in range(2))
    device = torch.device("cpu")
    route = MonaiRoute(bundle, device=device)
    kept = vars(route.masks).copy()
    with torch.no_grad():
        for weight in other.net.parameters():
            weight.add_(torch.randn_like(weight) / 10)
    image = torch.randn(8, 16, 16)
    found = route.logits(other.net, image, mirrors=False)
    assert torch.equal(
        found, MonaiRoute(other, device=device).logits(other.net, image, mirrors=False)
    )
    assert not torch.equal(found, route.logits(bundle.net, image, mirrors=False))
    assert vars(route.masks) == kept


@pytest.mark.parametrize("network", list(NETWORKS))
def test_every_network_answers(tmp_path: Path, network: str) -> None:
    folder = write_monai(tmp_path / "monai", monai_config(network), network)
    settings = import_monai(folder, tmp_path / "bundle")
    verify_bundle(tmp_path / "bundle")
    assert [segment.name for segment in settings.segments] == ["spleen", "odd_one"]
    assert settings.segments[0].code is not None
    assert answer(tmp_path / "bundle").shape == (14, 13, 9)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("postprocessing#transforms#1#nearest_interp", True),
        ("postprocessing#transforms#1#nearest_interp", False),
        ("postprocessing#transforms", LABELS_FIRST),
        ("inferer#sigma_scale", 0.5),
        ("inferer#padding_mode", "replicate"),
        ("inferer#cval", 2.0),
    ],
)
def test_the_answer_is_that_of_monai_itself(tmp_path: Path, path: str, value: Any) -> None:
    """MONAI evaluates the same config, code left out; every voxel is the same."""
    content = _with(path, value)
    if path.startswith("inferer"):  # longer than the image, which is padded
        content["inferer"]["roi_size"] = [16, 8, 8]
    folder = write_monai(tmp_path / "monai", content)
    import_monai(folder, tmp_path / "bundle")
    labels = of_monai(folder, content)[0].numpy()
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(answer(tmp_path / "bundle"), labels)


def test_labels_that_monai_never_inverts_are_those_of_its_file(tmp_path: Path) -> None:
    """`SaveImaged` takes them to the source grid, if it is told to resample."""
    content = monai_config()
    soft, _, labels = content["postprocessing"]["transforms"]
    save: dict[str, Any] = {"_target_": "SaveImaged", "keys": "pred", "resample": True}
    save["output_dir"] = str(tmp_path / "out")
    content["postprocessing"]["transforms"] = [soft, labels, save]
    folder = write_monai(tmp_path / "monai", content)
    import_monai(folder, tmp_path / "bundle")
    of_monai(folder, content)
    (written,) = (tmp_path / "out").rglob("*.nii.gz")
    file = np.asarray(nib.load(written).dataobj)
    assert len(np.unique(file)) > 1
    np.testing.assert_array_equal(answer(tmp_path / "bundle"), file)
    save["mode"] = "bilinear"
    other = write_monai(tmp_path / "other", content)
    with pytest.raises(BundleError, match="without Invert whose SaveImage has mode 'bilinear'"):
        import_monai(other, tmp_path / "none")


def of_monai(folder: Path, content: dict[str, Any]) -> torch.Tensor:
    """What MONAI makes of the volume by the config, code left out."""
    parser = ConfigParser(content | {"device": "cpu"})
    net = parser.get_parsed_content("network_def").eval()
    net.load_state_dict(torch.load(folder / "models" / "model.pt"))
    steps = content["preprocessing"] | {"transforms": content["preprocessing"]["transforms"][2:]}
    parser = ConfigParser(content | {"device": "cpu", "preprocessing": steps})
    transforms = parser.get_parsed_content("preprocessing")
    source = volume()
    affine = torch.from_numpy(source.geometry.affine_ras.copy())
    meta = {"original_affine": affine, "spatial_shape": source.array.shape}  # as a reader says
    image = MetaTensor(torch.from_numpy(source.array)[None], affine=affine, meta=meta)
    data = transforms({"image": image})
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], net)[0]
    found: torch.Tensor = parser.get_parsed_content("postprocessing")(data)["pred"]
    return found


def test_code_where_nobody_looks_is_left_alone(tmp_path: Path) -> None:
    """Other entries, imports, devices, portions, and the files that MONAI writes."""
    target = tmp_path / "was-executed"
    evil = f"$__import__('pathlib').Path({str(target)!r}).touch()"
    content = monai_config() | {"evil": evil, "imports": [evil, "$import scripts"]}
    content["inferer"] |= {"device": evil, "sw_batch_size": evil}
    content["preprocessing"]["transforms"][5]["device"] = evil
    content["postprocessing"]["transforms"] += [
        {"_target_": "SaveImaged", "keys": "pred", "output_dir": evil},
    ]
    import_monai(write_monai(tmp_path / "monai", content), tmp_path / "bundle")
    assert not target.exists()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network_def#_target_", "monai.networks.nets.SegResNet"),
        ("inferer#_target_", "monai.inferers.SlidingWindowInferer"),
        ("preprocessing#_target_", "monai.transforms.Compose"),
        ("preprocessing#transforms#3#_target_", "monai.transforms.SpacingDict"),
        ("preprocessing#transforms#0#reader", "ITKReader"),
        ("preprocessing#transforms#0#_desc_", "reads the image"),
        ("network_def#_requires_", []),
        ("network_def#_mode_", "default"),
        ("inferer#_disabled_", False),
        ("postprocessing#transforms#2#threshold", [None]),
        ("postprocessing#transforms#2#to_onehot", 3),
    ],
)
def test_what_says_the_same_is_read_alike(tmp_path: Path, path: str, value: Any) -> None:
    plain = import_monai(write_monai(tmp_path / "plain", monai_config()), tmp_path / "one")
    other = import_monai(write_monai(tmp_path / "other", _with(path, value)), tmp_path / "two")
    assert (plain.network, plain.preprocessing) == (other.network, other.preprocessing)


@pytest.mark.parametrize("is_disabled", [True, " True"])
def test_a_disabled_transform_is_left_out(tmp_path: Path, is_disabled: Any) -> None:
    content = _with("preprocessing#transforms#3#_disabled_", is_disabled)
    settings = import_monai(write_monai(tmp_path / "monai", content), tmp_path / "bundle")
    assert isinstance(settings.preprocessing, MonaiPreprocessing)
    names = [step.transform for step in settings.preprocessing.steps]
    assert names == ["Orientation", "ScaleIntensityRange"]


def test_of_a_mode_for_each_key_the_one_of_the_image_is_taken(tmp_path: Path) -> None:
    content = _with("preprocessing#transforms#3#keys", ["label", "image"])
    content["preprocessing"]["transforms"][3]["mode"] = ["nearest", "bilinear"]
    settings = import_monai(write_monai(tmp_path / "monai", content), tmp_path / "bundle")
    assert isinstance(settings.preprocessing, MonaiPreprocessing)
    assert settings.preprocessing.steps[1].arguments["mode"] == "bilinear"


def test_null_is_left_out_where_it_is_the_default_of_monai(tmp_path: Path) -> None:
    content = _with("preprocessing#transforms#4#b_min", None)
    content["network_def"] |= {"dropout_prob": None, "img_size": None}
    settings = import_monai(write_monai(tmp_path / "monai", content), tmp_path / "bundle")
    assert isinstance(settings.network.backbone, MonaiNetConfig)
    assert "dropout_prob" not in settings.network.backbone.arguments
    assert isinstance(settings.preprocessing, MonaiPreprocessing)
    assert "b_min" not in settings.preprocessing.steps[2].arguments


@pytest.mark.parametrize(
    "order",
    [("argmax", "invert", "softmax"), ("invert", "softmax", "argmax"), ("invert", "argmax")],
)
def test_interpolation_of_what_is_no_probability_is_refused(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    content = monai_config()
    named = dict(
        zip(("softmax", "invert", "argmax"), content["postprocessing"]["transforms"], strict=True)
    )
    named["invert"]["nearest_interp"] = False
    content["postprocessing"]["transforms"] = [named[name] for name in order]
    folder = write_monai(tmp_path / "monai", content)
    with pytest.raises(BundleError, match="interpolates what are no probabilities"):
        import_monai(folder, tmp_path / "bundle")


@pytest.mark.parametrize("side", ["inputs#image", "outputs#pred"])
@pytest.mark.parametrize("stated", [5, True, "spleen", ["spleen"], None])
def test_class_and_channel_names_that_are_no_table_are_refused(
    tmp_path: Path, side: str, stated: Any
) -> None:
    metadata: Any = deepcopy(METADATA)
    outer, inner = side.split("#")
    metadata["network_data_format"][outer][inner]["channel_def"] = stated
    folder = write_monai(
        tmp_path / "monai", monai_config(in_channels=2), metadata=metadata, inputs=2
    )
    with pytest.raises(BundleError, match=r"metadata.json: .*channel_def") as refused:
        import_monai(folder, tmp_path / "out" / "bundle")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def _with(path: str, value: Any) -> dict[str, Any]:
    content = monai_config()
    *outer, last = path.split("#")
    at: Any = content
    for part in outer:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[int(last) if isinstance(at, list) else last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("network_def#init_filters", "$4 + 4", r"network_def#init_filters = '\$4 \+ 4'"),
        ("network_def", "$make()", r"network_def = '\$make\(\)', which would be evaluated"),
        ("network_def", "%other.json#net", "network_def = '%other.json#net'"),
        ("network_def#_target_", "os.system", "network_def = os.system, expected one of SegResNet"),
        ("network_def#act", {"_target_": "builtins.exec"}, "network_def#act = 'builtins.exec'"),
        ("network_def#in_channels", 4, "without names, expected 4 different names"),
        ("network_def#in_channels", "four", "numbers of channels"),
        ("network_def#secret", 1, "SegResNet has no argument secret"),
        ("pixdim", "$[1, 1, 1]", r"#pixdim = '\$\[1, 1, 1\]'"),
        ("preprocessing#transforms#3#pixdim", "@nothing", "refers to 'nothing', expected an entry"),
        ("preprocessing#transforms#3#pixdim", "@preprocessing#transforms#3#pixdim", "evaluated"),
        ("preprocessing#transforms", "$more", r"#transforms = '\$more'"),
        ("preprocessing#transforms#2#_target_", "Lambdad", "#2 = Lambdad, expected one of"),
        ("preprocessing#transforms#4#dtype", "x", "no literal argument dtype"),
        ("inferer#_target_", "SimpleInferer", "inferer = SimpleInferer"),
        ("inferer#overlap", 1.5, "overlap"),
        *(
            ("preprocessing#transforms#3", step, message)
            for step, message in (
                (CROPPED | {"margin": [1, 2]}, "margin"),
                (CROPPED | {"k_divisible": [4, 4]}, "k_divisible"),
                (NORMALISED | {"subtrahend": [1.0, 2.0]}, r"subtrahend = \[1.0, 2.0\]"),
                (NORMALISED | {"divisor": [1.0], "channel_wise": False}, r"divisor = \[1.0\]"),
            )
        ),
        ("postprocessing#transforms#0#sigmoid", True, "sigmoid = true, which may change the answ"),
        ("postprocessing#transforms#1#_target_", "FillHolesd", "FillHolesd, expected one of"),
        ("network_def#out_channels", 5, "each of the 5 outputs"),
        ("network_def#init_filters", 16, "found .*, expected"),
        ("network_def#_target_", "scripts.SegResNet", "network_def = scripts.SegResNet, expected"),
        ("network_def#_target_", "$monai.networks.nets.SegResNet", r"= \$monai.networks"),
        ("inferer#_target_", "my.SlidingWindowInferer", "inferer = my.SlidingWindowInferer"),
        ("preprocessing#_target_", "my.Compose", "preprocessing = my.Compose, expected Compose"),
        ("preprocessing#transforms#0#_target_", "my.LoadImaged", "#0 = my.LoadImaged"),
        ("preprocessing#transforms#2#_target_", "scripts.my.Orientationd", "= scripts.my.Orient"),
        ("postprocessing#transforms#0#_target_", "my.Activationsd", "#0 = my.Activationsd"),
        ("preprocessing#transforms#0", {"_target_": "my.Addd", "keys": "label"}, "#0 = my.Addd"),
        ("preprocessing#transforms#3#keys", "ct", r"#3#keys = \['ct'\], expected image"),
        ("preprocessing#transforms#3#keys", ["label", "img"], r"#3#keys = \['img'\]"),
        (
            "preprocessing#transforms#0",
            {"_target_": "ConcatItemsd", "keys": ["label", "pred"], "name": "image"},
            "#0 that makes image of",
        ),
        (
            "preprocessing#transforms#0",
            {"_target_": "CopyItemsd", "keys": "label", "names": ["one", "image"]},
            "#0 that makes image of",
        ),
        *(
            (f"{at}#{name}", value, rf"found {at}#{name}")
            for at in (
                "network_def",
                "inferer",
                "preprocessing",
                "preprocessing#transforms#0",
                "preprocessing#transforms#2",
                "postprocessing#transforms#2",
            )
            for name, value in (
                ("_requires_", "$x()"),
                ("_requires_", ["@network_def"]),
                ("_mode_", "callable"),
                ("_mode_", "$x"),
                ("_disabled_", "$x"),
            )
        ),
        ("network_def#_disabled_", True, "network_def#_disabled_ = true"),
        ("inferer#_disabled_", True, "inferer#_disabled_ = true"),
        ("postprocessing#_disabled_", "true", '#_disabled_ = "true", which may'),
        ("inferer#cval", "$x()", r"inferer#cval = '\$x\(\)', which would be evaluated"),
        ("inferer#cval", float("nan"), "window.cval"),
        ("inferer#padding_mode", "reflect", "window.padding_mode"),
        ("inferer#sigma_scale", 0, "window.sigma_scale"),
        ("inferer#with_coord", True, "inferer#with_coord = true, which may change"),
        ("inferer#secret", 1, "inferer#secret = 1, which may change .* expected no such argument"),
        ("postprocessing#transforms#0#softmax", "$x", r"softmax = '\$x'"),
        ("postprocessing#transforms#0#softmax", "yes", 'softmax = "yes", expected true or false'),
        ("postprocessing#transforms#0#other", "$torch.sigmoid", r"other = '\$torch.sigmoid'"),
        ("postprocessing#transforms#0#other", "sigmoid", 'other = "sigmoid", which may change'),
        ("postprocessing#transforms#1#transform", "$x", r"#transform = '\$x'"),
        ("postprocessing#transforms#1#transform", "@inferer", "that is not the preprocessing"),
        ("postprocessing#transforms#1#post_func", "$x", r"#post_func = '\$x'"),
        ("postprocessing#transforms#2#argmax", "$x", r"argmax = '\$x'"),
        ("postprocessing#transforms#2#threshold", 0, "threshold = 0, which may change"),
        ("preprocessing#lazy", True, "preprocessing#lazy = true, which may change"),
        ("preprocessing#transforms#0#reader", "$x()", r"reader = '\$x\(\)'"),
        (
            "preprocessing#transforms#0#reader",
            "my.Reader",
            "'my.Reader', expected a reader of MONA",
        ),
        ("preprocessing#transforms#0#dtype", "uint8", 'dtype = "uint8", which may change'),
        ("preprocessing#transforms#2#axcodes", "RLS", "Orientation takes one of R or L, of A or P"),
        *(
            ("pixdim", value, "Spacing takes positive numbers for pixdim, not")
            for value in ("x", [], [1, -1, 0], None, 0, True, float("nan"), [1, 1, "1"], [1] * 4)
        ),
        ("preprocessing#transforms#3", {"_target_": "Spacingd", "keys": "image"}, "pixdim"),
        ("preprocessing#transforms#3#mode", "cubic", "bilinear, nearest or the order of a spline"),
        ("preprocessing#transforms#4#a_min", "x", "ScaleIntensityRange takes a number for a_min"),
        ("preprocessing#transforms#4#clip", "True", "takes true or false for clip, not 'True'"),
        ("preprocessing#transforms#4", SCALED | {"minv": None}, "a number for minv, not None"),
        ("network_def#act", None, "SegResNet takes values for act: a bundle has no null"),
        ("network_def#act", ["relu", {"inplace": None}], "values for act: a bundle has no null"),
        ("network_def#_secret_", 1, "SegResNet has no argument _secret_"),
        ("pixdim", ["@pixdim"], "refers to itself"),
    ],
)
def test_what_is_no_literal_or_unknown_is_refused_by_name(
    tmp_path: Path, path: str, value: Any, message: str
) -> None:
    folder = write_monai(tmp_path / "monai", _with(path, value))
    with pytest.raises(BundleError, match=message) as refused:
        import_monai(folder, tmp_path / "out" / "bundle")
    text = str(refused.value)
    assert "\n" not in text
    assert re.search(r"found .*expected .*[.;] [A-Z].*\.\Z", text), text
    assert not (tmp_path / "out").exists()


def test_weights_cut_short_or_hostile_are_refused(tmp_path: Path) -> None:
    folder = write_monai(tmp_path / "monai", monai_config(), extra=Hostile(tmp_path / "executed"))
    with pytest.raises(BundleError, match="which would be executed"):
        import_monai(folder, tmp_path / "out" / "bundle")
    path = folder / "models" / "model.pt"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BundleError, match="damaged or shortened file"):
        import_monai(folder, tmp_path / "out" / "bundle")
    path.unlink()
    with pytest.raises(BundleError, match="no file that can be read"):
        import_monai(folder, tmp_path / "out" / "bundle")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out").exists()


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.target,)


def test_other_files_than_expected_are_refused(tmp_path: Path) -> None:
    folder = write_monai(tmp_path / "monai", monai_config(), extra="text")
    with pytest.raises(BundleError, match="no table of tensors"):
        import_monai(folder, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"found '\.yaml', expected .json"):
        import_monai(folder, tmp_path / "bundle", choices=MonaiChoices(config="inference.yaml"))
    (folder / "configs" / "metadata.json").unlink()
    with pytest.raises(BundleError, match=r"metadata.json: cannot be read \(no such file\)"):
        import_monai(folder, tmp_path / "bundle")
