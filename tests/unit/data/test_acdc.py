"""The ACDC layout: a generated miniature of it, and the real one where it lies beside us."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from medmtl.core.errors import ConfigError
from medmtl.data.builders.acdc import ACDC_SCHEMA, build_acdc_manifest
from medmtl.data.manifest import check_files, read_manifest, write_manifest

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")


def patient(part: Path, number: int, *, group: str = "NOR", masks: bool = True) -> Path:
    """A patient folder whose images are a few bytes: the builder reads no voxel."""
    name = f"patient{number:03d}"
    folder = part / name
    folder.mkdir(parents=True)
    info = f"ED: 1\nES: 12\nGroup: {group}\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
    (folder / "Info.cfg").write_text(info)
    for frame in ("01", "12"):
        (folder / f"{name}_frame{frame}.nii.gz").write_bytes(f"{name}{frame}".encode())
        if masks:
            (folder / f"{name}_frame{frame}_gt.nii.gz").write_bytes(b"mask")
    (folder / f"{name}_4d.nii.gz").write_bytes(b"cine")
    return folder


def test_both_parts_of_the_public_layout(tmp_path: Path) -> None:
    for number in range(1, 11):
        patient(tmp_path / "training", number, group=GROUPS[number % 5])
    patient(tmp_path / "testing", 101, group="HCM")
    manifest, problems = build_acdc_manifest(tmp_path)
    assert problems == []
    assert (len(manifest.in_split("train")), len(manifest.in_split("test"))) == (10, 1)
    test_case = manifest.in_split("test")[0]
    assert test_case.fold is None
    assert [name for name, value in test_case.findings.items() if value] == [
        "hypertrophic_cardiomyopathy"
    ]
    assert [volume.volume_id for volume in test_case.volumes] == ["ed", "es"]
    assert test_case.volumes[1].image == "testing/patient101/patient101_frame12.nii.gz"
    assert test_case.covariates.weight_kg == 95.0
    assert check_files(manifest.cases, tmp_path, with_checksums=True) == []


def test_normal_hearts_have_every_finding_absent(tmp_path: Path) -> None:
    patient(tmp_path / "training", 1)
    manifest, _ = build_acdc_manifest(tmp_path)
    assert set(manifest.cases[0].findings.values()) == {False}
    assert manifest.schema == ACDC_SCHEMA


def test_the_part_itself_is_a_root_too(tmp_path: Path) -> None:
    patient(tmp_path / "testing", 101)
    manifest, _ = build_acdc_manifest(tmp_path / "testing")
    assert manifest.cases[0].split == "test"
    assert manifest.cases[0].volumes[0].image == "patient101/patient101_frame01.nii.gz"


def test_a_broken_patient_is_named_and_the_others_stay(tmp_path: Path) -> None:
    part = tmp_path / "training"
    for number in range(1, 7):
        patient(part, number, masks=number != 5)
    (part / "patient002" / "Info.cfg").unlink()
    (part / "patient003" / "patient003_frame12.nii.gz").unlink()
    (part / "patient004" / "Info.cfg").write_text("ED: 1\nES: last\nGroup: NOR\n")
    (part / "patient006" / "Info.cfg").write_text("ED: 1\nES: 12\nGroup: ?\nHeight: nan\n")
    manifest, problems = build_acdc_manifest(tmp_path)
    assert [case.case_id for case in manifest.cases] == ["patient001", "patient005", "patient006"]
    for part_of_text in ("patient002: no readable Info.cfg", "patient003: no image", "'last'",
                         "patient005: no mask", "patient006: group '?'"):  # fmt: skip
        assert any(part_of_text in problem for problem in problems)
    without_mask, unknown = manifest.cases[1:]
    assert without_mask.volumes[0].segmentation is None
    assert set(unknown.findings.values()) == {None}
    assert unknown.covariates.height_cm is None


def test_a_folder_without_patients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training/patient001/Info\.cfg"):
        build_acdc_manifest(tmp_path)


@pytest.mark.slow
def test_the_real_training_part(shared_data: Path, tmp_path: Path) -> None:
    manifest, problems = build_acdc_manifest(shared_data / "acdc")
    write_manifest(manifest, tmp_path)
    assert problems == []
    assert read_manifest(tmp_path) == manifest
    groups = Counter(
        next((name for name, value in case.findings.items() if value), "normal")
        for case in manifest.in_split("train")
    )
    assert sorted(groups.values()) == [20] * 5
    for fold in range(5):
        inside = [case for case in manifest.cases if case.fold == fold]
        per_finding = [
            sum(bool(case.findings[n]) for case in inside) for n in ACDC_SCHEMA.finding_names
        ]
        assert (len(inside), per_finding) == (20, [4, 4, 4, 4])
