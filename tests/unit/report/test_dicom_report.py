"""The structured report and the parametric map say what the answer says, in coded form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medmtl.core.flags import Flag
from medmtl.core.geometry import points_to_space
from medmtl.report.dicom_pm import make_pm
from medmtl.report.dicom_seg import make_seg
from medmtl.report.dicom_segments import segments_of
from medmtl.report.dicom_source import DicomSource, NoDicomSourceError, save_dicom
from medmtl.report.dicom_sr import make_sr
from tests.dicom_results import KINDS, MODEL, PATIENT, answer, coarse, read_source, write_source


def _source(folder: Path, kind: str) -> tuple[Any, ...]:
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    return DicomSource.of(study, volume, MODEL), study, volume, answer(volume)


def _mean_units(folder: Path, *flags: str) -> set[str]:
    """Units of the mean intensities that are reported of a CT with these flags."""
    write_source(folder / "in", "axial")
    study, volume = read_source(folder / "in")
    said = tuple(Flag(code, "error", "Not HU.") for code in flags)
    volume = replace(volume, flags=said)
    source, prediction = DicomSource.of(study, volume, MODEL), answer(volume)
    segments = segments_of(source, prediction)
    seg = make_seg(source, prediction.volumes[0].label_map, segments)
    means = [
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for item in _items(make_sr(source, prediction, seg=seg, segments=segments))
        if item.ValueType == "NUM" and _name(item).startswith("Mean of")
    ]
    return set(means)


def _report(folder: Path, kind: str = "axial") -> tuple[Dataset, Dataset]:
    """The report and the segmentation that it cites, as read back."""
    source, _, _, prediction = _source(folder, kind)
    segments = segments_of(source, prediction)
    seg = make_seg(source, prediction.volumes[0].label_map, segments)
    seg.save(folder / "seg.dcm")
    save_dicom(folder / "sr.dcm", make_sr(source, prediction, seg=seg, segments=segments))
    return pydicom.dcmread(folder / "sr.dcm"), pydicom.dcmread(folder / "seg.dcm")


def _items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", ()):
        yield item
        yield from _items(item)


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def _groups(report: Dataset) -> list[Dataset]:
    return [
        item
        for item in _items(report)
        if item.ValueType == "CONTAINER" and _name(item) == "Measurement Group"
    ]


def _number(group: Dataset, name: str) -> float | None:
    for item in group.ContentSequence:
        if item.ValueType == "NUM" and _name(item) == name:
            return float(item.MeasuredValueSequence[0].NumericValue)
    return None


def _code(item: Dataset) -> str:
    concept = item.ConceptCodeSequence[0]
    return str(concept.get("CodeValue") or concept.LongCodeValue)


def test_each_segment_is_measured_and_cited(tmp_path: Path) -> None:
    report, seg = _report(tmp_path)
    cited = [
        (item.ReferencedSOPSequence[0], group)
        for group in _groups(report)
        for item in group.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert [c.ReferencedSegmentNumber for c, _ in cited] == [1, 2, 3]
    assert {c.ReferencedSOPInstanceUID for c, _ in cited} == {seg.SOPInstanceUID}
    for (_, group), segment in zip(cited, seg.SegmentSequence, strict=True):
        tracking = [i.UID for i in group.ContentSequence if i.ValueType == "UIDREF"]
        assert segment.TrackingUID in tracking
    volumes = [_number(group, "Volume") for _, group in cited]
    assert volumes == [0.1848, 0.2376, 0.0066]


def test_the_side_of_a_structure_is_said_in_segmentation_and_report(tmp_path: Path) -> None:
    report, seg = _report(tmp_path)
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in seg.SegmentSequence]
    sides = [kind.get("SegmentedPropertyTypeModifierCodeSequence", ()) for kind in kinds]
    assert [[side.CodeValue for side in of_one] for of_one in sides] == [[], ["7771000"], []]
    sites = [item for item in _items(report) if _name(item) == "Finding Site"]
    assert [(_code(site), *map(_code, _items(site))) for site in sites] == [("78961009", "7771000")]


@pytest.mark.parametrize(
    ("flags", "unit"),
    [((), "[hnsf'U]"), (("rescale-missing",), "1"), (("not-hounsfield",), "1")],
    ids=["calibrated", "no-rescale", "another-unit"],
)
def test_only_a_calibrated_ct_is_reported_in_hounsfield_units(
    flags: tuple[str, ...], unit: str, tmp_path: Path
) -> None:
    assert _mean_units(tmp_path, *flags) == {unit}


def test_each_finding_has_probability_threshold_decision_and_calibration(tmp_path: Path) -> None:
    report, _ = _report(tmp_path)
    groups = [group for group in _groups(report) if _number(group, "Probability") is not None]
    said = []
    for group in groups:
        codes = {_name(i): _code(i) for i in group.ContentSequence if i.ValueType == "CODE"}
        said.append((_number(group, "Probability"), _number(group, "Threshold Value"), codes))
    state = "Calibration state of the probability"
    assert said == [
        (0.71, 0.5, {"Cardiomegaly": "52101004", state: "calibrated"}),
        (0.1, 0.4, {"cyst": "272519000", state: "not-calibrated"}),
    ]


def test_flags_model_notice_and_what_is_unknown_are_said(tmp_path: Path) -> None:
    report, _ = _report(tmp_path)
    flags = [_code(i) for i in _items(report) if "Quality flag" in _name(i)]
    texts = " ".join(i.TextValue for i in _items(report) if i.ValueType == "TEXT")
    assert flags == ["gantry-tilt-resampled"]
    for word in ("research use only", "tiny 1.2", MODEL.sha256, "spleen_length", "sheared by 13.5"):
        assert word in texts
    assert "network_volume" not in texts
    assert report.CompletionFlag == "COMPLETE"
    assert report.VerificationFlag == "UNVERIFIED"


@pytest.mark.parametrize("kind", ["axial", "multi-frame"])
def test_the_evidence_lists_every_source_and_the_segmentation(tmp_path: Path, kind: str) -> None:
    report, seg = _report(tmp_path, kind)
    listed = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    sources = {pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / "in").iterdir()}
    assert listed == sources | {seg.SOPInstanceUID}
    assert {keyword: str(report[keyword].value) for keyword in PATIENT} == PATIENT


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_keeps_its_values_and_places(tmp_path: Path, kind: str) -> None:
    source, _, volume, _ = _source(tmp_path, kind)
    cam = coarse(volume)
    save_dicom(tmp_path / "pm.dcm", make_pm(source, cam, finding="cardiomegaly", number=1))
    pm = pydicom.dcmread(tmp_path / "pm.dcm")
    assert "FloatPixelData" in pm
    pixels = np.frombuffer(pm.FloatPixelData, "<f4").reshape(pm.NumberOfFrames, pm.Rows, pm.Columns)
    shared = pm.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    index = np.indices(cam.array.shape).reshape(3, -1).T
    where = points_to_space(cam.geometry.affine_lps, index)
    truth = {tuple(np.round(p, 2)): v for p, v in zip(where, cam.array.ravel(), strict=True)}
    compared = 0
    for plane, frame in zip(pixels, pm.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        for (r, c), value in np.ndenumerate(plane):
            point = origin + row.astype(float) * c * column_mm + column.astype(float) * r * row_mm
            near = min(truth, key=lambda place: float(np.abs(np.array(place) - point).sum()))
            assert np.abs(np.array(near) - point).max() < 0.02
            assert truth[near] == value
            compared += 1
    assert compared == cam.array.size
    mapping = shared.RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
    assert pm.ContentQualification == "RESEARCH"


def test_report_and_map_are_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("1", "2"):
        _report(tmp_path / name)
        source, _, volume, _ = _source(tmp_path / name, "axial")
        pm = make_pm(source, coarse(volume), finding="cardiomegaly", number=1)
        save_dicom(tmp_path / name / "pm.dcm", pm)
    for file in ("sr.dcm", "seg.dcm", "pm.dcm"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_another_model_has_other_uids(tmp_path: Path) -> None:
    source, study, volume, prediction = _source(tmp_path, "axial")
    other = DicomSource.of(study, volume, replace(MODEL, sha256="cd" * 32))
    first = make_sr(source, prediction, seg=None, segments=())
    second = make_sr(other, prediction, seg=None, segments=())
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_an_image_that_is_no_dicom_has_no_dicom_results(tmp_path: Path) -> None:
    _, study, volume, _ = _source(tmp_path, "axial")
    with pytest.raises(NoDicomSourceError, match="--formats nifti"):
        DicomSource.of(study, replace(volume, source=None), MODEL)


def test_a_source_without_uids_is_cited_by_those_of_its_files(tmp_path: Path) -> None:
    empty = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    write_source(tmp_path / "in", "axial")
    names = set()
    for file in (tmp_path / "in").iterdir():
        image = pydicom.dcmread(file)
        names.add(image.SOPInstanceUID)
        for keyword in empty:
            setattr(image, keyword, "")
        image.save_as(file)
    study, volume = read_source(tmp_path / "in")
    source = DicomSource.of(study, volume, MODEL)
    assert {frame.sop_instance_uid for frame in source.frames} == names
    made = {source.study_uid, source.frame_of_reference_uid, source.frames[0].series_uid}
    assert len(made) == 3
    assert all(uid.startswith("2.25.") for uid in made)


def test_the_source_keeps_identity_out_of_its_representation(tmp_path: Path) -> None:
    _, _, volume, _ = _source(tmp_path, "axial")
    assert "4711" not in repr(volume)
    assert "ller" not in repr(volume)
