from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest

from medmtl.core.geometry import points_to_space
from medmtl.phantom import (
    CinePhantom,
    TorsoPhantom,
    cine_truth,
    generate_cine,
    generate_torso,
    torso_truth,
    write_cine_study,
    write_torso_study,
)
from medmtl.phantom.dicom_header import stable_uid

if TYPE_CHECKING:
    from pathlib import Path

TYPE_1 = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "FrameOfReferenceUID", "ImageType", "PixelSpacing", "ImageOrientationPatient",
    "ImagePositionPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
)  # fmt: skip
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "ReferringPhysicianName", "StudyID", "AccessionNumber", "SeriesNumber", "InstanceNumber",
    "PositionReferenceIndicator", "Manufacturer", "SliceThickness", "PatientPosition",
)  # fmt: skip
CT_ONLY = ("RescaleIntercept", "RescaleSlope", "KVP", "AcquisitionNumber")
MR_ONLY = (
    "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "RepetitionTime",
    "EchoTime", "EchoTrainLength", "TriggerTime",
)  # fmt: skip


@pytest.fixture(scope="module")
def torso() -> TorsoPhantom:
    return generate_torso(7, spacing_mm=(10, 8, 12), findings={"lung_nodule": True})


@pytest.fixture(scope="module")
def torso_files(torso: TorsoPhantom, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("torso")
    write_torso_study(folder, torso, seed=7)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def cine() -> CinePhantom:
    return generate_cine(1, group="DCM", phases=2)


@pytest.fixture(scope="module")
def cine_files(cine: CinePhantom, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("cine")
    write_cine_study(folder, cine, seed=1)
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def _voxel_centres(header: Any) -> np.ndarray[Any, Any]:
    """Equation C.7.6.2.1-1 of PS3.3, shape (columns, rows, 3)."""
    orientation = np.array(header.ImageOrientationPatient, dtype=float)
    row_mm, column_mm = (float(value) for value in header.PixelSpacing)
    i, j = np.ogrid[: header.Columns, : header.Rows]
    return np.asarray(
        np.array(header.ImagePositionPatient, dtype=float)
        + i[..., None] * column_mm * orientation[:3]
        + j[..., None] * row_mm * orientation[3:]
    )


def test_ct_voxel_centres_and_hounsfield_units_are_exact(
    torso: TorsoPhantom, torso_files: list[Any]
) -> None:
    assert len(torso_files) == torso.volume.geometry.shape[2]
    for k, header in enumerate(torso_files):
        columns, rows = torso.volume.array.shape[:2]
        index = np.argwhere(np.ones((columns, rows, 1))) + (0, 0, k)  # noqa: RUF005
        expected = points_to_space(torso.volume.geometry.affine_lps, index)
        np.testing.assert_allclose(_voxel_centres(header).reshape(-1, 3), expected, atol=1e-6)
        hu = header.pixel_array.T * float(header.RescaleSlope) + float(header.RescaleIntercept)
        np.testing.assert_array_equal(hu, torso.volume.array[:, :, k])


def test_cine_voxel_centres_values_and_times_are_exact(
    cine: CinePhantom, cine_files: list[Any]
) -> None:
    geometry = cine.volumes[0].geometry
    assert len(cine_files) == geometry.shape[2] * 2
    for number, header in enumerate(cine_files):
        k, phase = divmod(number, 2)
        corners = [(0, 0, k), (geometry.shape[0] - 1, geometry.shape[1] - 1, k)]
        centres = _voxel_centres(header)
        np.testing.assert_allclose(
            [centres[0, 0], centres[-1, -1]],
            points_to_space(geometry.affine_lps, corners),
            atol=1e-4,
        )
        np.testing.assert_array_equal(header.pixel_array.T, cine.volumes[phase].array[:, :, k])
        assert float(header.TriggerTime) == pytest.approx(cine.volumes[phase].time_ms, abs=1e-3)


def test_headers_have_what_the_standard_asks_for(
    torso_files: list[Any], cine_files: list[Any]
) -> None:
    for files, extra in ((torso_files, CT_ONLY), (cine_files, MR_ONLY)):
        for header in files:
            assert [name for name in TYPE_1 if header.get(name) in (None, "", b"")] == []
            assert [name for name in (*TYPE_2, *extra) if name not in header] == []


def test_headers_name_no_patient(torso_files: list[Any], cine_files: list[Any]) -> None:
    for header in (*torso_files, *cine_files):
        assert str(header.PatientName).startswith("PHANTOM^")
        assert header.PatientBirthDate == ""
        assert header.BurnedInAnnotation == "NO"
        assert header.Manufacturer == "medmtl"
        assert "not a patient" in header.SeriesDescription


def test_instances_of_a_series_agree_and_differ_where_they_must(torso_files: list[Any]) -> None:
    assert len({header.SOPInstanceUID for header in torso_files}) == len(torso_files)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({header.get(name) for header in torso_files}) == 1


def test_files_depend_on_nothing_but_the_seed(torso: TorsoPhantom, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_torso_study(tmp_path / name, torso, seed=7)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_uids_are_valid_and_told_apart() -> None:
    uids = {stable_uid("study", seed) for seed in range(50)}
    assert len(uids) == 50
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 44 for uid in uids)


def test_truth_says_what_was_planted(torso: TorsoPhantom, cine: CinePhantom) -> None:
    truth = torso_truth(torso)
    assert truth["findings"]["lung_nodule"] is True
    assert any(lesion["finding"] == "lung_nodule" for lesion in truth["lesions"])
    heart = cine_truth(cine)
    volumes = heart["volumes_ml"]["left_ventricle_cavity"]
    assert [name for name, present in heart["findings"].items() if present] == [
        "dilated_cardiomyopathy"
    ]
    assert volumes[heart["ed_phase"]] == max(volumes)
    assert volumes[heart["es_phase"]] == min(volumes)
