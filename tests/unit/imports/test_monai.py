"""A MONAI bundle by its literals, with the answer of MONAI's own steps; code in it is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
from medmtl.inference.bundle import verify_bundle
from medmtl.inference.monai_predictor import MonaiPredictor
from medmtl.inference.predictor import load_predictor
from tests.monai_folder import NETWORKS, monai_config, write_monai


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


@pytest.mark.parametrize("network", list(NETWORKS))
def test_every_network_answers(tmp_path: Path, network: str) -> None:
    folder = write_monai(tmp_path / "monai", monai_config(network), network)
    settings = import_monai(folder, tmp_path / "bundle")
    verify_bundle(tmp_path / "bundle")
    assert [segment.name for segment in settings.segments] == ["spleen", "odd_one"]
    assert settings.segments[0].code is not None
    assert answer(tmp_path / "bundle").shape == (14, 13, 9)


@pytest.mark.parametrize("is_nearest", [True, False])
def test_the_answer_is_that_of_monai_itself(tmp_path: Path, is_nearest: bool) -> None:
    """MONAI evaluates the same config, code left out; every voxel is the same."""
    content = monai_config()
    content["postprocessing"]["transforms"][1]["nearest_interp"] = is_nearest
    folder = write_monai(tmp_path / "monai", content)
    import_monai(folder, tmp_path / "bundle")
    parser = ConfigParser(content | {"device": "cpu"})
    net = parser.get_parsed_content("network_def").eval()
    net.load_state_dict(torch.load(folder / "models" / "model.pt"))
    before = content["preprocessing"]["transforms"]
    content["preprocessing"]["transforms"] = before[2:]
    parser = ConfigParser(content | {"device": "cpu"})
    transforms = parser.get_parsed_content("preprocessing")
    source = volume()
    affine = torch.from_numpy(source.geometry.affine_ras.copy())
    data = transforms({"image": MetaTensor(torch.from_numpy(source.array)[None], affine=affine)})
    with torch.no_grad():
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], net)[0]
    labels = parser.get_parsed_content("postprocessing")(data)["pred"][0].numpy()
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(answer(tmp_path / "bundle"), labels)


def test_code_where_nobody_looks_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "was-executed"
    content = monai_config() | {"evil": f"$__import__('pathlib').Path({str(target)!r}).touch()"}
    import_monai(write_monai(tmp_path / "monai", content), tmp_path / "bundle")
    assert not target.exists()


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
        ("network_def#_target_", "os.system", "network_def = system, expected one of SegResNet"),
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
        ("postprocessing#transforms#0#sigmoid", True, "overlapping classes"),
        ("postprocessing#transforms#1#_target_", "FillHolesd", "FillHolesd, expected one of"),
        ("network_def#out_channels", 5, "each of the 5 outputs"),
        ("network_def#init_filters", 16, "found .*, expected"),
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
