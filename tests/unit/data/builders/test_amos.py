"""The layout of AMOS 2022."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.amos import AMOS_SCHEMA, build_amos_manifest
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.table import build_checked
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from tests.miniatures import image_values, write_image, write_mask

LABELS = (
    "background", "spleen", "right kidney", "left kidney", "gall bladder", "esophagus", "liver",
    "stomach", "arota", "postcava", "pancreas", "right adrenal gland", "left adrenal gland",
    "duodenum", "bladder", "prostate/uterus",
)  # fmt: skip


def copy(root: Path) -> Path:
    for part, numbers in (("Tr", (1, 4, 5, 507, 508)), ("Va", (8, 510)), ("Ts", (2,))):
        for number in numbers:
            write_image(root / f"images{part}" / f"amos_{number:04d}.nii.gz", image_values(number))
            if part != "Ts":
                write_mask(root / f"labels{part}" / f"amos_{number:04d}.nii.gz", 6, 15)
    labels = {str(value): name for value, name in enumerate(LABELS)}
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    (root.parent / "labeled_data_meta_0000_0599.csv").write_text(
        "amos_id,Patient's Sex,Patient's Age,Manufacturer's Model Name,Manufacturer,Site\n"
        "1,M,064Y,Aquilion ONE,TOSHIBA,LGCHSC\n507,F,,Prisma,SIEMENS,LGCHSC\n"
    )
    return root


def test_the_published_copy(tmp_path: Path) -> None:
    built = build_checked("amos", DataCopy.at(copy(tmp_path / "amos22")))
    assert built.is_whole
    manifest = built.manifest
    assert {split: len(manifest.in_split(split)) for split in manifest.splits} == {
        "train": 5, "val": 2, "test": 1,
    }  # fmt: skip
    cases = {case.case_id: case for case in manifest.cases}
    assert cases["amos_0001"].attributes == {
        "modality": "CT", "vendor": "TOSHIBA", "scanner": "Aquilion ONE", "site": "LGCHSC",
    }  # fmt: skip
    assert (cases["amos_0001"].covariates.age_years, cases["amos_0001"].covariates.sex) == (64, "M")
    assert cases["amos_0507"].attributes["modality"] == "MR"
    assert cases["amos_0507"].covariates.age_years is None
    assert cases["amos_0002"].volumes[0].segmentation is None


def test_structures_shared_with_totalsegmentator_have_its_names_and_codes() -> None:
    total = {segment.name: segment.code for segment in TOTAL_SEGMENTS}
    shared = [segment for segment in AMOS_SCHEMA.segments if segment.name in total]
    assert len(shared) == 14
    assert all(segment.code == total[segment.name] for segment in shared)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    root = copy(tmp_path / "amos22")
    (root / "labelsTr" / "amos_0004.nii.gz").unlink()
    (root / "imagesVa" / "amos_0008.nii.gz").unlink()
    write_image(root / "imagesTr" / "John_Doe.nii.gz", image_values(77))
    _, problems = build_amos_manifest(DataCopy.at(root))
    assert "amos_0004: image without a label; left out" in problems
    assert "amos_0008: label in labelsVa without an image" in problems
    assert "John" not in "".join(problems)
    assert len(problems) == 3


def test_another_numbering_of_the_organs_is_refused(tmp_path: Path) -> None:
    root = copy(tmp_path / "amos22")
    labels = {str(value): name for value, name in enumerate(("background", *sorted(LABELS[1:])))}
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(ConfigError, match="numbers its labels otherwise"):
        build_amos_manifest(DataCopy.at(root))
