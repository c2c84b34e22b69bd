"""Operating points of an imported network: what is left out changes nothing where it must not."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medmtl.core.errors import ConfigError
from medmtl.core.geometry import Geometry
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.data.volume_file import read_volume_file
from medmtl.imports.monai import import_monai
from medmtl.imports.nnunet import NnunetChoices, import_nnunet
from medmtl.inference.operating_point import SPEEDS
from medmtl.inference.predictor import load_predictor
from medmtl.transforms.plans import ChannelIntensity, PlansPreprocessing
from tests.miniatures import write_image
from tests.monai_folder import monai_config, write_monai
from tests.nnunet_folder import dataset, plans, write_folder

if TYPE_CHECKING:
    from medmtl.inference.plans_predictor import PlansPredictor


def volume(spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    """As large as one window of 8 or two, whatever they have in common; wider ones cost more."""
    values = np.random.default_rng(0).normal(40, 60, (12, 12, 8)).astype(np.float32)
    geometry = Geometry.from_parts(
        shape=values.shape, spacing_mm=spacing_mm, origin_lps=(0.0, 0.0, 0.0)
    )
    return Volume(id="image", array=values, geometry=geometry)


def smooth(spacing_mm: tuple[float, float, float]) -> Volume:
    """Something that changes slowly from voxel to voxel."""
    rough = volume(spacing_mm)
    return replace(rough, array=gaussian_filter(rough.array, 2.0) * 8)


def bundle(root: Path, **choices: Any) -> Path:
    folder = write_folder(root / "model", plans=plans(), dataset=dataset())
    import_nnunet(folder, root / "bundle", choices=NnunetChoices(**choices))
    return root / "bundle"


def labels(path: Path, image: Volume, **options: Any) -> Any:
    case = Study(case_id="case", kind="nifti", study_uid="", volumes=())
    analyser = load_predictor(path, device="cpu", **options)
    return analyser.analyse(case, [image]).volumes[0].label_map


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("orientation", ["source", "RAS"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_network_grid_lies_where_its_values_are(
    transpose: tuple[int, int, int], orientation: Any, axis: int
) -> None:
    """Each voxel of an image of a coordinate says where it lies, up to half a voxel at the ends."""
    shape, spacing_mm = (12, 10, 8), (1.0, 1.5, 2.0)
    geometry = Geometry.from_parts(
        shape=shape, spacing_mm=spacing_mm, origin_lps=(100.0, 200.0, 300.0)
    )
    index = np.moveaxis(np.indices(shape), 0, -1)
    where = index @ geometry.affine_lps[:3, :3].T + geometry.affine_lps[:3, 3]
    values = where[..., axis].copy()
    values[:2], values[:, -1] = 0, 0  # cropped away
    settings = PlansPreprocessing(
        orientation=orientation, transpose=transpose, spacing_mm=(1.0, 1.0, 1.0),
        channels=(ChannelIntensity(scheme="none"),),
    )  # fmt: skip
    prepared = settings.apply(Volume(values, geometry), is_linear=True)
    found = prepared.array_cabc[0].transpose(2, 1, 0)
    grid = prepared.geometry
    assert found.shape == grid.shape
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    expected = (index @ grid.affine_lps[:3, :3].T + grid.affine_lps[:3, 3])[..., axis]
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("speed", ["balanced", "fast"])
def test_where_nothing_is_resampled_or_mirrored_every_speed_is_the_same(
    tmp_path: Path, speed: str
) -> None:
    path = bundle(tmp_path, has_mirroring=False)
    best = labels(path, volume())
    assert len(np.unique(best)) > 1
    np.testing.assert_array_equal(labels(path, volume(), speed=speed), best)


def test_balanced_changes_little_and_keeps_the_mirrored_views(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    image = volume((0.8, 0.8, 1.2))
    best, balanced = labels(path, image), labels(path, image, speed="balanced")
    assert float((best == balanced).mean()) > 0.99
    fast = labels(path, image, speed="fast")
    assert (fast != balanced).mean() > (best != balanced).mean()


def test_fast_has_fewer_windows(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    windows = {
        speed: cast("PlansPredictor", load_predictor(path, device="cpu", speed=speed)).window
        for speed in SPEEDS
    }
    assert windows["best"] == windows["balanced"]
    assert [(one.step, one.mirror_axes) for one in windows.values()] == [
        (0.75, ()), (0.5, (0, 1, 2)), (0.5, (0, 1, 2)),
    ]  # fmt: skip
    assert len({one.patch_size for one in windows.values()}) == 1


def test_regions_have_the_same_choice(tmp_path: Path) -> None:
    regions = {
        "labels": {"background": 0, "heart": [1, 2], "lv": [2]}, "regions_class_order": [1, 2],
    }  # fmt: skip
    folder = write_folder(tmp_path / "model", plans=plans(), dataset=dataset(**regions), outputs=2)
    path = tmp_path / "bundle"
    import_nnunet(folder, path, choices=NnunetChoices(has_mirroring=False))
    np.testing.assert_array_equal(
        labels(path, volume(), speed="fast"), labels(path, volume(), speed="best")
    )


def test_a_run_says_its_speed_and_an_exact_one_is_what_it_was(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    exact = {"device": "cpu", "backend": "torch", "cam": []}
    assert load_predictor(path, device="cpu").settings == exact
    assert load_predictor(path, device="cpu", speed="best").settings == exact
    fast = load_predictor(path, device="cpu", speed="fast").settings
    assert fast == exact | {"speed": "fast"}


def of_monai(
    root: Path, network: str = "SegResNet", *, more: tuple[dict[str, Any], ...] = (), **spacing: Any
) -> Path:
    content = monai_config(network)
    transforms = content["preprocessing"]["transforms"]
    next(one for one in transforms if one["_target_"] == "Spacingd").update(spacing)
    transforms += more
    import_monai(write_monai(root / "monai", content, network), root / "bundle")
    return root / "bundle"


@pytest.mark.parametrize("network", ["SegResNet", "UNet"])
def test_monai_is_the_same_where_nothing_is_resampled(tmp_path: Path, network: str) -> None:
    path = of_monai(tmp_path, network)
    image = volume((1.5, 1.5, 3.0))
    best = labels(path, image)
    assert len(np.unique(best)) > 1
    np.testing.assert_array_equal(labels(path, image, speed="balanced"), best)
    said = load_predictor(path, device="cpu", speed="fast").settings
    assert (said["speed"], said["backend"]) == ("fast", "torch")


@pytest.mark.parametrize("turned_degrees", [0, 20])
def test_monai_leads_back_from_grids_that_are_resampled_cropped_and_turned(
    tmp_path: Path, turned_degrees: int
) -> None:
    """With `diagonal` an oblique image is turned, and only MONAI's own way leads back."""
    crop = {"_target_": "CropForegroundd", "keys": "image", "source_key": "image"}
    path = of_monai(tmp_path, more=(crop,), diagonal=True)
    image = smooth((1.5, 1.0, 3.0))
    image.array[:3] = -1000
    turn = np.eye(4)
    cos, sin = np.cos(np.radians(turned_degrees)), np.sin(np.radians(turned_degrees))
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    geometry = replace(image.geometry, affine_lps=turn @ image.geometry.affine_lps)
    image = replace(image, geometry=geometry)
    best = labels(path, image)
    for speed in ("balanced", "fast"):
        agreed = float((labels(path, image, speed=speed) == best).mean())
        assert agreed > max(float((np.roll(best, 1, axis) == best).mean()) for axis in range(3))
        assert agreed > 0.9
    if turned_degrees:
        np.testing.assert_array_equal(labels(path, image, speed="balanced"), best)


