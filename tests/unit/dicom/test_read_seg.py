"""Segmentations of others come back on the image's grid; what cannot be trusted is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.dicom.read_seg import read_seg
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource
from tests.dicom_results import LABELS, MODEL, answer, read_source, write_source


def _nrrd(path: Path) -> tuple[NDArray[Any], Geometry]:
    """An ITK image as (i, j, k) and its grid; ITK's space is LPS."""
    image = sitk.ReadImage(str(path))
    grid = Geometry.from_parts(
        shape=image.GetSize(),
        spacing_mm=image.GetSpacing(),
        origin_lps=image.GetOrigin(),
        direction=np.reshape(image.GetDirection(), (3, 3)),
    )
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), grid


@pytest.mark.parametrize(
    ("name", "reference", "number"),
    [
        ("liver.dcm", "liver_seg.nrrd", 1),
        ("24x38x3/seg/label.seg", "24x38x3/nrrd/label.nrrd", 1),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", 1),
        ("sparse-labelmap-noppv.dcm", "sparse_labelmap_noppv_seg.nrrd", 1),
        ("sparse-labelmap-ppv5.dcm", "sparse_labelmap_ppv5_seg.nrrd", 1),
        ("partial_overlaps.dcm", "partial_overlaps-1.nrrd", 4),
        ("partial_overlaps.dcm", "partial_overlaps-2.nrrd", 2),
        ("partial_overlaps.dcm", "partial_overlaps-3.nrrd", 3),
    ],
)
def test_segmentations_of_dcmqi_equal_what_dcmqi_says(
    shared_data: Path, name: str, reference: str, number: int
) -> None:
    folder = shared_data / "dicom" / "seg_examples"
    labels, grid = _nrrd(folder / reference)
    read = read_seg(folder / name, grid)
    (segment,) = [one for one in read.segments if one.number == number]
    np.testing.assert_array_equal(segment.mask(grid.shape), labels == number)


@pytest.mark.parametrize("name", ["24x38x3", "23x38x3"])
@pytest.mark.parametrize("source", ["image", "multiframe"])
def test_the_source_series_of_others_is_the_right_grid(
    shared_data: Path, name: str, source: str
) -> None:
    """Single-frame and multi-frame; 23 columns are no whole bytes in a binary frame."""
    folder = shared_data / "dicom" / "seg_examples" / name
    _, volume = read_source(folder / source)
    read = read_seg(
        folder / "seg" / "label.seg",
        volume.geometry,
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )
    labels, grid = _nrrd(folder / "nrrd" / "label.nrrd")
    assert volume.geometry.is_close(grid, tolerance_voxel=0.02)
    np.testing.assert_array_equal(read.label_map(), labels)
    assert read.flags == ()


def test_overlapping_segments_are_reported(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "seg_examples"
    _, grid = _nrrd(folder / "partial_overlaps-1.nrrd")
    read = read_seg(folder / "partial_overlaps.dcm", grid)
    masks = {one.number: one.mask(grid.shape) for one in read.segments}
    assert {(o.first, o.second) for o in read.overlaps} == {(1, 2), (1, 3), (2, 3)}
    assert read.overlaps[0].voxels == int((masks[1] & masks[2]).sum())
    assert [flag.code for flag in read.flags] == ["segments-overlap"]


def _ours(folder: Path, kind: str = "axial") -> tuple[Dataset, Geometry, NDArray[np.uint8], str]:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    prediction = answer(volume)
    source = DicomSource.of(study, volume, MODEL)
    label_map = prediction.volumes[0].label_map
    make_seg(source, label_map, segments_of(source, prediction)).save(folder / "seg.dcm")
    seg = pydicom.dcmread(folder / "seg.dcm")
    return seg, volume.geometry, label_map, volume.frame_of_reference_uid


def test_the_order_of_frames_means_nothing(tmp_path: Path) -> None:
    seg, grid, label_map, _ = _ours(tmp_path)
    order = np.random.default_rng(0).permutation(seg.NumberOfFrames)
    groups, pixels = list(seg.PerFrameFunctionalGroupsSequence), seg.pixel_array
    seg.PerFrameFunctionalGroupsSequence = DicomSequence([groups[n] for n in order])
    seg.PixelData = np.packbits(pixels[order].ravel(), bitorder="little").tobytes()
    seg.save_as(tmp_path / "shuffled.dcm")
    read = read_seg(tmp_path / "shuffled.dcm", grid)
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), label_map)


