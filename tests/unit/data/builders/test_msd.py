"""The Decathlon layout: generated miniatures, and the real, dirty hippocampus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.msd import build_msd_manifest
from medmtl.data.builders.table import build_checked
from medmtl.data.check import check_folder
from medmtl.data.manifest import read_manifest, write_manifest
from medmtl.data.volume_file import read_volume_file
from tests.miniatures import image_values, write_image, write_mask

HEADER: dict[str, Any] = {
    "name": "Hippocampus",
    "modality": {"0": "MRI"},
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "test": ["./imagesTs/hippocampus_900.nii.gz"],
}


def task(root: Path, count: int = 6, prefix: str = "hippocampus", **changes: Any) -> Path:
    """A task folder as it comes out of the archive, hidden macOS files included."""
    stems = [f"{prefix}_{number:03d}" for number in range(count)]
    for number, stem in enumerate(stems):
        write_image(root / "imagesTr" / f"{stem}.nii.gz", image_values(number))
        write_mask(root / "labelsTr" / f"{stem}.nii.gz", 1, 2)
        (root / "imagesTr" / f"._{stem}.nii.gz").write_bytes(b"finder")
    write_image(root / "imagesTs" / f"{prefix}_900.nii.gz", image_values(900))
    training = [
        {"image": f"./imagesTr/{stem}.nii.gz", "label": f"./labelsTr/{stem}.nii.gz"}
        for stem in stems
    ]
    (root / "dataset.json").write_text(json.dumps({**HEADER, "training": training, **changes}))
    return root


def test_a_task_as_published(tmp_path: Path) -> None:
    built = build_checked("msd", DataCopy.at(task(tmp_path)))
    assert built.is_whole
    manifest = built.manifest
    assert manifest.name == "msd_hippocampus"
    assert manifest.schema.segment_names == ("hippocampus_anterior", "hippocampus_posterior")
    assert [case.fold for case in manifest.in_split("train")] == [0, 1, 2, 3, 4, 0]
    (test_case,) = manifest.in_split("test")
    assert (test_case.case_id, test_case.fold) == ("hippocampus_900", None)
    assert test_case.volumes[0].segmentation is None


def test_what_does_not_fit_is_named_and_the_rest_stays(tmp_path: Path) -> None:
    task(tmp_path, 8)
    (tmp_path / "labelsTr" / "hippocampus_001.nii.gz").unlink()
    (tmp_path / "imagesTr" / "hippocampus_002.nii.gz").unlink()
    (tmp_path / "imagesTr" / "hippocampus_003.nii.gz").write_bytes(b"cut short")
    for folder in ("imagesTr", "labelsTr"):
        for stem in ("hippocampus_004",):
            (tmp_path / folder / f"{stem}.nii.gz").unlink()
        write = write_image if folder == "imagesTr" else None
        path = tmp_path / folder / "hippocampus_777.nii.gz"
        write_mask(path, 1) if write is None else write(path, image_values(777))
    write_mask(tmp_path / "labelsTr" / "hippocampus_005.nii.gz", 1, 9)
    built = build_checked("msd", DataCopy.at(tmp_path))
    text = "\n".join([*built.layout, *map(str, built.problems)])
    for part in (
        "hippocampus_001: image without a label",
        "hippocampus_002: label without an image",
        "hippocampus_003: found a damaged header",
        "hippocampus_004: in dataset.json, but no such file",
        "hippocampus_777: not in dataset.json",
        "case hippocampus_005, volume image: unknown-label",
    ):
        assert part in text
    kept = [case.case_id for case in built.manifest.in_split("train")]
    assert kept == ["hippocampus_000", "hippocampus_006", "hippocampus_007"]
    assert not built.is_whole


def test_channels_become_volumes_that_share_the_mask(tmp_path: Path) -> None:
    root = task(tmp_path / "copy", prefix="prostate", modality={"0": "T2", "1": "ADC"})
    for place, path in enumerate(sorted((root / "imagesTr").glob("p*"))):
        write_image(path, image_values(place, (6, 5, 4, 2)))
    write_image(root / "imagesTs" / "prostate_900.nii.gz", image_values(900, (6, 5, 4, 2)))
    made = tmp_path / "made"
    built = build_checked("msd", DataCopy.at(root, made))
    assert built.is_whole
    first = built.manifest.cases[0]
    assert [volume.volume_id for volume in first.volumes] == ["t2", "adc"]
    assert len({volume.segmentation for volume in first.volumes}) == 1
    for place, volume in enumerate(first.volumes):
        array = read_volume_file(made, volume.image).array
        assert np.array_equal(array, image_values(0, (6, 5, 4, 2))[..., place])
    assert not (root / "medmtl").exists()  # the copy stays as it is
    write_manifest(built.manifest, tmp_path / "manifest")
    assert check_folder(tmp_path / "manifest", made) == (7, [])


def test_another_number_of_channels_is_not_guessed(tmp_path: Path) -> None:
    root = task(tmp_path, prefix="prostate")
    for path in sorted((root / "imagesTr").glob("p*"))[1:]:
        write_image(path, image_values(1, (6, 5, 4, 2)))
    _, problems = build_msd_manifest(DataCopy.at(root))
    assert any("found 1 channels, expected 2 (t2, adc)" in problem for problem in problems)


def test_labels_of_another_task_come_from_its_file(tmp_path: Path) -> None:
    labels = {"0": "background", "1": "Left Thing", "2": "2nd thing"}
    manifest, problems = build_msd_manifest(
        DataCopy.at(task(tmp_path, prefix="thing", labels=labels, name="Thing"))
    )
    assert problems == []
    assert manifest.schema.segment_names == ("left_thing", "label_2nd_thing")
    assert (manifest.name, manifest.modality) == ("msd_thing", "MR")


def test_labels_that_nothing_explains_are_refused(tmp_path: Path) -> None:
    root = task(tmp_path, prefix="thing")
    (root / "dataset.json").unlink()
    with pytest.raises(ConfigError, match="what the labels mean"):
        build_msd_manifest(DataCopy.at(root))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Task04_Hippocampus"):
        build_msd_manifest(DataCopy.at(tmp_path))
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ConfigError, match=r"dataset\.json cannot be read"):
        build_msd_manifest(DataCopy.at(tmp_path))


@pytest.mark.slow
def test_the_real_hippocampus(shared_data: Path, tmp_path: Path) -> None:
    """Its README: one image without label, two labels without image, 33 images of another scale."""
    built = build_checked("msd", DataCopy.at(shared_data / "msd_hippocampus"))
    text = "\n".join(built.layout)
    assert "hippocampus_118: image without a label" in text
    assert text.count("label without an image") == 2
    assert {problem.code for problem in built.problems} == {"extreme-intensity"}
    assert len(built.problems) == len(built.left_out) == 33
    assert len(built.manifest.cases) == 227
    write_manifest(built.manifest, tmp_path)
    assert read_manifest(tmp_path) == built.manifest
