"""The layout of TotalSegmentator version 2: one file per structure becomes one label map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medmtl.core.errors import ConfigError, OutputError
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.table import build_checked
from medmtl.data.builders.totalsegmentator import build_totalsegmentator_manifest
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from medmtl.data.volume_file import read_volume_file
from tests.miniatures import SHAPE, image_values, write_image

COLUMNS = (
    "image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology;"
    "pathology_location"
)


def subject(root: Path, number: int, **masks: tuple[slice, slice, slice]) -> Path:
    folder = root / f"s{number:04d}"
    write_image(folder / "ct.nii.gz", image_values(number))
    for name, box in masks.items():
        values = np.zeros(SHAPE, dtype=np.uint8)
        values[box] = 1
        write_image(folder / "segmentations" / f"{name}.nii.gz", values)
    return folder


def copy(root: Path) -> Path:
    whole = slice(None)
    for number in range(6):
        subject(
            root,
            number,
            spleen=(slice(0, 2), whole, whole),
            vertebrae_L5=(slice(4, 6), whole, whole),
        )
    rows = [
        f"s{n:04d};{50 + n};{'m' if n % 2 else 'f'};A;ct thorax;{split};siemens;SOMATOM;120;none;"
        for n, split in enumerate(("train", "train", "train", "val", "test", "train"))
    ]
    (root / "meta.csv").write_text("\ufeff" + "\n".join([COLUMNS, *rows]) + "\n", encoding="utf-8")
    return root


def test_masks_are_merged_under_the_labels_of_the_toolkit(tmp_path: Path) -> None:
    built = build_checked("totalsegmentator", DataCopy.at(copy(tmp_path)))
    assert built.is_whole
    first = built.manifest.cases[0]
    row = first.volumes[0]
    labels = read_volume_file(tmp_path, row.segmentation or "").array
    names = {segment.label: segment.name for segment in TOTAL_SEGMENTS}
    assert {names[int(value)] for value in np.unique(labels) if value} == {"spleen", "vertebrae_l5"}
    assert (labels[0:2] == 1).all()
    assert (labels[2:4] == 0).all()
    assert (labels[4:6] == 27).all()  # vertebrae_L5 in the class map of version 2
    assert row.annotated_segments == ("spleen", "vertebrae_l5")
    assert (first.covariates.age_years, first.covariates.sex) == (50, "F")
    assert first.attributes["vendor"] == "siemens"
    assert [case.split for case in built.manifest.cases].count("train") == 4


def test_the_class_list_has_its_known_ends_and_no_name_twice() -> None:
    names = [segment.name for segment in TOTAL_SEGMENTS]
    assert len(set(names)) == 117
    places = {segment.label: segment.name for segment in TOTAL_SEGMENTS}
    known = {
        1: "spleen", 22: "prostate", 25: "sacrum", 50: "vertebrae_c1", 51: "heart",
        69: "humerus_left", 79: "spinal_cord", 90: "brain", 92: "rib_left_1",
        104: "rib_right_1", 116: "sternum", 117: "costal_cartilages",
    }  # fmt: skip
    assert {label: places[label] for label in known} == known


def test_overlap_is_counted_and_the_higher_label_stands(tmp_path: Path) -> None:
    copy(tmp_path)
    subject(tmp_path, 0, liver=(slice(1, 3), slice(0, 1), slice(0, 1)))
    manifest, problems = build_totalsegmentator_manifest(DataCopy.at(tmp_path))
    assert "s0000: 1 voxels in two masks; the higher label stands" in problems
    labels = read_volume_file(tmp_path, manifest.cases[0].volumes[0].segmentation or "").array
    assert [int(labels[i, 0, 0]) for i in (0, 1, 2)] == [1, 5, 5]


def test_broken_subjects_are_named_and_left_out(tmp_path: Path) -> None:
    copy(tmp_path)
    (tmp_path / "s0000" / "ct.nii.gz").unlink()
    write_image(tmp_path / "s0001" / "segmentations" / "liver.nii.gz", np.ones((3, 3, 3), np.uint8))
    (tmp_path / "s0002" / "segmentations" / "spleen.nii.gz").write_bytes(b"cut short")
    subject(tmp_path, 99)
    subject(tmp_path, 3, spleen_tip=(slice(0, 1), slice(0, 1), slice(0, 1)))
    (tmp_path / "s0005" / "ct.nii.gz").rename(tmp_path / "ct.nii.gz")
    (tmp_path / "s0005").rename(tmp_path / "elsewhere")
    manifest, problems = build_totalsegmentator_manifest(DataCopy.at(tmp_path))
    text = "\n".join(problems)
    for part in (
        "s0000: no image ct.nii.gz",
        "s0001: segmentations/liver.nii.gz: found a grid of (3, 3, 3) voxels",
        "s0002: segmentations/spleen.nii.gz: found",
        "s0099: no split train, val or test",
        "s0003: masks of no structure of version 2: spleen_tip",
        "s0005: in meta.csv, but no such folder",
    ):
        assert part in text
    assert [case.case_id for case in manifest.cases] == ["s0003", "s0004"]


@pytest.mark.parametrize("name", ["face", "heart_myocardium", "pulmonary_artery"])
def test_version_1_is_refused(tmp_path: Path, name: str) -> None:
    copy(tmp_path)
    subject(tmp_path, 3, **{name: (slice(0, 1), slice(0, 1), slice(0, 1))})
    with pytest.raises(ConfigError, match=rf"only version 1 of the data set has \({name}\)"):
        build_totalsegmentator_manifest(DataCopy.at(tmp_path))


def test_a_copy_that_must_stay_as_it_is_gets_links(tmp_path: Path) -> None:
    root, made = copy(tmp_path / "copy"), tmp_path / "made"
    built = build_checked("totalsegmentator", DataCopy.at(root, made))
    assert built.is_whole
    row = built.manifest.cases[0].volumes[0]
    assert row.image == "source/s0000/ct.nii.gz"
    assert (made / row.image).resolve() == (root / "s0000" / "ct.nii.gz").resolve()
    assert not (root / "medmtl").exists()


def test_a_place_that_cannot_be_written_is_said_with_the_way_out(tmp_path: Path) -> None:
    copy(tmp_path / "copy")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="--made-in"):
        build_totalsegmentator_manifest(DataCopy.at(tmp_path / "copy", tmp_path / "file"))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"s0000/ct\.nii\.gz"):
        build_totalsegmentator_manifest(DataCopy.at(tmp_path))
