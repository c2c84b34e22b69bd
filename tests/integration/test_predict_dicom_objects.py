"""Every DICOM result of a case is there, cites its source, and is the same in the next run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pydicom
import pytest

from medmtl.data.intake import open_input
from medmtl.dicom.read_rtstruct import read_rtstruct
from medmtl.dicom.read_seg import read_seg
from medmtl.inference.batch import FORMATS, BatchOptions, run_batch
from medmtl.inference.predictor import load_predictor
from tests.dicom_factory import make_series
from tests.dicom_results import TEXT, read_source
from tests.threshold_batch import ThresholdAnalyser, write_studies
from tests.tiny_bundle import torso_settings, write_tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medmtl.core.prediction import Prediction
    from medmtl.core.study import Study
    from medmtl.core.volume import Volume
    from medmtl.dicom.segmentation import Segmentation

SEG, SR = "segmentation.seg.dcm", "findings.sr.dcm"
RT = "segmentation.rtstruct.dcm"
MAPS = ("cam_large_heart.pm.dcm", "cam_nodule.pm.dcm")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study analysed twice by a tiny bundle."""
    folder = tmp_path_factory.mktemp("dicom")
    rng = np.random.default_rng(0)
    stored = rng.normal(-800, 60, (40, 36, 12)).astype(np.int16)
    stored[10:30, 8:28, 3:9] += 850
    make_series(folder / "in", array=stored, **TEXT)
    write_tiny(folder / "bundle", torso_settings())
    for name in ("one", "two"):
        analyser = load_predictor(folder / "bundle", device="cpu")
        options = BatchOptions(formats=FORMATS)
        done = list(
            run_batch(
                open_input(folder / "in"), analyser, out=folder / name, input_path=folder / "in",
                options=options,
            )
        )  # fmt: skip
        assert [outcome.status for outcome in done] == ["done"]
    return folder


def _volume(results: Path, name: str) -> Path:
    (case,) = [p for p in (results / name).iterdir() if p.is_dir() and p.name != ".medmtl"]
    return case / "ct"


def test_every_object_is_written_and_listed(results: Path) -> None:
    volume = _volume(results, "one")
    record = json.loads((volume.parent / "case.json").read_text(encoding="utf-8"))
    for name in (SEG, SR, RT, *MAPS):
        assert record["files"][f"ct/{name}"] == (volume / name).stat().st_size
    assert record["status"] == "done"


def test_two_runs_write_the_same_bytes(results: Path) -> None:
    for name in (SEG, SR, RT, *MAPS):
        first, second = (_volume(results, run) / name for run in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_the_segmentation_is_the_nifti_mask(results: Path) -> None:
    volume = _volume(results, "one")
    _, source = read_source(results / "in")
    mask = np.asarray(nib.load(volume / "segmentation.nii.gz").dataobj)
    for read in (read_seg(volume / SEG, source.geometry), _contours(volume / RT, source)):
        np.testing.assert_array_equal(read.label_map({1: 3, 2: 7}), mask)
        assert read.flags == ()
    assert mask.any()


def _contours(path: Path, source: Volume) -> Segmentation:
    return read_rtstruct(
        path, source.geometry, frame_of_reference_uid=source.frame_of_reference_uid,
        series_uid=source.series_uid,
    )  # fmt: skip


def test_all_share_the_study_and_name_the_patient(results: Path) -> None:
    volume = _volume(results, "one")
    image = pydicom.dcmread(next((results / "in").iterdir()), stop_before_pixels=True)
    objects = [pydicom.dcmread(volume / name) for name in (SEG, SR, RT, *MAPS)]
    assert {one.StudyInstanceUID for one in objects} == {image.StudyInstanceUID}
    assert {str(one.PatientName) for one in objects} == {TEXT["PatientName"]}
    assert {one.FrameOfReferenceUID for one in (objects[0], *objects[2:])} == {
        image.FrameOfReferenceUID
    }
    assert len({one.SOPInstanceUID for one in objects}) == len(objects)


def test_identity_is_in_no_other_file(results: Path) -> None:
    words = [TEXT["PatientID"].encode(), "Müller".encode(), "毛利".encode(), b"ACC-12"]
    for path in (results / "one").rglob("*"):
        assert not any(word.decode() in str(path.relative_to(results)) for word in words)
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            assert not any(word in content for word in words)


def _flags(out: Path) -> Sequence[str]:
    (case,) = [p for p in out.iterdir() if p.is_dir() and p.name != ".medmtl"]
    record = json.loads((case / "case.json").read_text(encoding="utf-8"))
    assert not list(case.rglob("*.dcm"))
    return [flag["code"] for flag in record["quality"]["flags"]]


def test_a_nifti_case_is_flagged_and_gets_the_other_files(tmp_path: Path) -> None:
    write_studies(tmp_path / "in", 1)
    (outcome,) = run_batch(
        open_input(tmp_path / "in"), ThresholdAnalyser(), out=tmp_path / "out",
        input_path=tmp_path / "in", options=BatchOptions(formats=FORMATS),
    )  # fmt: skip
    assert outcome.status == "done"
    assert "dicom-results-not-written" in _flags(tmp_path / "out")


def test_a_labelmap_is_written_where_asked_for(tmp_path: Path) -> None:
    make_series(tmp_path / "in", array=np.full((16, 12, 4), 150, dtype=np.int16))
    (outcome,) = run_batch(
        open_input(tmp_path / "in"), ThresholdAnalyser(), out=tmp_path / "out",
        input_path=tmp_path / "in", options=BatchOptions(formats=("seg-labelmap", "sr")),
    )  # fmt: skip
    assert outcome.status == "done"
    (path,) = (tmp_path / "out").rglob(SEG)
    assert pydicom.dcmread(path).SegmentationType == "LABELMAP"


class _Removing(ThresholdAnalyser):
    """Removes the source while it is being analysed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def analyse(self, study: Study, volumes: Sequence[Volume]) -> Prediction:
        for file in self.folder.iterdir():
            file.unlink()
        return super().analyse(study, volumes)


def test_a_source_that_went_away_fails_the_case_by_name(tmp_path: Path) -> None:
    make_series(tmp_path / "in", array=np.full((16, 12, 4), 150, dtype=np.int16))

    (outcome,) = run_batch(
        open_input(tmp_path / "in"), _Removing(tmp_path / "in"), out=tmp_path / "out",
        input_path=tmp_path / "in", options=BatchOptions(formats=("seg",)),
    )  # fmt: skip
    assert outcome.status == "failed"
    assert outcome.failure is not None
    assert outcome.failure.stage == "write"
    assert not list((tmp_path / "out").rglob("case.json"))
