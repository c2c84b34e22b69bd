"""DICOM results of real series: tilted, uneven, not square, oblique, multi-frame, without UIDs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medmtl.data.intake import open_input
from medmtl.dicom.read_rtstruct import read_rtstruct
from medmtl.dicom.read_seg import read_seg
from medmtl.report.dicom_pm import make_pm
from medmtl.report.dicom_rtstruct import make_rtstruct
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, save_dicom
from medmtl.report.dicom_sr import make_sr
from tests.dicom_results import LABELS, MODEL, answer, coarse, points_by_hand

FOLDERS = (
    "ct_thorax_jpeg2000", "ct_head_tilted_uneven", "ct_nonsquare", "enhanced_multiframe",
    "mr_oblique",
)  # fmt: skip
_OF_THE_SOURCE = "Illegal root for UID = <0.0.0.0."
"""mr_oblique has such UIDs; what cites it must repeat them."""


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_of_a_real_series_hold_every_voxel_and_no_error(
    shared_data: Path, tmp_path: Path, folder: str
) -> None:
    study = open_input(shared_data / "dicom" / folder).studies[0]
    volume = study.volumes[0].read()
    i, j, k = (size // 2 for size in volume.geometry.shape)
    label_map = np.zeros(volume.geometry.shape, dtype=np.uint8)
    label_map[: i // 2, : j // 3, :k], label_map[i : i + 9, j:-1, k:] = 3, 5
    prediction = answer(volume, label_map)
    source = DicomSource.of(study, volume, MODEL)
    segments = segments_of(source, prediction)
    seg = make_seg(source, label_map, segments)
    seg.save(tmp_path / "seg.dcm")
    save_dicom(tmp_path / "sr.dcm", make_sr(source, prediction, seg=seg, segments=segments))
    pm = make_pm(source, coarse(volume), finding="cardiomegaly", number=1)
    save_dicom(tmp_path / "pm.dcm", pm)
    save_dicom(tmp_path / "rt.dcm", make_rtstruct(source, label_map, segments))

    contours = read_rtstruct(
        tmp_path / "rt.dcm", volume.geometry, series_uid=source.frames[0].series_uid
    )
    for read in (read_seg(tmp_path / "seg.dcm", volume.geometry), contours):
        np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), label_map)
        assert read.flags == ()
    to_index = np.linalg.inv(volume.geometry.affine_lps)
    for number, points in points_by_hand(tmp_path / "seg.dcm").items():
        index = np.argwhere(label_map == list(LABELS)[number - 1])
        centroid = to_index[:3, :3] @ points.mean(axis=0) + to_index[:3, 3]
        assert np.abs(centroid - index.mean(axis=0)).max() < 0.1
    assert _errors(tmp_path) == []


def _errors(folder: Path) -> list[str]:
    dciodvfy = shutil.which("dciodvfy")
    if dciodvfy is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")
    said = []
    for name in ("seg", "sr", "pm", "rt"):
        done = subprocess.run(
            [dciodvfy, "-new", str(folder / f"{name}.dcm")], capture_output=True, text=True,
            errors="replace", timeout=60, check=False,
        )  # fmt: skip
        said += [line for line in done.stderr.splitlines() if line.startswith("Error")]
    return [line for line in said if _OF_THE_SOURCE not in line]
