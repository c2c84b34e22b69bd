"""A mask that was corrected elsewhere comes back on the grid of its volume, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medmtl.core.errors import InputRefusedError
from medmtl.core.geometry import Geometry
from medmtl.core.labels import Code, LabelSchema, SegmentSpec
from medmtl.data.correction import Correction, read_correction
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource
from tests.dicom_results import DIRECTIONS, MODEL, SCHEMA, answer, blobs, read_source, write_source

SHAPE = (20, 13, 6)
GRID = Geometry.from_parts(
    shape=SHAPE, spacing_mm=(0.8, 1.1, 2.5), origin_lps=(-31.5, 12.25, 80.0),
    direction=DIRECTIONS["oblique"],
)  # fmt: skip


def _nifti(path: Path, array: NDArray[np.generic], grid: Geometry) -> Path:
    nib.save(nib.Nifti1Image(array, grid.affine_ras), path)
    return path


def _read(path: Path, **more: object) -> Correction:
    return read_correction(path, **({"geometry": GRID, "schema": SCHEMA} | more))  # type: ignore[arg-type] # a test hands each through


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Geometry, str, NDArray[np.uint8]]:
    """A segmentation of medmtl: file, grid, frame of reference, label map."""
    write_source(tmp_path / "in", "oblique")
    study, volume = read_source(tmp_path / "in")
    prediction = answer(volume)
    source = DicomSource.of(study, volume, MODEL)
    label_map = blobs(SHAPE)
    make_seg(source, label_map, segments_of(source, prediction)).save(tmp_path / "seg.dcm")
    return tmp_path / "seg.dcm", volume.geometry, source.frame_of_reference_uid, label_map


def test_a_nifti_mask_on_the_grid_comes_back_as_it_is(tmp_path: Path) -> None:
    read = _read(_nifti(tmp_path / "m.nii.gz", blobs(SHAPE), GRID))
    np.testing.assert_array_equal(read.label_map, blobs(SHAPE))
    assert (read.kind, read.segments, read.flags) == ("nifti", ("liver", "spleen", "lesion"), ())
    assert read.label_map.dtype == np.uint8


def test_a_mirrored_and_permuted_nifti_mask_is_put_right(tmp_path: Path) -> None:
    turned = np.array([[0, -1, 0, 19], [0, 0, 1, 0], [-1, 0, 0, 5], [0, 0, 0, 1]], dtype=float)
    grid = Geometry(shape=(6, 20, 13), affine_lps=GRID.affine_lps @ turned)
    array = blobs(SHAPE).transpose(2, 0, 1)[::-1, ::-1].astype(np.float32)
    read = _read(_nifti(tmp_path / "m.nii", array, grid))
    np.testing.assert_array_equal(read.label_map, blobs(SHAPE))


@pytest.mark.parametrize("shift_voxel", [0.5, 1.0])
def test_a_nifti_mask_of_another_grid_is_refused(tmp_path: Path, shift_voxel: float) -> None:
    shift = np.eye(4)
    shift[0, 3] = shift_voxel
    path = _nifti(tmp_path / "m.nii", blobs(SHAPE), Geometry(SHAPE, GRID.affine_lps @ shift))
    with pytest.raises(InputRefusedError, match=r"0.800 x 1.100 x 2.500 mm") as caught:
        _read(path)
    assert caught.value.code == "other-grid"


@pytest.mark.parametrize("value", [4.0, 3.5, -1.0])
def test_a_label_that_the_schema_has_not_is_refused(tmp_path: Path, value: float) -> None:
    array = blobs(SHAPE).astype(np.float32)
    array[0, 0, 0] = value
    with pytest.raises(InputRefusedError, match=f"labels {value:g}") as caught:
        _read(_nifti(tmp_path / "m.nii", array, GRID))
    assert caught.value.code == "unknown-label"


def test_our_own_segmentation_comes_back_as_it_was(
    ours: tuple[Path, Geometry, str, NDArray[np.uint8]],
) -> None:
    path, grid, frame, label_map = ours
    read = read_correction(path, geometry=grid, schema=SCHEMA, frame_of_reference_uid=frame)
    np.testing.assert_array_equal(read.label_map, label_map)
    assert (read.kind, read.segments, read.flags) == ("seg", SCHEMA.segment_names, ())


def _without_codes(seg: Dataset) -> None:
    for item in seg.SegmentSequence:  # what Slicer writes by default
        item.SegmentedPropertyTypeCodeSequence[0].CodeValue = "85756007"
        item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning = "Tissue"
        item.SegmentLabel = item.SegmentLabel.upper()


def _other_names(seg: Dataset) -> None:
    for item, name in zip(seg.SegmentSequence, ("Leber", "Milz", "lesion"), strict=True):
        item.SegmentLabel = name


def _old_codes(seg: Dataset) -> None:
    _other_names(seg)
    code = seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = "T-62000", "SRT"


def _other_order(seg: Dataset) -> None:
    seg.SegmentSequence = seg.SegmentSequence[::-1]


@pytest.mark.parametrize("change", [_without_codes, _other_names, _old_codes, _other_order])
def test_segments_are_known_by_code_or_else_by_name(
    ours: tuple[Path, Geometry, str, NDArray[np.uint8]], change: Callable[[Dataset], None]
) -> None:
    path, grid, _, label_map = ours
    seg = pydicom.dcmread(path)
    change(seg)
    seg.save_as(path)
    read = read_correction(path, geometry=grid, schema=SCHEMA)
    np.testing.assert_array_equal(read.label_map, label_map)


def _swapped(seg: Dataset) -> None:
    seg.SegmentSequence[0].SegmentLabel = "spleen"


def _unknown(seg: Dataset) -> None:
    _without_codes(seg)
    seg.SegmentSequence[0].SegmentLabel = "Segment_1"


def _twice(seg: Dataset) -> None:
    _without_codes(seg)
    seg.SegmentSequence[0].SegmentLabel = "spleen"


def _elsewhere(seg: Dataset) -> None:
    for group in seg.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient[0] += 500


@pytest.mark.parametrize(
    ("change", "code"),
    [(_swapped, "code-and-name-differ"), (_unknown, "unknown-segment"), (_twice, "segment-twice"),
     (_elsewhere, "elsewhere")],
)  # fmt: skip
def test_a_segmentation_that_is_not_of_this_image_and_schema_is_refused(
    ours: tuple[Path, Geometry, str, NDArray[np.uint8]],
    change: Callable[[Dataset], None],
    code: str,
) -> None:
    path, grid, _, _ = ours
    seg = pydicom.dcmread(path)
    change(seg)
    seg.save_as(path)
    with pytest.raises(InputRefusedError) as caught:
        read_correction(path, geometry=grid, schema=SCHEMA)
    assert caught.value.code == code


def test_another_frame_of_reference_is_refused(
    ours: tuple[Path, Geometry, str, NDArray[np.uint8]],
) -> None:
    path, grid, _, _ = ours
    with pytest.raises(InputRefusedError, match="frame of reference"):
        read_correction(path, geometry=grid, schema=SCHEMA, frame_of_reference_uid="1.2.3")


def test_several_pieces_of_a_lesion_are_one_segment(
    ours: tuple[Path, Geometry, str, NDArray[np.uint8]],
) -> None:
    path, grid, _, label_map = ours
    seg = pydicom.dcmread(path)
    _without_codes(seg)
    seg.SegmentSequence[1].SegmentLabel = "lesion"  # the spleen's voxels
    seg.save_as(path)
    read = read_correction(path, geometry=grid, schema=SCHEMA)
    np.testing.assert_array_equal(read.label_map == 7, label_map >= 5)


def test_segments_that_the_file_does_not_describe_stay_as_they_were(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "axial")
    study, volume = read_source(tmp_path / "in")
    drawn = np.zeros(SHAPE, dtype=np.uint8)
    drawn[2:12, 1:5, 0:3] = 3  # the liver, grown into the spleen
    prediction = answer(volume, drawn)
    source = DicomSource.of(study, volume, MODEL)
    only = segments_of(source, prediction)[:1]
    make_seg(source, drawn, only).save(tmp_path / "seg.dcm")
    base = blobs(SHAPE)
    base[0, 0, 0] = 3  # what the corrected liver has no more
    read = read_correction(tmp_path / "seg.dcm", geometry=volume.geometry, schema=SCHEMA, base=base)
    wanted = blobs(SHAPE)
    wanted[2:12, 1:5, 0:3] = 3
    np.testing.assert_array_equal(read.label_map, wanted)
    assert read.segments == ("liver",)
    assert [(flag.code, flag.severity) for flag in read.flags] == [
        ("segments-not-described", "info")
    ]
    alone = read_correction(tmp_path / "seg.dcm", geometry=volume.geometry, schema=SCHEMA)
    np.testing.assert_array_equal(alone.label_map, drawn)
    assert [(flag.code, flag.severity) for flag in alone.flags] == [
        ("segments-not-described", "warning")
    ]


def test_a_segmentation_of_dcmqi_comes_in_by_its_code(shared_data: Path) -> None:
    """Its label is "Liver" of the older SNOMED scheme; the schema calls it otherwise."""
    folder = shared_data / "dicom" / "seg_examples" / "24x38x3"
    _, volume = read_source(folder / "image")
    schema = LabelSchema((SegmentSpec(9, "hepar", Code("10200004", "Liver")),))
    read = read_correction(
        folder / "seg" / "label.seg", geometry=volume.geometry, schema=schema,
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )  # fmt: skip
    assert sorted(np.unique(read.label_map)) == [0, 9]
    assert read.segments == ("hepar",)
