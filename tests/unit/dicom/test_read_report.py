"""Measurement reports of any program: what they say, and their regions as masks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.sr import (
    Comprehensive3DSR,
    GraphicTypeValues,
    GraphicTypeValues3D,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    TrackingIdentifier,
    VolumeSurface,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr.content import (
    ImageRegion,
    ImageRegion3D,
    ReferencedSegmentationFrame,
    SourceImageForRegion,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from medmtl.core.errors import InputRefusedError
from medmtl.core.review import FindingVerdict, Review
from medmtl.core.volume import Volume
from medmtl.dicom.read_report import read_report
from medmtl.dicom.read_report_masks import read_report_masks
from medmtl.inference.write_review import write_reviewed_reports
from tests.dicom_results import KINDS, LABELS, blobs, read_source, write_result, write_source

SEG, SR = "segmentation.seg.dcm", "findings.sr.dcm"


def _result(folder: Path, kind: str) -> tuple[Path, Volume, NDArray[np.uint8]]:
    """Folder of the volume of a finished case, with a segmentation and a report."""
    case = write_result(folder, kind, formats=("nifti", "seg", "sr"))
    _, volume = read_source(folder / "in")
    return case / volume.id, volume, blobs(volume.geometry.shape)


@pytest.mark.parametrize("kind", KINDS)
def test_the_regions_of_our_own_report_are_its_masks(tmp_path: Path, kind: str) -> None:
    folder, volume, label_map = _result(tmp_path, kind)
    read = read_report_masks(
        folder / SR, volume.geometry, segmentations=folder.glob("*.seg.dcm"),
        frame_of_reference_uid=volume.frame_of_reference_uid,
    )  # fmt: skip
    np.testing.assert_array_equal(read.label_map(dict(enumerate(LABELS, 1))), label_map)
    assert [one.type.meaning if one.type else "" for one in read.segments] == [
        "Liver", "Spleen", "Lesion",
    ]  # fmt: skip
    assert read.flags == ()


def test_what_our_own_report_says_is_read(tmp_path: Path) -> None:
    folder, _, _ = _result(tmp_path, "axial")
    report = read_report(folder / SR)
    numbers = {
        group.tracking_id.rsplit(":", 1)[-1]: {
            name.meaning: (value, unit.value) for name, value, unit in group.measurements
        }
        for group in report.groups
    }
    assert numbers["liver"]["Volume"] == (0.1848, "mL")
    assert numbers["cardiomegaly"] == {"Probability": (0.71, "1"), "Threshold Value": (0.5, "1")}
    (finding,) = [group for group in report.groups if group.tracking_id.endswith("cardiomegaly")]
    said = {name.value: value.value for name, value in finding.evaluations}
    assert said["8186001"] == "52101004"  # Present
    assert not report.is_verified
    assert any("research use only" in text for text in report.comments)


def test_a_reviewed_report_says_who_replaces_what(tmp_path: Path) -> None:
    folder, _, _ = _result(tmp_path, "axial")
    review = Review(
        folder.parent.name, "r", datetime(2026, 1, 2, tzinfo=UTC),
        (FindingVerdict("cyst", "disagree"),), is_signed=True,
    )  # fmt: skip
    (path,) = write_reviewed_reports(folder.parent, [review])
    report = read_report(path)
    (cyst,) = [group for group in report.groups if group.tracking_id.endswith("cyst")]
    assert ("reviewer-verdict", "disagree") in [(n.value, v.value) for n, v in cyst.evaluations]
    assert report.is_verified
    assert report.predecessors == (str(pydicom.dcmread(folder / SR).SOPInstanceUID),)


def _their_report(path: Path, source: list[Dataset], groups: list[object]) -> Path:
    """A report by highdicom alone, as another vendor would write it."""
    person = ObserverContext(codes.DCM.Person, PersonObserverIdentifyingAttributes("Doe^John"))
    source[0].PatientName = "Doe^Jane"  # highdicom warns of a name of one part
    report = MeasurementReport(
        observation_context=ObservationContext(observer_person_context=person),
        procedure_reported=codes.SCT.ComputedTomography,
        imaging_measurements=groups,
    )
    sr = Comprehensive3DSR(
        evidence=source, content=report[0], series_instance_uid=generate_uid(), series_number=1,
        sop_instance_uid=generate_uid(), instance_number=1, manufacturer="others",
    )  # fmt: skip
    sr.save_as(path)
    return path


def _tracking(name: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid=generate_uid(), identifier=name)


def _ring(volume: Volume, low: float, high: float, k: int) -> NDArray[np.float64]:
    """A closed square of slice k in mm, the last point being the first."""
    corners = [(low, low), (high, low), (high, high), (low, high), (low, low)]
    index = np.array([(i, j, k, 1) for i, j in corners], dtype=float)
    return np.asarray((volume.geometry.affine_lps @ index.T).T[:, :3])


def test_polygons_in_space_of_another_vendor_are_masks(tmp_path: Path) -> None:
    write_source(tmp_path / "in", "oblique")
    _, volume = read_source(tmp_path / "in")
    source = [pydicom.dcmread(file) for file in sorted((tmp_path / "in").iterdir())]
    frame = volume.frame_of_reference_uid
    surface = VolumeSurface(
        graphic_type=GraphicTypeValues3D.POLYGON,
        graphic_data=[_ring(volume, 2.6, 8.4, k) for k in (1, 2, 3)],
        frame_of_reference_uid=frame,
        source_series=SourceSeriesForSegmentation(volume.series_uid),
    )
    groups = [
        VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("cube"),
            referenced_volume_surface=surface,
            finding_type=codes.SCT.Liver,
            measurements=[Measurement(codes.SCT.Volume, 12.0, Code("mL", "UCUM", "milliliter"))],
        ),
        PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("square"),
            referenced_region=ImageRegion3D(
                GraphicTypeValues3D.POLYGON, _ring(volume, 3.6, 5.4, 5), frame
            ),
        ),
        PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=_tracking("ellipse"),
            referenced_region=ImageRegion3D(
                GraphicTypeValues3D.ELLIPSE, _ring(volume, 3.6, 5.4, 5)[:4], frame
            ),
        ),
    ]
    path = _their_report(tmp_path / "sr.dcm", source, groups)
    read = read_report_masks(path, volume.geometry, segmentations=(), frame_of_reference_uid=frame)
    cube, square = np.zeros((2, *volume.geometry.shape), dtype=bool)
    cube[3:9, 3:9, 1:4], square[4:6, 4:6, 5] = True, True
    assert [one.label for one in read.segments] == ["cube", "square"]
    for segment, wanted in zip(read.segments, (cube, square), strict=True):
        np.testing.assert_array_equal(segment.mask(volume.geometry.shape), wanted)
    assert [flag.code for flag in read.flags] == ["regions-left-out"]
    with pytest.raises(InputRefusedError, match="frame of reference"):
        read_report_masks(path, volume.geometry, segmentations=(), frame_of_reference_uid="1.2")


@pytest.mark.parametrize("kind", ["oblique", "multi-frame-oblique"])
def test_lines_in_the_pixels_of_source_images_are_masks(tmp_path: Path, kind: str) -> None:
    """From the corner (2, 3) to the corner (8, 9) of the pixels: columns 2 to 7, rows 3 to 8."""
    write_source(tmp_path / "in", kind)
    _, volume = read_source(tmp_path / "in")
    source = [pydicom.dcmread(file) for file in sorted((tmp_path / "in").iterdir())]
    assert volume.source is not None
    frame = volume.source.frames[4]
    image = SourceImageForRegion(
        frame.sop_class_uid, frame.sop_instance_uid,
        [frame.frame_number] if frame.frame_number else None,
    )  # fmt: skip
    line = np.array([[2, 3], [8, 3], [8, 9], [2, 9], [2, 3]], dtype=float)
    region = ImageRegion(GraphicTypeValues.POLYLINE, line, image)
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("box"), referenced_region=region
    )
    path = _their_report(tmp_path / "sr.dcm", source, [group])
    read = read_report_masks(
        path, volume.geometry, segmentations=(), source_frames=volume.source.frames
    )
    wanted = np.zeros(volume.geometry.shape, dtype=bool)
    wanted[2:8, 3:9, 4] = True
    np.testing.assert_array_equal(read.segments[0].mask(volume.geometry.shape), wanted)
    assert read.flags == ()
    blind = read_report_masks(path, volume.geometry, segmentations=())
    assert (blind.segments, [flag.code for flag in blind.flags]) == ((), ["regions-left-out"])


def test_a_single_frame_of_a_segmentation_of_others_is_one_slice(
    shared_data: Path, tmp_path: Path
) -> None:
    """The segmentation is dcmqi's; the report cites one frame of it (TID 1410)."""
    folder = shared_data / "dicom" / "seg_examples" / "24x38x3"
    _, volume = read_source(folder / "image")
    seg = pydicom.dcmread(folder / "seg" / "label.seg")
    source = [pydicom.dcmread(file) for file in sorted((folder / "image").iterdir())]
    cited = ReferencedSegmentationFrame(
        sop_class_uid=seg.SOPClassUID,
        sop_instance_uid=seg.SOPInstanceUID,
        frame_number=2,
        segment_number=1,
        source_image=SourceImageForSegmentation(source[0].SOPClassUID, source[0].SOPInstanceUID),
    )
    group = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking("one slice"), referenced_segment=cited
    )
    path = _their_report(tmp_path / "sr.dcm", [*source, seg], [group])
    files = [folder / "seg" / "label.seg", folder / "image" / "IMG0001.dcm"]
    read = read_report_masks(path, volume.geometry, segmentations=files)
    (mask,) = (one.mask(volume.geometry.shape) for one in read.segments)
    groups = seg.PerFrameFunctionalGroupsSequence
    place = np.array(groups[1].PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    k = round(float((np.linalg.inv(volume.geometry.affine_lps) @ [*place, 1])[2]))
    np.testing.assert_array_equal(mask[..., k], seg.pixel_array[1].T.astype(bool))
    assert mask[..., k].any()
    assert mask.sum() == mask[..., k].sum()


def test_a_segmentation_that_is_not_there_is_said(tmp_path: Path) -> None:
    folder, volume, _ = _result(tmp_path, "axial")
    with pytest.raises(InputRefusedError, match="together with its report") as caught:
        read_report_masks(folder / SR, volume.geometry, segmentations=[folder / SR])
    assert caught.value.code == "missing-segmentation"


def _no_groups(report: Dataset) -> None:
    del report.ContentSequence


def _other_kind(report: Dataset) -> None:
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"


def _no_value(report: Dataset) -> None:
    for item in report.ContentSequence:
        for group in item.get("ContentSequence", ()):
            for one in group.get("ContentSequence", ()):
                if one.ValueType == "NUM":
                    del one.MeasuredValueSequence[0].NumericValue


@pytest.mark.parametrize(
    ("damage", "code"),
    [(_no_groups, "no-measurement-group"), (_other_kind, "not-a-report"),
     (_no_value, "unreadable")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, damage: Callable[[Dataset], None], code: str
) -> None:
    folder, _, _ = _result(tmp_path, "axial")
    report = pydicom.dcmread(folder / SR)
    damage(report)
    report.save_as(tmp_path / "bad.dcm")
    with pytest.raises(InputRefusedError) as caught:
        read_report(tmp_path / "bad.dcm")
    assert caught.value.code == code
