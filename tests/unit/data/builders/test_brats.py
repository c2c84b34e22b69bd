"""The layout of BraTS 2020, with the quirk of its release."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.brats import build_brats_manifest
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.table import build_checked
from tests.miniatures import image_values, write_image, write_mask

MAPPING = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,"
    "BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)


def copy(root: Path, count: int = 6, suffix: str = ".nii") -> Path:
    rows = [MAPPING]
    for number in range(1, count + 1):
        name = f"BraTS20_Training_{number:03d}"
        for place, sequence in enumerate(("t1", "t1ce", "t2", "flair")):
            values = image_values(10 * number + place)
            write_image(root / name / f"{name}_{sequence}{suffix}", values)
        write_mask(root / name / f"{name}_seg{suffix}", 1, 2, 4)
        rows.append(f"{'HGG' if number % 3 else 'LGG'},a,b,NA,c,{name}")
    (root / "name_mapping.csv").write_text("\n".join(rows) + "\n")
    (root / "survival_info.csv").write_text(
        "Brats20ID,Age,Survival_days,Extent_of_Resection\nBraTS20_Training_001,60.463,289,GTR\n"
    )
    return root


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_four_sequences_one_mask_and_the_grade(tmp_path: Path, suffix: str) -> None:
    built = build_checked("brats", DataCopy.at(copy(tmp_path, suffix=suffix)))
    assert built.is_whole
    first = built.manifest.cases[0]
    assert [volume.volume_id for volume in first.volumes] == ["t1", "t1ce", "t2", "flair"]
    assert len({volume.segmentation for volume in first.volumes}) == 1
    assert first.findings == {"high_grade_glioma": True}
    assert built.manifest.cases[2].findings == {"high_grade_glioma": False}
    assert first.covariates.age_years == 60.463
    assert [segment.label for segment in built.manifest.schema.segments] == [1, 2, 4]


def test_the_mask_of_subject_355_is_not_guessed(tmp_path: Path) -> None:
    root = copy(tmp_path)
    folder = root / "BraTS20_Training_002"
    (folder / "BraTS20_Training_002_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    (root / "BraTS20_Training_003" / "BraTS20_Training_003_t2.nii").unlink()
    manifest, problems = build_brats_manifest(DataCopy.at(root))
    assert "if it is, rename it to BraTS20_Training_002_seg" in problems[0]
    assert problems[1] == "BraTS20_Training_003: no BraTS20_Training_003_t2; left out"
    assert len(manifest.cases) == 4


def test_an_unknown_grade_is_unknown_not_low(tmp_path: Path) -> None:
    root = copy(tmp_path)
    table = root / "name_mapping.csv"
    table.write_text(table.read_text().replace("HGG,a,b,NA,c,BraTS20_Training_001", "?,,,,,x"))
    manifest, problems = build_brats_manifest(DataCopy.at(root))
    assert manifest.cases[0].findings == {"high_grade_glioma": None}
    assert any("BraTS20_Training_001: grade ''" in problem for problem in problems)
    table.unlink()
    manifest, problems = build_brats_manifest(DataCopy.at(root))
    assert {case.findings["high_grade_glioma"] for case in manifest.cases} == {None}
    assert problems == ["no name_mapping.csv: no grade is known"]


def test_label_three_is_not_of_this_year(tmp_path: Path) -> None:
    root = copy(tmp_path)
    write_mask(root / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii", 1, 3)
    built = build_checked("brats", DataCopy.at(root))
    assert built.left_out == ("BraTS20_Training_001",)
    assert len(built.problems) == 4  # one for each volume that has the mask


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MICCAI_BraTS2020_TrainingData"):
        build_brats_manifest(DataCopy.at(tmp_path))
