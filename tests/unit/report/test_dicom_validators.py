"""What programs of others say of the written objects: dciodvfy (dicom3tools) and DCMTK."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medmtl.report.dicom_pm import make_pm
from medmtl.report.dicom_rtstruct import make_rtstruct
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, save_dicom
from medmtl.report.dicom_sr import make_sr
from tests.dicom_results import LABELS, MODEL, answer, blobs, coarse, read_source, write_source

OBJECTS = ("seg", "sr", "pm", "rt")


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return path


def _write(folder: Path, kind: str) -> None:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    prediction = answer(volume)
    source = DicomSource.of(study, volume, MODEL)
    segments = segments_of(source, prediction)
    seg = make_seg(source, prediction.volumes[0].label_map, segments)
    seg.save(folder / "seg.dcm")
    save_dicom(folder / "sr.dcm", make_sr(source, prediction, seg=seg, segments=segments))
    pm = make_pm(source, coarse(volume), finding="cardiomegaly", number=1)
    save_dicom(folder / "pm.dcm", pm)
    label_map = prediction.volumes[0].label_map
    save_dicom(folder / "rt.dcm", make_rtstruct(source, label_map, segments))


def _said(*command: object) -> list[str]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace",
        timeout=60, check=False,
    )  # fmt: skip
    return (done.stdout + done.stderr).splitlines()


@pytest.mark.parametrize("kind", ["axial", "oblique", "tilted", "multi-frame"])
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    dciodvfy = _tool("dciodvfy", "dicom3tools")
    _write(tmp_path, kind)
    for name in OBJECTS:
        said = _said(dciodvfy, "-new", tmp_path / f"{name}.dcm")
        assert [line for line in said if line.startswith("Error")] == []
        assert said  # it names the object that it recognised


def test_dciodvfy_would_find_an_error(tmp_path: Path) -> None:
    import pydicom

    dciodvfy = _tool("dciodvfy", "dicom3tools")
    _write(tmp_path, "axial")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    del seg.SegmentSequence
    seg.save_as(tmp_path / "broken.dcm")
    said = _said(dciodvfy, "-new", tmp_path / "broken.dcm")
    assert any(line.startswith("Error") for line in said)


def test_dcmtk_reads_every_object_and_prints_the_report(tmp_path: Path) -> None:
    dcmdump, dsrdump = _tool("dcmdump", "dcmtk"), _tool("dsrdump", "dcmtk")
    _write(tmp_path, "axial")
    for name in OBJECTS:
        said = _said(dcmdump, "-q", tmp_path / f"{name}.dcm")
        assert any("SOPInstanceUID" in line for line in said)
        assert not [line for line in said if line.startswith(("E:", "F:"))]
    report = _said(dsrdump, "-Ee", tmp_path / "sr.dcm")
    assert not [line for line in report if line.startswith(("E:", "F:"))]
    assert any("Cardiomegaly" in line and "Present" in line for line in report)


@pytest.mark.parametrize("kind", ["axial", "coronal", "sagittal", "mirrored", "oblique"])
def test_plastimatch_reads_every_voxel_of_a_structure_set(tmp_path: Path, kind: str) -> None:
    """A reader in another language, by other people, with a hole in the liver."""
    plastimatch = _tool("plastimatch", "plastimatch")
    write_source(tmp_path / "in", kind)
    study, volume = read_source(tmp_path / "in")
    label_map = blobs(volume.geometry.shape)
    label_map[4:6, 2:4, 0:3] = 0
    prediction = answer(volume, label_map)
    source = DicomSource.of(study, volume, MODEL)
    rt = make_rtstruct(source, label_map, segments_of(source, prediction))
    save_dicom(tmp_path / "rt.dcm", rt)
    _said(
        plastimatch, "convert", "--input", tmp_path / "rt.dcm", "--referenced-ct", tmp_path / "in",
        "--output-prefix", tmp_path / "masks", "--prefix-format", "nii.gz",
    )  # fmt: skip
    for label, name in LABELS.items():
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "masks" / f"{name}.nii.gz")))
        np.testing.assert_array_equal(mask.transpose(2, 1, 0) > 0, label_map == label)
