"""A DICOM series in a manifest: read as `predict` reads it, and never another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medmtl.core.errors import InputRefusedError
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.image_folder import find_images
from medmtl.data.check_image import look_at_voxels
from medmtl.data.intake import open_input
from medmtl.data.volume_file import read_grid, read_volume_file
from tests.dicom_factory import make_series
from tests.miniatures import image_values


def images(root: Path) -> Path:
    """Two series of one study in one folder, as some archives export them."""
    for seed, name in enumerate(("thin", "thick")):
        make_series(root / "DOE JANE", array=image_values(seed, (7, 6, 5)), name=name)
    return root


def written(root: Path, made_in: Path | None = None) -> tuple[DataCopy, list[str]]:
    data = DataCopy.at(root, made_in)
    found, _ = find_images(root)
    return data, [image.write(data) for image in found]


@pytest.mark.parametrize("is_apart", [False, True])
def test_a_row_is_the_volume_that_predict_reads(tmp_path: Path, is_apart: bool) -> None:
    root = images(tmp_path / "images")
    data, names = written(root, tmp_path / "made" if is_apart else None)
    (study,) = open_input(root).studies
    assert len(names) == len(study.volumes) == 2
    for name, ref in zip(names, study.volumes, strict=True):
        assert "DOE" not in name
        volume = read_volume_file(data.folder, name)
        expected = ref.read()
        np.testing.assert_array_equal(volume.array, expected.array)
        assert volume.modality == "CT"
        assert volume.geometry.is_close(expected.geometry, tolerance_voxel=1e-6)
        assert read_grid(data.folder, name).is_close(expected.geometry, tolerance_voxel=1e-6)
    assert not list(tmp_path.rglob("*.nii.gz"))


def test_a_phase_of_a_cine_is_still_that_phase(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for phase in range(4):
        make_series(
            root, array=image_values(phase, (7, 6, 5)), modality="MR", name=f"p{phase}",
            SeriesInstanceUID="1.2.3", TriggerTime=str(100 * phase),
        )  # fmt: skip
    data, names = written(root)
    (study,) = open_input(root).studies
    assert [ref.phase for ref in study.volumes] == [0, 1, 2, 3]
    for name, ref in zip(names, study.volumes, strict=True):
        np.testing.assert_array_equal(read_volume_file(data.folder, name).array, ref.read().array)


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "found"),
    [(Path.unlink, "no file for image"), (_alter, "other content for image")],
)
def test_images_that_changed_are_refused_without_a_name(
    tmp_path: Path, damage: Any, found: str
) -> None:
    root = images(tmp_path / "images")
    data, names = written(root)
    damage(sorted((root / "DOE JANE").glob("thin*"))[2])
    refusals = []
    for name in names:
        try:
            read_volume_file(data.folder, name)
        except InputRefusedError as error:
            refusals.append(error)
    (refused,) = refusals
    assert refused.code == "series-changed"
    assert found in refused.found
    assert "DOE" not in str(refused)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"volume": "x", "images": [1]})])
def test_a_damaged_list_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.series.json").write_text(content)
    with pytest.raises(InputRefusedError, match="no list of images"):
        read_volume_file(tmp_path, "a.series.json")


def test_the_check_of_a_manifest_reads_it(tmp_path: Path) -> None:
    from medmtl.core.labels import LabelSchema
    from medmtl.data.cases import VolumeRow

    data, names = written(images(tmp_path / "images"))
    row = VolumeRow("image", names[0], None, None, (), {})
    facts, found = look_at_voxels(row, data.folder, LabelSchema(), {})
    assert facts is not None
    assert not found
