"""Several model folders on one grid as one bundle: the masks of each, painted by the class map."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.core.errors import BundleError
from medmtl.core.geometry import Geometry
from medmtl.core.labels import LEFT, RIGHT, Code
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from medmtl.data.builders.totalsegmentator_tasks import KNOWN_CODES
from medmtl.imports.nnunet import NnunetChoices, import_nnunet
from medmtl.imports.nnunet_labels import labels_of
from medmtl.imports.nnunet_parts import import_nnunet_parts
from medmtl.inference.bundle import verify_bundle
from medmtl.inference.bundle_settings import CodeSettings
from medmtl.inference.predictor import load_predictor
from medmtl.transforms.plans import PlansPreprocessing
from tests.nnunet_folder import dataset, plans, write_folder

PARTS = {
    "part1_organs": ("spleen", "liver"),
    "part2_vertebrae": ("vertebrae_L5", "sacrum"),
    "part3_cardiac": ("heart", "aorta"),
    "part4_muscles": ("gluteus_maximus_left",),
    "part5_ribs": ("rib_left_1", "rib_right_1"),
}
LABELS = {segment.name: segment.label for segment in TOTAL_SEGMENTS}


def own_plans(part: str, **configuration: Any) -> dict[str, Any]:
    content = plans(**configuration)
    content["dataset_name"] = f"Dataset291_TotalSegmentator_{part}_1559subj"
    return content


def folders(root: Path, parts: dict[str, tuple[str, ...]] = PARTS, **more: Any) -> list[Path]:
    """Generated miniatures of the published layout: one trainer folder in each data set."""
    made = []
    for seed, (part, names) in enumerate(parts.items()):
        labels = {"background": 0} | {name: at for at, name in enumerate(names, start=1)}
        made.append(
            write_folder(
                root / part / "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres",
                plans=own_plans(part, **more),
                dataset=dataset(labels=labels),
                outputs=len(labels),
                mirror_axes=(),
                first_seed=seed,
                background=1.0,
                trainer_name="nnUNetTrainerNoMirroring",
                inference_allowed_mirroring_axes=None,
            )
        )
    return made


def volume() -> Volume:
    values = np.random.default_rng(0).normal(40, 60, (13, 12, 9)).astype(np.float32)
    geometry = Geometry.from_parts(
        shape=values.shape, spacing_mm=(0.8, 0.8, 2.5), origin_lps=(0.0, 0.0, 0.0)
    )
    return Volume(id="image", array=values, geometry=geometry)


def answer(bundle: Path) -> Any:
    case = Study(case_id="case", kind="nifti", study_uid="", volumes=())
    return load_predictor(bundle, device="cpu").analyse(case, [volume()])


def test_five_parts_are_one_bundle_with_the_labels_of_the_class_map(tmp_path: Path) -> None:
    made = folders(tmp_path / "models")
    settings = import_nnunet_parts(made, tmp_path / "bundle")
    verify_bundle(tmp_path / "bundle")
    names = [name.lower() for part in PARTS.values() for name in part]
    assert {s.name: s.label for s in settings.segments} == {name: LABELS[name] for name in names}
    assert all(segment.code is not None for segment in settings.segments)
    assert [len(part.network.segments) for part in settings.parts] == [2, 2, 2, 1, 2]
    assert settings.preprocessing.orientation == "RAS"  # type: ignore[union-attr]  # of nnU-Net
    labels = answer(tmp_path / "bundle").volumes[0].label_map
    expected = np.zeros_like(labels)
    for folder, part in zip(made, PARTS.values(), strict=True):
        import_nnunet(folder, tmp_path / folder.parent.name)
        own = answer(tmp_path / folder.parent.name).volumes[0].label_map
        for at, name in enumerate(part, start=1):
            expected[own == at] = LABELS[name.lower()]
    assert len(np.unique(expected)) > 4
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("dataset_name", "stated", "expected"),
    [
        ("Dataset291_TotalSegmentator_part1_organs_1559subj", None, "RAS"),
        ("Dataset850_TotalSegMRI_part1_organs_1088subj", None, "RAS"),
        ("Dataset258_lung_vessels", None, "source"),  # its name does not say whose it is
        ("Dataset258_lung_vessels", "RAS", "RAS"),
    ],
)
def test_what_is_named_after_totalsegmentator_takes_images_in_ras(
    tmp_path: Path, dataset_name: str, stated: str | None, expected: str
) -> None:
    content = plans() | {"dataset_name": dataset_name}
    folder = write_folder(tmp_path / "model", plans=content, dataset=dataset())
    chosen = NnunetChoices(orientation=stated)
    settings = import_nnunet(folder, tmp_path / "bundle", choices=chosen)
    assert settings.preprocessing.orientation == expected  # type: ignore[union-attr]  # of nnU-Net


@pytest.mark.parametrize(
    "trainer",
    [
        "nnUNetTrainer",
        "nnUNetTrainerNoMirroring",
        "nnUNetTrainer_4000epochs_NoMirroring",
        "nnUNetTrainer_2000epochs_NoMirroring",
        "nnUNetTrainer_DASegOrd0_NoMirroring",
        "nnUNetTrainer_DASegOrd0",
    ],
)
def test_trainers_of_totalsegmentator(tmp_path: Path, trainer: str) -> None:
    axes = None if "NoMirroring" in trainer else (0, 1, 2)
    folder = write_folder(
        tmp_path / f"{trainer}__nnUNetPlans__3d_fullres",
        plans=own_plans("part1_organs"),
        dataset=dataset(),
        trainer_name=trainer,
        inference_allowed_mirroring_axes=axes,
    )
    settings = import_nnunet(folder, tmp_path / "bundle")
    assert settings.version == f"{trainer}-3d_fullres"
    assert settings.sliding_window is not None
    assert settings.sliding_window.mirror_axes == (axes or ())


def test_every_class_has_a_code_that_tells_left_from_right() -> None:
    codes = {segment.name: segment.code for segment in TOTAL_SEGMENTS}
    assert len(codes) == 117
    assert None not in codes.values()
    for name, code in codes.items():
        other = codes.get(name.replace("left", "right"), code)
        assert (other != code) == ("left" in name and name != "atrial_appendage_left"), name
    assert codes["kidney_left"] == Code("64033007", "Kidney", modifier=LEFT)
    assert codes["lung_middle_lobe_right"] == Code("72481006", "Middle lobe of right lung")


def test_structures_of_other_tasks_have_codes_and_lesions_are_lesions() -> None:
    assert KNOWN_CODES["heart_ventricle_left"] == Code("87878005", "Left ventricle of heart")
    assert KNOWN_CODES["kidney"] == Code("64033007", "Kidney")
    labels = {"background": 0, "kidney_right": 1, "liver_tumor": 2, "kidney_cyst": 3, "odd": 4}
    right, tumour, cyst, odd = labels_of({"labels": labels}).segments
    assert right.code == CodeSettings.of(Code("64033007", "Kidney", modifier=RIGHT))
    lesions = [segment.is_lesion for segment in (right, tumour, cyst, odd)]
    assert lesions == [False, True, True, False]
    assert odd.code is None


@pytest.mark.parametrize("background", [0, "0", 0.0])
def test_labels_may_be_text(background: object) -> None:
    (spleen,) = labels_of({"labels": {"background": background, "spleen": "1"}}).segments
    assert spleen.label == 1


@pytest.mark.parametrize(("others", "times"), [((), 1), ((1, 3), 2)])
def test_the_image_is_prepared_once_for_parts_that_normalise_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: tuple[int, ...], times: int
) -> None:
    models = folders(tmp_path / "models", normalization_schemes=["CTNormalization"])
    for number in others:  # between those that are alike
        path = models[number] / "plans.json"
        content = json.loads(path.read_text())
        content["foreground_intensity_properties_per_channel"]["0"]["mean"] += 10
        path.write_text(json.dumps(content))
    import_nnunet_parts(models, tmp_path / "bundle")
    made, prepare = [], PlansPreprocessing.apply

    def counted(self: PlansPreprocessing, *arguments: Any, **options: Any) -> Any:
        made.append(self)
        return prepare(self, *arguments, **options)

    monkeypatch.setattr(PlansPreprocessing, "apply", counted)
    answer(tmp_path / "bundle")
    assert len(made) == times


def test_a_part_that_is_altered_is_noticed(tmp_path: Path) -> None:
    import_nnunet_parts(folders(tmp_path / "models"), tmp_path / "bundle")
    path = tmp_path / "bundle" / "weights_part3_fold0.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01")
    for look in (verify_bundle, load_predictor):
        with pytest.raises(BundleError, match=r"weights_part3_fold0.safetensors has SHA-256"):
            look(tmp_path / "bundle")


def test_names_outside_the_class_map_are_numbered_in_order(tmp_path: Path) -> None:
    parts = {"one": ("spleen", "a"), "two": ("b",)}
    settings = import_nnunet_parts(folders(tmp_path / "models", parts), tmp_path / "bundle")
    assert [(s.label, s.name) for s in settings.segments] == [(1, "spleen"), (2, "a"), (3, "b")]


def _spacing(folder: Path) -> None:
    path = folder / "plans.json"
    content = json.loads(path.read_text())
    content["configurations"]["3d_fullres"]["spacing"] = [3.0, 1.5, 1.5]
    path.write_text(json.dumps(content))


def _labels(folder: Path) -> None:
    path = folder / "dataset.json"
    labels = {"background": 0, "spleen": 1, "sacrum": 2}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"labels": labels}))


def _modality(folder: Path) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"channel_names": {"0": "MRI"}}))


def _regions(folder: Path) -> None:
    path = folder / "dataset.json"
    labels = {"background": 0, "spine": [1, 2], "sacrum": 2}
    content = json.loads(path.read_text()) | {"labels": labels, "regions_class_order": [1, 2]}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_spacing, r"found spacing_mm \(3.0, 1.5, 1.5\), expected \(1.0, 1.0, 1.0\)"),
        (_labels, "found spleen in an earlier folder too"),
        (_modality, "found input MR, one volume, expected CT, one volume"),
        (_regions, "weight decoder.seg_layers.0.bias: found|found regions"),
        (shutil.rmtree, "found no such folder"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path, damage: Any, message: str
) -> None:
    made = folders(tmp_path / "models")
    damage(made[1])
    with pytest.raises(BundleError, match=message) as refused:
        import_nnunet_parts(made, tmp_path / "out" / "bundle")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
