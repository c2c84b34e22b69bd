"""RT structure sets hold the masks to the voxel, whoever reads them, for every kind of source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from medmtl.core.geometry import Geometry
from medmtl.dicom.contours import fill
from medmtl.report.contours import polygons
from medmtl.report.dicom_rtstruct import make_rtstruct
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, save_dicom
from tests.dicom_results import (
    KINDS,
    LABELS,
    MODEL,
    PATIENT,
    answer,
    blobs,
    read_source,
    write_source,
)


def _tricky(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Holes in holes, an island in a hole, pixels that touch at corners, borders of the image."""
    label_map = blobs(shape)
    label_map[2:9, 1:5, 0:3] = 0
    label_map[0:9, 0:13, 0:3] = 3
    label_map[1:8, 1:12, 0:3] = 0
    label_map[2:7, 2:11, 0:3] = 3
    label_map[3:5, 3:5, 0:3] = 0
    label_map[5, 8, 0:3] = 0
    label_map[17:20, 10:13, 5] = np.eye(3, dtype=np.uint8) * 7
    return label_map


def _write(
    folder: Path, kind: str, label_map: NDArray[np.uint8] | None = None
) -> tuple[pydicom.Dataset, Geometry]:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    mask = _tricky(volume.geometry.shape) if label_map is None else label_map
    prediction = answer(volume, mask)
    source = DicomSource.of(study, volume, MODEL)
    save_dicom(folder / "rt.dcm", make_rtstruct(source, mask, segments_of(source, prediction)))
    return pydicom.dcmread(folder / "rt.dcm"), volume.geometry


def _points(contour: pydicom.Dataset) -> NDArray[np.float64]:
    return np.array(contour.ContourData, dtype=float).reshape(-1, 3)


def _masks_by_hand(rt: pydicom.Dataset, grid: Geometry) -> dict[int, NDArray[np.bool_]]:
    """Each region by pydicom and matplotlib alone."""
    inverse = np.linalg.inv(grid.affine_lps)
    centres = np.indices(grid.shape[:2]).reshape(2, -1).T
    masks = {}
    for region in rt.ROIContourSequence:
        mask = np.zeros(grid.shape, dtype=bool)
        for contour in region.get("ContourSequence", ()):
            index = _points(contour) @ inverse[:3, :3].T + inverse[:3, 3]
            k = round(float(index[:, 2].mean()))
            assert np.abs(index[:, 2] - k).max() < 0.01
            mask[..., k] ^= Outline(index[:, :2]).contains_points(centres).reshape(grid.shape[:2])
        masks[int(region.ReferencedROINumber)] = mask
    return masks


@pytest.mark.parametrize("kind", KINDS)
def test_every_voxel_is_inside_its_contour(tmp_path: Path, kind: str) -> None:
    rt, grid = _write(tmp_path, kind)
    label_map = _tricky(grid.shape)
    for (number, mask), label in zip(_masks_by_hand(rt, grid).items(), LABELS, strict=True):
        np.testing.assert_array_equal(mask, label_map == label, err_msg=f"{kind} {number}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_centre_of_each_segment_is_where_it_was(tmp_path: Path, kind: str) -> None:
    """Of the polygons themselves, by the shoelace formula: within a tenth of a voxel."""
    rt, grid = _write(tmp_path, kind, None)
    inverse = np.linalg.inv(grid.affine_lps)
    for region, label in zip(rt.ROIContourSequence, LABELS, strict=True):
        total, moment = 0.0, np.zeros(3)
        for contour in region.ContourSequence:
            index = _points(contour) @ inverse[:3, :3].T + inverse[:3, 3]
            x, y, k = index.T
            cross = x * np.roll(y, -1) - np.roll(x, -1) * y
            area = cross.sum() / 2
            centre = [
                ((x + np.roll(x, -1)) * cross).sum() / (6 * area),
                ((y + np.roll(y, -1)) * cross).sum() / (6 * area),
                k.mean(),
            ]
            total, moment = total + abs(area), moment + abs(area) * np.array(centre)
        wanted = np.argwhere(_tricky(grid.shape) == label).mean(axis=0)
        assert np.abs(moment / total - wanted).max() < 0.5


def test_study_frame_of_reference_patient_and_sources_are_those_of_the_source(
    tmp_path: Path,
) -> None:
    rt, _ = _write(tmp_path, "axial")
    images = [pydicom.dcmread(file) for file in (tmp_path / "in").iterdir()]
    assert {rt.StudyInstanceUID} == {image.StudyInstanceUID for image in images}
    (frame,) = rt.ReferencedFrameOfReferenceSequence
    assert {frame.FrameOfReferenceUID} == {image.FrameOfReferenceUID for image in images}
    assert {keyword: str(rt[keyword].value) for keyword in PATIENT} == PATIENT
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    cited = {item.ReferencedSOPInstanceUID for item in series.ContourImageSequence}
    assert cited == {image.SOPInstanceUID for image in images}
    heights = {image.SOPInstanceUID: float(image.ImagePositionPatient[2]) for image in images}
    for region in rt.ROIContourSequence:
        for contour in region.ContourSequence:
            (image,) = contour.ContourImageSequence
            assert heights[image.ReferencedSOPInstanceUID] == pytest.approx(_points(contour)[0, 2])


def test_a_frame_of_a_multi_frame_source_is_cited_by_number(tmp_path: Path) -> None:
    rt, _ = _write(tmp_path, "multi-frame")
    image = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    places = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in image.PerFrameFunctionalGroupsSequence
    ]
    for contour in rt.ROIContourSequence[0].ContourSequence:
        (cited,) = contour.ContourImageSequence
        assert places[cited.ReferencedFrameNumber - 1] == pytest.approx(_points(contour)[0, 2])