def test_a_mirrored_and_permuted_grid_gets_the_same_voxels(tmp_path: Path) -> None:
    _, grid, label_map, _ = _ours(tmp_path)
    turned = np.array([[0, -1, 0, 19], [0, 0, 1, 0], [-1, 0, 0, 5], [0, 0, 0, 1]], dtype=float)
    other = Geometry(shape=(6, 20, 13), affine_lps=grid.affine_lps @ turned)
    read = read_seg(tmp_path / "seg.dcm", other)
    wanted = label_map.transpose(2, 0, 1)[::-1, ::-1]
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), wanted)
    assert read.flags == ()


def test_a_finer_grid_is_sampled_and_that_is_said(tmp_path: Path) -> None:
    _, grid, label_map, _ = _ours(tmp_path)
    finer = np.diag([0.5, 0.5, 0.5, 1.0])
    finer[:3, 3] = -0.25
    shape = (40, 26, 12)
    read = read_seg(tmp_path / "seg.dcm", Geometry(shape, grid.affine_lps @ finer))
    wanted = label_map.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), wanted)
    assert [flag.code for flag in read.flags] == ["segmentation-resampled"]


def test_thicker_frames_fill_the_slices_between_them(tmp_path: Path) -> None:
    """A segmentation of the 2.5 mm series on a 1.25 mm series with the same pixels."""
    _, grid, label_map, _ = _ours(tmp_path)
    thinner = np.diag([1.0, 1.0, 0.5, 1.0])
    read = read_seg(tmp_path / "seg.dcm", Geometry((20, 13, 12), grid.affine_lps @ thinner))
    wanted = label_map.repeat(2, axis=2)
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), wanted)
    assert [flag.code for flag in read.flags] == ["segmentation-resampled"]


def test_an_image_that_holds_a_part_only_is_said(tmp_path: Path) -> None:
    _, grid, label_map, _ = _ours(tmp_path)
    box = (slice(0, 20), slice(0, 13), slice(2, 6))
    read = read_seg(tmp_path / "seg.dcm", grid.crop(box))
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), label_map[box])
    assert [flag.code for flag in read.flags] == ["segmentation-outside"]


def test_a_sampled_part_outside_of_the_image_is_said(tmp_path: Path) -> None:
    seg, grid, _, _ = _ours(tmp_path)
    for group in seg.PerFrameFunctionalGroupsSequence:  # off the pixel centres, half outside
        group.PlanePositionSequence[0].ImagePositionPatient[0] -= 5.4
    seg.save_as(tmp_path / "moved.dcm")
    flags = [flag.code for flag in read_seg(tmp_path / "moved.dcm", grid).flags]
    assert flags == ["segmentation-resampled", "segmentation-outside"]


def _other_place(seg: Dataset) -> None:
    seg.FrameOfReferenceUID = "1.2.3"


def _cut_pixels(seg: Dataset) -> None:
    seg.PixelData = seg.PixelData[: len(seg.PixelData) // 4 * 2]


def _no_position(seg: Dataset) -> None:
    del seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _fewer_groups(seg: Dataset) -> None:
    del seg.PerFrameFunctionalGroupsSequence[-1]


def _no_segment(seg: Dataset) -> None:
    del seg.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence


def _other_kind(seg: Dataset) -> None:
    seg.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (_other_place, "other-frame-of-reference"),
        (_cut_pixels, "truncated"),
        (_no_position, "missing-geometry"),
        (_fewer_groups, "frame-count"),
        (_no_segment, "missing-segment"),
        (_other_kind, "not-a-segmentation"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, damage: Any, code: str) -> None:
    seg, grid, _, frame_of_reference = _ours(tmp_path)
    damage(seg)
    seg.save_as(tmp_path / "bad.dcm")
    with pytest.raises(InputRefusedError) as caught:
        read_seg(tmp_path / "bad.dcm", grid, frame_of_reference_uid=frame_of_reference)
    assert caught.value.code == code


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no DICOM" * 100)
    with pytest.raises(InputRefusedError):
        read_seg(tmp_path / "x.dcm", Geometry((2, 2, 2), np.eye(4)))
