"""The layout of CT-RATE: nested volumes, tables of labels, no masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.copy import DataCopy
from medmtl.data.builders.ct_rate import CT_RATE_SCHEMA, build_ct_rate_manifest
from medmtl.data.builders.table import build_checked
from tests.miniatures import image_values, write_image

COLUMNS = (
    "Medical material,Arterial wall calcification,Cardiomegaly,Pericardial effusion,"
    "Coronary artery wall calcification,Hiatal hernia,Lymphadenopathy,Emphysema,Atelectasis,"
    "Lung nodule,Lung opacity,Pulmonary fibrotic sequela,Pleural effusion,"
    "Mosaic attenuation pattern,Peribronchial thickening,Consolidation,Bronchiectasis,"
    "Interlobular septal thickening"
)


def volume(
    root: Path, part: str, patient: int, scan: str, recon: int, fixed: str = "_fixed"
) -> None:
    name = f"{part}_{patient}_{scan}_{recon}.nii.gz"
    folder = root / f"{part}{fixed}" / f"{part}_{patient}" / f"{part}_{patient}_{scan}"
    write_image(
        folder / name, image_values(2000 * patient + 10 * ord(scan) + recon + (part == "valid") * 5)
    )


def labels(root: Path, part: str, *rows: str) -> None:
    folder = root / "multi_abnormality_labels"
    folder.mkdir(exist_ok=True, parents=True)
    text = "\n".join([f"VolumeName,{COLUMNS}", *rows]) + "\n"
    (folder / f"{part}_predicted_labels.csv").write_text(text)


def row(name: str, present: int) -> str:
    return ",".join([f"{name}.nii.gz", *("1" if place == present else "0" for place in range(18))])


def copy(root: Path) -> Path:
    names = [("train", n, scan, 1) for n in range(1, 6) for scan in "ab"] + [("train", 1, "a", 2)]
    for name in [*names, ("valid", 1, "a", 1)]:
        volume(root, *name)
    stems = ["_".join(map(str, name)) for name in names]
    labels(root, "train", *(row(stem, place) for place, stem in enumerate(stems)))
    labels(root, "valid", row("valid_1_a_1", 2))
    (root / "metadata").mkdir()
    (root / "metadata" / "train_metadata.csv").write_text(
        "VolumeName,Manufacturer,PatientSex,PatientAge,RescaleIntercept,RescaleSlope\n"
        "train_1_a_1.nii.gz,Siemens Healthineers,M,056Y,-8192,1\n"
    )
    return root


def test_every_volume_is_a_case_and_a_patient_stays_together(tmp_path: Path) -> None:
    built = build_checked("ct-rate", DataCopy.at(copy(tmp_path)))
    assert built.is_whole
    manifest = built.manifest
    assert len(manifest.in_split("train")) == 11
    (valid,) = manifest.in_split("val")
    assert [name for name, value in valid.findings.items() if value] == ["cardiomegaly"]
    assert valid.patient_id == "valid_1"
    folds = {case.patient_id: set[int | None]() for case in manifest.cases}
    for case in manifest.cases:
        folds[case.patient_id].add(case.fold)
    assert all(len(found) == 1 for found in folds.values())
    first = manifest.cases[0]
    assert first.attributes["vendor"] == "Siemens Healthineers"
    assert first.attributes["rescale_intercept"] == "-8192"
    assert first.covariates.age_years == 56
    assert len(CT_RATE_SCHEMA.findings) == 18


def test_the_repaired_file_is_taken_where_both_are_there(tmp_path: Path) -> None:
    root = copy(tmp_path)
    volume(root, "train", 1, "a", 1, fixed="")
    manifest, problems = build_ct_rate_manifest(DataCopy.at(root))
    assert problems == []
    assert manifest.cases[0].volumes[0].image.startswith("train_fixed/")
    volume(root, "train", 9, "a", 1, fixed="")
    _, problems = build_ct_rate_manifest(DataCopy.at(root))
    assert "1 volumes are not below train_fixed" in problems[0]
    assert "train_9_a_1: not in train_predicted_labels.csv; left out" in problems


def test_labels_without_volumes_heads_and_odd_cells_are_said(tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / "metadata" / "no_chest_train.txt").write_text("train_2_a_1.nii.gz\n")
    table = root / "multi_abnormality_labels" / "valid_predicted_labels.csv"
    table.write_text(table.read_text().replace("0,0,1", "0,,yes") + row("valid_2_a_1", 1) + "\n")
    manifest, problems = build_ct_rate_manifest(DataCopy.at(root))
    assert "train_2_a_1: in no_chest_train.txt, so not a chest CT; left out" in problems
    assert "valid_1_a_1: neither 0 nor 1 in Cardiomegaly; unknown" in problems
    assert "valid: 1 rows of labels without a volume in this copy" in problems
    findings = manifest.in_split("val")[0].findings
    assert (findings["cardiomegaly"], findings["arterial_wall_calcification"]) == (None, None)
    assert findings["medical_material"] is False


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No usable CT-RATE volume"):
        build_ct_rate_manifest(DataCopy.at(tmp_path))
