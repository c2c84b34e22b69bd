"""Sources in every orientation, an answer for them, and a reader independent of medmtl."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from medmtl.core.flags import Flag
from medmtl.core.geometry import Geometry
from medmtl.core.labels import LEFT, Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import (
    FindingResult,
    Measurement,
    ModelIdentity,
    Prediction,
    SegmentResult,
    VolumePrediction,
)
from medmtl.core.study import Study
from medmtl.core.volume import Volume
from medmtl.data.intake import open_input
from medmtl.inference.write_case import write_case
from tests.dicom_factory import make_series
from tests.traps.multiframe import enhanced
from tests.traps.series import rotation, save

MODEL = ModelIdentity("tiny", "1.2", "ab" * 32)
LABELS = {3: "liver", 5: "spleen", 7: "lesion"}
SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(3, "liver", Code("10200004", "Liver")),
        SegmentSpec(5, "spleen", Code("78961009", "Spleen", modifier=LEFT)),
        SegmentSpec(7, "lesion", is_lesion=True),
    ),
    findings=(FindingSpec("cardiomegaly", Code("8186001", "Cardiomegaly")), FindingSpec("cyst")),
)
SHAPE = (20, 13, 6)
SPACING_MM = (0.8, 1.1, 2.5)
DIRECTIONS: dict[str, Any] = {
    "axial": np.eye(3),
    "coronal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "sagittal": [[0, 0, 1], [1, 0, 0], [0, -1, 0]],
    "mirrored": np.diag([-1.0, 1.0, -1.0]),
    "oblique": rotation(1, 12.0) @ rotation(0, 33.0),
}
KINDS = (*DIRECTIONS, "tilted", "uneven", "multi-frame", "multi-frame-oblique")
PATIENT = {
    "PatientName": "Müller^Änne=毛利^蘭",
    "PatientID": "ID-4711",
    "PatientBirthDate": "19700131",
    "PatientSex": "F",
    "PatientAge": "050Y",
    "StudyDate": "20200102",
    "StudyTime": "101112",
    "AccessionNumber": "ACC-12",
    "StudyID": "S1",
    "StudyDescription": "Thorax",
    "ReferringPhysicianName": "Who^Doctor",
}
TEXT: dict[str, Any] = PATIENT | {"SpecificCharacterSet": "ISO_IR 192"}


def write_source(folder: Path, kind: str) -> None:
    """A small CT of this kind."""
    stored = np.random.default_rng(1).integers(0, 200, SHAPE).astype(np.int16)
    direction = np.asarray(
        DIRECTIONS.get(kind.removeprefix("multi-frame-"), np.eye(3)), dtype=float
    )
    grid = Geometry.from_parts(
        shape=SHAPE, spacing_mm=SPACING_MM, origin_lps=(-31.5, 12.25, 80.0), direction=direction
    )
    places = [grid.affine_lps[:3, 3] + k * grid.affine_lps[:3, 2] for k in range(SHAPE[2])]
    if kind.startswith("multi-frame"):
        order = [3, 0, 5, 1, 4, 2]
        image = enhanced(stored[..., order], [places[n] for n in order], grid.affine_lps)
        for keyword, value in TEXT.items():
            setattr(image, keyword, value)
        folder.mkdir(parents=True, exist_ok=True)
        save(image, folder / "enhanced.dcm")
        return
    if kind == "tilted":
        places = [place + np.array([0.0, 0.6 * k, 0.0]) for k, place in enumerate(places)]
    if kind == "uneven":
        heights = (0.0, 2.5, 5.0, 7.5, 10.0, 13.5)
        places = [places[0] + np.array([0.0, 0.0, height]) for height in heights]
    at = [[f"{value:.6f}" for value in place] for place in places]
    make_series(
        folder, array=stored, geometry=grid, per_slice={"ImagePositionPatient": at}, **TEXT
    )  # fmt: skip


def read_source(folder: Path) -> tuple[Study, Volume]:
    """Through medmtl's own reader."""
    (study,) = open_input(folder).studies
    (ref,) = study.volumes
    return study, ref.read()


def write_result(folder: Path, kind: str, *, formats: Sequence[str]) -> Path:
    """The source of this kind in `in`, and its finished case, a folder in `out`."""
    write_source(folder / "in", kind)
    study, volume = read_source(folder / "in")
    case = folder / "out" / study.case_id
    case.parent.mkdir()
    write_case(case, study, answer(volume), formats=formats, resume={}, read_s=0.0)
    return case


def blobs(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Three unlike pieces, none of them symmetric; one slice is empty, one segment in two parts."""
    label_map = np.zeros(shape, dtype=np.uint8)
    label_map[2:9, 1:5, 0:3] = 3
    label_map[10:13, 2:11, 1:5] = 5
    label_map[15:17, 8:9, 4:5] = 7
    label_map[1, 11, 2] = 7
    return label_map


def answer(volume: Volume, label_map: NDArray[np.uint8] | None = None) -> Prediction:
    """An answer with a bit of everything."""
    mask = blobs(volume.geometry.shape) if label_map is None else label_map
    segments = tuple(
        SegmentResult(
            volume.id, label, name, float((mask == label).sum() * 0.0022),
            int((mask == label).sum()), 12.5 if (mask == label).any() else None,
        )
        for label, name in LABELS.items()
    )  # fmt: skip
    return Prediction(
        model=MODEL,
        volumes=(VolumePrediction(volume, mask),),
        segments=segments,
        measurements=(
            Measurement("cardiothoracic_ratio", 0.48, "1", "ct:heart"),
            Measurement("spleen_length", None, "mm", "ct:spleen"),
            Measurement("network_volume", 4.0, "mL", "network input"),
        ),
        findings=(
            FindingResult("cardiomegaly", 0.71, 0.5, True, True, cams={volume.id: coarse(volume)}),
            FindingResult("cyst", 0.1, 0.4, False, False),
        ),
        flags=(Flag("gantry-tilt-resampled", "warning", "Slices sheared by 13.5 degrees."),),
        timings_s={},
        schema=SCHEMA,
    )


def coarse(volume: Volume) -> Volume:
    """A map on a grid of its own: coarser, with permuted and mirrored axes."""
    source = volume.geometry
    to_source = np.array(
        [[0, -2.0, 0, 18.5], [0, 0, 3.0, 1.0], [2.0, 0, 0, 0.5], [0, 0, 0, 1]], dtype=float
    )
    geometry = Geometry(shape=(3, 9, 4), affine_lps=source.affine_lps @ to_source)
    array = np.random.default_rng(2).random((3, 9, 4)).astype(np.float32)
    return Volume(array, geometry, id=volume.id)


def points_by_hand(path: Path) -> dict[int, NDArray[np.float64]]:
    """LPS points of each segment, from pixels and functional groups alone; shape (N, 3) each."""
    seg = pydicom.dcmread(path)
    pixels = np.asarray(seg.pixel_array).reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    shared = seg.SharedFunctionalGroupsSequence[0]
    found: dict[int, list[NDArray[np.float64]]] = {}
    for plane, frame in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        row, column = np.array(cosines, dtype=float).reshape(2, 3)
        row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        for value in set(np.unique(plane)) - {0}:
            number = int(value)
            if seg.SegmentationType == "BINARY":
                group = frame if "SegmentIdentificationSequence" in frame else shared
                number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            r, c = np.nonzero(plane == value)
            points = origin + np.outer(c * column_mm, row) + np.outer(r * row_mm, column)
            found.setdefault(number, []).append(points)
    return {number: np.concatenate(points) for number, points in found.items()}
