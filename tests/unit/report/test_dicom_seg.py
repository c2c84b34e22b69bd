"""A written SEG says the same as the label map, to a reader that shares no code with the writer."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medmtl.core.geometry import Geometry
from medmtl.core.prediction import Prediction, SegmentResult
from medmtl.core.source import SourceFrame
from medmtl.core.volume import Volume
from medmtl.dicom.read_seg import read_seg
from medmtl.report.dicom_seg import SegType, make_seg
from medmtl.report.dicom_segments import numbered, segments_of
from medmtl.report.dicom_source import DicomSource
from medmtl.report.nifti import write_label_map
from tests.dicom_results import (
    KINDS,
    LABELS,
    MODEL,
    PATIENT,
    answer,
    points_by_hand,
    read_source,
    write_source,
)


def _written(folder: Path, kind: str, seg_type: SegType = "binary", mask: Any = None) -> Any:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    prediction = answer(volume, mask)
    source = DicomSource.of(study, volume, MODEL)
    seg = make_seg(
        source, prediction.volumes[0].label_map, segments_of(source, prediction), seg_type=seg_type
    )
    seg.save(folder / "seg.dcm")
    return folder / "seg.dcm", study, volume, prediction


@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_voxel_comes_back_by_geometry_alone(
    tmp_path: Path, kind: str, seg_type: SegType
) -> None:
    path, _, volume, prediction = _written(tmp_path, kind, seg_type)
    label_map = prediction.volumes[0].label_map
    to_index = np.linalg.inv(volume.geometry.affine_lps)
    again = np.zeros_like(label_map)
    for number, points in points_by_hand(path).items():
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        assert np.abs(index - np.round(index)).max() < 0.02
        i, j, k = np.round(index).astype(int).T
        again[i, j, k] = list(LABELS)[number - 1]
    np.testing.assert_array_equal(again, label_map)


@pytest.mark.parametrize("kind", KINDS)
def test_centroids_are_those_of_the_nifti_mask(tmp_path: Path, kind: str) -> None:
    path, _, volume, prediction = _written(tmp_path, kind)
    nifti_path = tmp_path / "segmentation.nii.gz"
    write_label_map(nifti_path, prediction.volumes[0].label_map, volume.geometry)
    nifti = nib.load(nifti_path)
    voxels = np.asarray(nifti.dataobj)
    for number, points in points_by_hand(path).items():
        index = np.argwhere(voxels == list(LABELS)[number - 1])
        ras = index @ nifti.affine[:3, :3].T + nifti.affine[:3, 3]
        apart = points.mean(axis=0) - ras.mean(axis=0) * [-1, -1, 1]
        assert np.linalg.norm(apart) < 0.5 * min(volume.geometry.spacing_mm)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in {"tilted", "uneven"}])
def test_each_frame_cites_the_source_frame_at_its_own_place(tmp_path: Path, kind: str) -> None:
    path, *_ = _written(tmp_path, kind)
    places = {}
    for file in (tmp_path / "in").iterdir():
        image = pydicom.dcmread(file, stop_before_pixels=True)
        for number, frame in enumerate(image.get("PerFrameFunctionalGroupsSequence", [image]), 1):
            group = frame.PlanePositionSequence[0] if "PlanePositionSequence" in frame else frame
            key = (image.SOPInstanceUID, number if "NumberOfFrames" in image else None)
            places[key] = [float(value) for value in group.ImagePositionPatient]
    for frame in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        cited = places[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        assert source.SpatialLocationsPreserved == "YES"
        assert [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient] == cited


@pytest.mark.parametrize("kind", ["tilted", "uneven"])
def test_a_resampled_stack_cites_its_neighbours_and_does_not_claim_their_pixels(
    tmp_path: Path, kind: str
) -> None:
    path, *_ = _written(tmp_path, kind)
    seg = pydicom.dcmread(path)
    cited = [
        item
        for frame in seg.PerFrameFunctionalGroupsSequence
        for item in frame.DerivationImageSequence[0].SourceImageSequence
    ]
    sources = {pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / "in").iterdir()}
    assert {item.SpatialLocationsPreserved for item in cited} == {"NO"}
    assert {item.ReferencedSOPInstanceUID for item in cited} <= sources
    listed = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in listed} == sources


@pytest.mark.parametrize("kind", ["axial", "multi-frame"])
def test_patient_study_and_frame_of_reference_are_the_sources(tmp_path: Path, kind: str) -> None:
    path, *_ = _written(tmp_path, kind)
    seg = pydicom.dcmread(path)
    image = pydicom.dcmread(next((tmp_path / "in").iterdir()), stop_before_pixels=True)
    assert {keyword: str(seg[keyword].value) for keyword in PATIENT} == PATIENT
    assert seg.StudyInstanceUID == image.StudyInstanceUID
    assert seg.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert seg.SeriesInstanceUID != image.SeriesInstanceUID
    assert seg.Modality == "SEG"
    assert "RESEARCH USE ONLY" in seg.SeriesDescription


def test_segments_are_coded_coloured_named_and_tracked(tmp_path: Path) -> None:
    path, *_ = _written(tmp_path, "axial")
    first, _, lesion = pydicom.dcmread(path).SegmentSequence
    assert first.SegmentLabel == "liver"
    assert first.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = first.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("tiny", "1.2")
    assert MODEL.sha256 in algorithm.AlgorithmParameters
    assert len(first.RecommendedDisplayCIELabValue) == 3
    assert first.TrackingUID != lesion.TrackingUID
    assert first.TrackingUID.startswith("2.25.")


@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
def test_the_same_answer_gives_the_same_bytes_and_another_one_another_uid(
    tmp_path: Path, seg_type: SegType
) -> None:
    first, _, _, prediction = _written(tmp_path / "1", "axial", seg_type)
    second, *_ = _written(tmp_path / "2", "axial", seg_type)
    assert first.read_bytes() == second.read_bytes()
    changed = prediction.volumes[0].label_map.copy()
    changed[0, 0, 0] = 3
    third, *_ = _written(tmp_path / "3", "axial", seg_type, changed)
    one, other = pydicom.dcmread(first), pydicom.dcmread(third)
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
def test_empty_segments_are_described_and_an_empty_answer_is_a_valid_object(
    tmp_path: Path, seg_type: SegType
) -> None:
    mask = np.zeros((20, 13, 6), dtype=np.uint8)
    path, *_ = _written(tmp_path, "axial", seg_type, mask)
    seg = pydicom.dcmread(path)
    assert [s.SegmentNumber for s in seg.SegmentSequence if s.SegmentNumber] == [1, 2, 3]
    assert seg.NumberOfFrames == 1
    assert not seg.pixel_array.any()


@pytest.mark.parametrize("seg_type", ["binary", "labelmap"])
@pytest.mark.parametrize("kind", KINDS)
def test_our_own_reader_gives_the_label_map_back(
    tmp_path: Path, kind: str, seg_type: SegType
) -> None:
    path, _, volume, prediction = _written(tmp_path, kind, seg_type)
    read = read_seg(path, volume.geometry, frame_of_reference_uid=volume.frame_of_reference_uid)
    numbers = dict(enumerate(LABELS, start=1))
    np.testing.assert_array_equal(read.label_map(numbers), prediction.volumes[0].label_map)
    assert read.flags == ()
    assert [s.type.value for s in read.segments if s.type][:2] == ["10200004", "78961009"]


def test_one_segment_alone_and_three_hundred_are_written(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "axial")
    study, volume = read_source(tmp_path / "in")
    source = DicomSource.of(study, volume, MODEL)
    for count in (1, 300):
        label_map = np.zeros(volume.geometry.shape, dtype=np.uint16)
        label_map.flat[: 3 * count] = np.repeat(np.arange(count) + 1, 3)
        results = tuple(
            SegmentResult(volume.id, n + 1, f"part_{n}", 1.0, 3, 1.0) for n in range(count)
        )
        prediction = _only(volume, results)
        seg = make_seg(source, label_map, segments_of(source, prediction), seg_type="binary")
        seg.save(tmp_path / f"{count}.dcm")
        read = read_seg(tmp_path / f"{count}.dcm", volume.geometry)
        np.testing.assert_array_equal(read.label_map(), label_map)


def test_sixty_segments_on_three_hundred_slices_take_seconds(tmp_path: Path) -> None:
    """4,800 frames of 512 x 512; less than 10 s of processor time, other programs not counted."""
    shape = (512, 512, 300)
    grid = Geometry.from_parts(shape=shape, spacing_mm=(0.8, 0.8, 1.0))
    frames = tuple(
        SourceFrame("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k}", "1.2", None, (0.0, 0.0, float(k)),
                    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), (0.8, 0.8))
        for k in range(300)
    )  # fmt: skip
    source = DicomSource("c", "ct", "1.3", "1.4", "CT", grid, frames, {}, MODEL)
    label_map = np.zeros(shape, dtype=np.uint8, order="F")
    for n in range(60):
        i, j = 60 * (n % 8), 60 * (n // 8)
        label_map[i : i + 50, j : j + 50, 3 * n : 3 * n + 80] = n + 1
    results = tuple(SegmentResult("ct", n + 1, f"part_{n}", 1.0, 9, 1.0) for n in range(60))
    prediction = Prediction(MODEL, (), results, (), (), (), {})
    start_s = time.process_time()
    seg = make_seg(source, label_map, segments_of(source, prediction))
    assert time.process_time() - start_s < 10
    assert seg.head.NumberOfFrames == 4800


def test_slices_of_several_series_are_all_listed(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "axial")
    study, volume = read_source(tmp_path / "in")
    whole = DicomSource.of(study, volume, MODEL)
    frames = tuple(replace(f, series_uid=f"1.2.{n // 3}") for n, f in enumerate(whole.frames))
    source = replace(whole, frames=frames)
    prediction = answer(volume)
    make_seg(source, prediction.volumes[0].label_map, segments_of(source, prediction)).save(
        tmp_path / "seg.dcm"
    )
    listed = pydicom.dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence
    assert [item.SeriesInstanceUID for item in listed] == ["1.2.0", "1.2.1"]
    assert [len(item.ReferencedInstanceSequence) for item in listed] == [3, 3]


def test_a_label_without_a_segment_is_refused(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "axial")
    study, volume = read_source(tmp_path / "in")
    source = DicomSource.of(study, volume, MODEL)
    stray = np.full(volume.geometry.shape, 9, dtype=np.uint8)
    with pytest.raises(ValueError, match="no segment has"):
        numbered(stray, segments_of(source, answer(volume)))


def _only(volume: Volume, results: tuple[SegmentResult, ...]) -> Prediction:
    return Prediction(MODEL, (), results, (), (), (), {})