def test_a_resampled_volume_cites_the_series_and_no_single_image(tmp_path: Path) -> None:
    rt, _ = _write(tmp_path, "tilted")
    contours = [c for region in rt.ROIContourSequence for c in region.ContourSequence]
    assert not any("ContourImageSequence" in contour for contour in contours)
    series = rt.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    assert len(series.RTReferencedSeriesSequence[0].ContourImageSequence) == 6


def test_codes_origin_and_the_notice_are_said(tmp_path: Path) -> None:
    rt, _ = _write(tmp_path, "axial")
    codes = [o.RTROIIdentificationCodeSequence[0].CodeValue for o in rt.RTROIObservationsSequence]
    assert codes == ["10200004", "78961009", "52988006"]
    assert [o.RTROIInterpretedType for o in rt.RTROIObservationsSequence] == ["ORGAN", "ORGAN", ""]
    assert [r.ROIName for r in rt.StructureSetROISequence] == ["liver", "spleen", "lesion"]
    assert {r.ROIGenerationAlgorithm for r in rt.StructureSetROISequence} == {"AUTOMATIC"}
    assert "research use only" in rt.StructureSetDescription
    assert "RESEARCH USE ONLY" in rt.SeriesDescription
    assert rt.ApprovalStatus == "UNAPPROVED"


def test_an_empty_segment_is_described_without_contours(tmp_path: Path) -> None:
    label_map = np.zeros((20, 13, 6), dtype=np.uint8)
    label_map[3:5, 3:5, 2] = 5
    rt, _ = _write(tmp_path, "axial", label_map)
    assert [len(r.get("ContourSequence", ())) for r in rt.ROIContourSequence] == [0, 1, 0]
    assert len(rt.StructureSetROISequence) == 3


def test_the_same_again_is_the_same_bytes_and_another_mask_another_uid(tmp_path: Path) -> None:
    first, _ = _write(tmp_path / "1", "oblique")
    _write(tmp_path / "2", "oblique")
    assert (tmp_path / "1" / "rt.dcm").read_bytes() == (tmp_path / "2" / "rt.dcm").read_bytes()
    other, _ = _write(tmp_path / "3", "oblique", blobs((20, 13, 6)))
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.SeriesInstanceUID == first.SeriesInstanceUID


@pytest.mark.parametrize("seed", range(20))
def test_a_polygon_per_piece_and_filling_them_is_the_mask_again(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = random.random((17, 23)) < random.choice([0.1, 0.5, 0.9])
    rings = list(polygons(mask))
    np.testing.assert_array_equal(fill(rings, mask.shape), mask)
    centres = np.indices(mask.shape)[::-1].reshape(2, -1).T
    alone = np.zeros(mask.size, dtype=int)
    for ring in rings:
        alone += Outline(ring).contains_points(centres)
    np.testing.assert_array_equal(alone.reshape(mask.shape), mask)  # pieces never overlap


def test_a_square_has_eight_corners_and_a_ring_is_one_polygon() -> None:
    square = np.zeros((9, 9), dtype=bool)
    square[2:7, 2:7] = True
    (outline,) = polygons(square)
    assert len(outline) == 8  # each corner cut off half way to the next pixel
    square[4, 4] = False
    (outline,) = polygons(square)
    assert len(outline) == 8 + 4 + 4  # and the channel, in and out