def test_what_a_model_has_not_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    with pytest.raises(ConfigError, match="expected one of fast, balanced, best"):
        load_predictor(path, speed="faster")
    with pytest.raises(ConfigError, match="on torch only"):
        load_predictor(path, backend="openvino", device="cpu")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_openvino_gives_the_labels_of_torch(tmp_path: Path, dimensions: int) -> None:
    """In a process of its own, as everything that loads OpenVINO here."""
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    folder = write_folder(
        tmp_path / "model", plans=plans(dimensions=dimensions), dataset=dataset(), folds=("0", "1")
    )
    import_nnunet(folder, tmp_path / "bundle")
    values = np.random.default_rng(0).normal(0, 100, (13, 12, 9)).astype(np.float32)
    image = write_image(tmp_path / "case.nii.gz", values)
    found = {}
    for backend in ("torch", "openvino"):
        out = tmp_path / backend
        command = [sys.executable, "-m", "medmtl", "predict", str(image), "--model",
                   str(tmp_path / "bundle"), "-o", str(out), "--device", "cpu", "--quiet",
                   "--speed", "balanced", "--backend", backend, "--formats", "nifti"]  # fmt: skip
        environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
        root = str(Path(__file__).parents[3])
        subprocess.run(command, check=True, env=environment | {"PYTHONPATH": root})
        assert json.loads((out / "run.json").read_text())["backend"] == backend
        found[backend] = read_volume_file(out / "case" / "image", "segmentation.nii.gz").array
    assert float((found["torch"] == found["openvino"]).mean()) > 0.999
