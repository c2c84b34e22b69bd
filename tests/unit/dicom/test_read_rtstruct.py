"""Structure sets of any program become masks on the image's grid, by where their points lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.dicom.read_rtstruct import read_rtstruct
from medmtl.report.dicom_rtstruct import make_rtstruct
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, save_dicom
from tests.dicom_results import DIRECTIONS, KINDS, LABELS, MODEL, answer, read_source, write_source

FRAME = "1.2.840.99.7"
GRID = Geometry.from_parts(
    shape=(24, 20, 10), spacing_mm=(1.0, 1.5, 3.0), origin_lps=(-10.0, 5.0, 40.0),
    direction=DIRECTIONS["oblique"],
)  # fmt: skip
SQUARE = np.array([[3.2, 4.2], [9.8, 4.2], [9.8, 11.8], [3.2, 11.8]])  # holds 4..9 by 5..11
INNER = np.array([[5.5, 6.5], [7.5, 6.5], [7.5, 8.5], [5.5, 8.5]])  # holds 6..7 by 7..8


def _at(points: NDArray[np.float64], k: float, grid: Geometry = GRID) -> NDArray[np.float64]:
    """Points (column, row) of slice k in mm."""
    index = np.column_stack([points, np.full(len(points), k), np.ones(len(points))])
    return np.asarray((grid.affine_lps @ index.T).T[:, :3])


def _theirs(path: Path, regions: dict[str, list[NDArray[np.float64]]], kind: str = "") -> Path:
    """A structure set as others write them: explicit VR, no image cited."""
    rt = Dataset()
    rt.SOPClassUID, rt.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.4"
    rt.Modality = "RTSTRUCT"
    rois, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=11):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, FRAME
        rois.append(roi)
        items = []
        for contour in contours:
            item = Dataset()
            item.ContourGeometricType = kind or "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(contour)
            item.ContourData = [f"{value:.3f}" for value in contour.ravel()]
            items.append(item)
        region = Dataset()
        region.ReferencedROINumber, region.ContourSequence = number, DicomSequence(items)
        drawn.append(region)
    rt.StructureSetROISequence = DicomSequence(rois)
    rt.ROIContourSequence = DicomSequence(drawn[::-1])
    rt.file_meta = FileMetaDataset()
    rt.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    rt.file_meta.MediaStorageSOPClassUID = rt.SOPClassUID
    rt.file_meta.MediaStorageSOPInstanceUID = rt.SOPInstanceUID
    rt.save_as(path, enforce_file_format=True)
    return path


def _square(*slices: int) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape, dtype=bool)
    for k in slices:
        mask[4:10, 5:12, k] = True
    return mask


def _ours(folder: Path, kind: str) -> tuple[Path, Geometry, NDArray[np.uint8]]:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    prediction = answer(volume)
    source = DicomSource.of(study, volume, MODEL)
    label_map = prediction.volumes[0].label_map
    structure_set = make_rtstruct(source, label_map, segments_of(source, prediction))
    save_dicom(folder / "rt.dcm", structure_set)
    return folder / "rt.dcm", volume.geometry, label_map


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    path, grid, label_map = _ours(tmp_path, kind)
    read = read_rtstruct(path, grid)
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), label_map)
    assert read.flags == ()
    assert [segment.label for segment in read.segments] == list(LABELS.values())
    assert [s.type.value if s.type else "" for s in read.segments] == [
        "10200004", "78961009", "52988006",
    ]  # fmt: skip


def test_a_mirrored_and_permuted_grid_gets_the_same_voxels(tmp_path: Path) -> None:
    path, grid, label_map = _ours(tmp_path, "oblique")
    turned = np.array([[0, -1, 0, 19], [0, 0, 1, 0], [-1, 0, 0, 5], [0, 0, 0, 1]], dtype=float)
    other = Geometry(shape=(6, 20, 13), affine_lps=grid.affine_lps @ turned)
    read = read_rtstruct(path, other)
    wanted = label_map.transpose(2, 0, 1)[::-1, ::-1]
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), wanted)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_an_inner_contour_is_a_hole(tmp_path: Path, kind: str) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"Leber": [_at(SQUARE, 4), _at(INNER[::-1], 4)]}, kind)
    (segment,) = read_rtstruct(path, GRID).segments
    wanted = _square(4)
    wanted[6:8, 7:9, 4] = False
    np.testing.assert_array_equal(segment.mask(GRID.shape), wanted)
    assert (segment.number, segment.label, segment.type) == (11, "Leber", None)


def test_a_contour_that_is_written_twice_is_no_hole_in_itself(tmp_path: Path) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"Leber": [_at(SQUARE, 4), _at(SQUARE, 4)]})
    (segment,) = read_rtstruct(path, GRID).segments
    np.testing.assert_array_equal(segment.mask(GRID.shape), _square(4))


def test_regions_keep_their_own_contours_and_may_overlap(tmp_path: Path) -> None:
    regions = {"a": [_at(SQUARE, 1), _at(SQUARE, 2)], "b": [_at(INNER, 2)]}
    read = read_rtstruct(_theirs(tmp_path / "rt.dcm", regions), GRID, frame_of_reference_uid=FRAME)
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(1, 2))
    assert read.segments[1].voxels == 4
    assert [(one.first, one.second, one.voxels) for one in read.overlaps] == [(11, 12, 4)]
    assert [flag.code for flag in read.flags] == ["segments-overlap"]


def test_contours_across_the_slices_are_masks_as_well(tmp_path: Path) -> None:
    """Drawn on every plane of axis i, as in a coronal or sagittal view of the volume."""
    corners = np.array([[4.6, 2.6], [12.4, 2.6], [12.4, 7.4], [4.6, 7.4]])  # j 5..12, k 3..7
    contours = []
    for i in range(6, 10):
        index = np.column_stack([np.full(4, i), corners, np.ones(4)])
        contours.append((GRID.affine_lps @ index.T).T[:, :3])
    (segment,) = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"a": contours}), GRID).segments
    wanted = np.zeros(GRID.shape, dtype=bool)
    wanted[6:10, 5:13, 3:8] = True
    np.testing.assert_array_equal(segment.mask(GRID.shape), wanted)


def test_contours_of_a_thicker_series_fill_the_slices_between(tmp_path: Path) -> None:
    """Planes two slices apart stand for two slices each, and that is said."""
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, k) for k in (2, 4, 6)]})
    read = read_rtstruct(path, GRID)
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(2, 3, 4, 5, 6, 7))
    assert [flag.code for flag in read.flags] == ["segmentation-resampled"]


def test_contours_of_the_volumes_own_series_stand_for_their_slices_alone(tmp_path: Path) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, k) for k in (2, 4, 6)]})
    rt = pydicom.dcmread(path)
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = "1.2.8"
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame.RTReferencedStudySequence = DicomSequence([study])
    rt.ReferencedFrameOfReferenceSequence = DicomSequence([frame])
    rt.save_as(path)
    read = read_rtstruct(path, GRID, series_uid="1.2.8")
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(2, 4, 6))
    assert (read.flags, read.series_uids) == ((), ("1.2.8",))
    other = read_rtstruct(path, GRID, series_uid="1.2.9")
    assert other.segments[0].voxels == 2 * read.segments[0].voxels


def test_a_contour_between_slices_goes_to_the_nearest_and_that_is_said(tmp_path: Path) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, 3.3), _at(SQUARE, 4.3)]})
    read = read_rtstruct(path, GRID)
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(3, 4))
    assert [flag.code for flag in read.flags] == ["segmentation-resampled"]


def test_planes_oblique_to_the_slices_give_the_ball_that_they_cut(tmp_path: Path) -> None:
    """A ball of 7 mm cut every 0.5 mm along a direction of its own: volume and centre."""
    grid = Geometry.from_parts(shape=(30, 30, 30), spacing_mm=(0.8, 0.8, 0.8))
    centre, normal = np.array([11.0, 12.0, 13.0]), np.array([1.0, 2.0, 3.0]) / np.sqrt(14.0)
    u = np.cross(normal, [1.0, 0.0, 0.0])
    u /= np.linalg.norm(u)
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    contours = []
    for height in np.arange(-6.75, 7.0, 0.5):
        radius = np.sqrt(49.0 - height**2)
        circle = np.outer(np.cos(angle), u) + np.outer(np.sin(angle), np.cross(normal, u))
        contours.append(centre + height * normal + radius * circle)
    read = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"ball": contours}), grid)
    mask = read.segments[0].mask(grid.shape)
    ball_mm3 = 4 / 3 * np.pi * 7.0**3
    assert mask.sum() * grid.voxel_mm3 == pytest.approx(ball_mm3, rel=0.02)
    assert np.abs(np.argwhere(mask).mean(axis=0) * 0.8 - centre).max() < 0.1
    assert [flag.code for flag in read.flags] == ["segmentation-resampled"]


def test_a_part_outside_of_the_image_is_said(tmp_path: Path) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, k) for k in (8, 9, 10)]})
    read = read_rtstruct(path, GRID)
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(8, 9))
    assert [flag.code for flag in read.flags] == ["segmentation-outside"]


def test_a_huge_contour_around_the_image_costs_no_more_than_the_image(tmp_path: Path) -> None:
    huge = np.array([[-4e4, -4e4], [4e4, -4e4], [4e4, 4e4], [-4e4, 4e4]])
    read = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"a": [_at(huge, 3)]}), GRID)
    wanted = np.zeros(GRID.shape, dtype=bool)
    wanted[..., 3] = True
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), wanted)
    assert [flag.code for flag in read.flags] == ["segmentation-outside"]


def test_a_contour_beside_the_image_is_said(tmp_path: Path) -> None:
    for place in (SQUARE + 100.0, SQUARE - 50.0):
        read = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"a": [_at(place, 3)]}), GRID)
        assert read.segments[0].voxels == 0
        assert [flag.code for flag in read.flags] == ["segmentation-outside"]


def test_points_and_open_lines_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    read = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, 2)]}, "OPEN_PLANAR"), GRID)
    assert [segment.voxels for segment in read.segments] == [0]
    assert [flag.code for flag in read.flags] == ["contours-left-out"]


@pytest.mark.parametrize(
    "points", [[], [1.0, 2, 3], [0.0, 0, 0, 1, 1, 1], [0.0, 0, 0, 1, 1, 1, 2, 2, 2]]
)
def test_closed_contours_that_are_points_or_lines_are_left_out(
    tmp_path: Path, points: list[float]
) -> None:
    """Planning systems write such; the others of the region are good."""
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, 2), _at(SQUARE, 3)]})
    rt = pydicom.dcmread(path)
    rt.ROIContourSequence[0].ContourSequence[1].ContourData = points
    rt.save_as(path)
    read = read_rtstruct(path, GRID)
    np.testing.assert_array_equal(read.segments[0].mask(GRID.shape), _square(2))
    assert [flag.code for flag in read.flags] == ["contours-left-out"]


def test_contours_of_one_plane_may_be_rounded_differently(tmp_path: Path) -> None:
    inner = _at(INNER, 4) + np.array([0.0, 0.0, 0.02])
    read = read_rtstruct(_theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, 4), inner]}), GRID)
    assert read.segments[0].voxels == 6 * 7 - 4
    assert read.flags == ()


def _cut(rt: Dataset) -> None:
    rt.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]


def _not_flat(rt: Dataset) -> None:
    data = rt.ROIContourSequence[0].ContourSequence[0].ContourData
    data[2] = float(data[2]) + 40


def _far(rt: Dataset) -> None:
    rt.ROIContourSequence[0].ContourSequence[0].ContourData[0] = 1e9


def _twice(rt: Dataset) -> None:
    rt.StructureSetROISequence.append(rt.StructureSetROISequence[0])


def _other_kind(rt: Dataset) -> None:
    rt.SOPClassUID = "1.2.840.10008.5.1.4.1.1.481.5"


def _other_place(rt: Dataset) -> None:
    rt.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"


def _no_number(rt: Dataset) -> None:
    del rt.StructureSetROISequence[0].ROINumber


@pytest.mark.parametrize(
    ("damage", "code"),
    [(_cut, "contour-data"), (_not_flat, "contour-data"),
     (_far, "contour-data"), (_twice, "roi-numbers"), (_other_kind, "not-a-structure-set"),
     (_other_place, "other-frame-of-reference"), (_no_number, "unreadable")],
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused(
    tmp_path: Path, damage: Callable[[Dataset], None], code: str
) -> None:
    path = _theirs(tmp_path / "rt.dcm", {"a": [_at(SQUARE, 2)]})
    rt = pydicom.dcmread(path)
    damage(rt)
    rt.save_as(path)
    with pytest.raises(InputRefusedError) as caught:
        read_rtstruct(path, GRID, frame_of_reference_uid=FRAME)
    assert caught.value.code == code
