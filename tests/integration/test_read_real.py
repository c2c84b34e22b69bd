"""The real series of ../shared/data/dicom: read right, or refused for the right reason.

Truth comes from the tags and pixels of the single files, computed here without the reader.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medmtl.core.volume import Volume
from medmtl.data.intake import open_input
from tests.traps.expectation import Reading, read_all


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame: where its first voxel lies, its axes in mm per voxel, its rescaled values."""

    position_lps: NDArray[np.float64]
    axes_mm: NDArray[np.float64]  # columns: along i, along j
    values_ij: NDArray[np.float64]
    kind: str


def frames_of(path: Path) -> list[Frame]:
    """Frames of a classic or enhanced image by its tags alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        return [_frame(dataset, dataset, dataset, pixels, "")]
    shared = dataset.SharedFunctionalGroupsSequence[0]
    return [
        _frame(
            _group(group, shared, "PlanePositionSequence"),
            _group(group, shared, "PlaneOrientationSequence"),
            _group(group, shared, "PixelMeasuresSequence"),
            pixels[n],
            _kind(group, shared),
            _group(group, shared, "PixelValueTransformationSequence"),
        )
        for n, group in enumerate(dataset.PerFrameFunctionalGroupsSequence)
    ]


def _group(group: Any, shared: Any, name: str) -> Any:
    return group[name].value[0] if name in group else shared[name].value[0]


def _kind(group: Any, shared: Any) -> str:
    """What must be one and the same in a volume: frame type and echo time."""
    found = []
    for name, tag in (
        ("MRImageFrameTypeSequence", "FrameType"),
        ("MREchoSequence", "EffectiveEchoTime"),
        ("FrameContentSequence", "TemporalPositionIndex"),
    ):
        if name in group or name in shared:
            found.append(str(_group(group, shared, name).get(tag)))
    return "/".join(found)


def _frame(
    position: Any, orientation: Any, measures: Any, pixels: Any, kind: str, rescale: Any = None
) -> Frame:
    rescale = measures if rescale is None else rescale
    cosines = np.array(orientation.ImageOrientationPatient, dtype=float).reshape(2, 3).T
    between_rows, between_columns = (float(value) for value in measures.PixelSpacing)
    values = pixels.astype(float) * float(rescale.get("RescaleSlope", 1))
    values += float(rescale.get("RescaleIntercept", 0))
    return Frame(
        np.array(position.ImagePositionPatient, dtype=float),
        cosines * [between_columns, between_rows],
        values.T,
        kind,
    )


def misplaced(volume: Volume, frames: list[Frame]) -> list[str]:
    """Slices of a volume that are not exactly one frame at its place; and mixed kinds."""
    affine = volume.geometry.affine_lps
    thickness = volume.geometry.spacing_mm[2]
    problems, kinds = [], set()
    for k in range(volume.array.shape[2]):
        place = affine[:3, 3] + k * affine[:3, 2]
        matching = [
            frame
            for frame in frames
            if np.linalg.norm(frame.position_lps - place) < 0.03 * thickness
            and np.allclose(frame.axes_mm, affine[:3, :2], atol=1e-4)
            and np.allclose(frame.values_ij, volume.array[:, :, k], rtol=1e-5, atol=1e-2)
        ]
        if not matching:
            problems.append(f"slice {k} is no frame of the source")
        kinds.add(tuple(sorted({frame.kind for frame in matching})))
    if len(kinds) > 1:
        problems.append(f"mixed frames: {kinds}")
    return problems


def read_folder(folder: Path) -> Reading:
    return read_all(open_input(folder))


REGULAR = {
    "ct_thorax_jpeg2000": [(512, 512, 20)],
    "ct_nonsquare": [(88, 128, 17)],
    "mr_oblique": [(256, 256, 20)],
    "ct_chest_nodule_partial": [(512, 512, 16)],
    "enhanced_multiframe/Siemens": [(64, 64, 6)] * 4,
    "enhanced_multiframe/Philips": [(64, 64, 32)] * 2,
    "seg_examples/ct-3slice": [(512, 512, 3)],
}


@pytest.mark.parametrize("name", REGULAR)
def test_regular_series_are_read_exactly(name: str, shared_data: Path) -> None:
    folder = shared_data / "dicom" / name
    frames = [
        frame for path in sorted(folder.rglob("*")) if path.is_file() for frame in frames_of(path)
    ]

    reading = read_folder(folder)

    assert [refusal.code for refusal in reading.refusals] == []
    assert sorted(volume.array.shape for volume in reading.volumes) == sorted(REGULAR[name])
    assert [problem for volume in reading.volumes for problem in misplaced(volume, frames)] == []


def test_tilted_uneven_head_is_refused_or_resampled_with_flags(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "ct_head_tilted_uneven"

    reading = read_folder(folder)

    if not reading.volumes:
        assert reading.refusals
        return
    (volume,) = reading.volumes
    assert [flag for flag in volume.flags if flag.severity != "info"]
    axes = volume.geometry.direction
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-3)
    assert _agreement(volume, [frames_of(path)[0] for path in folder.iterdir()]) < 25.0


def _agreement(volume: Volume, frames: list[Frame]) -> float:
    """Mean absolute difference at points in the middle of each source frame, HU."""
    inverse = np.linalg.inv(volume.geometry.affine_lps)
    differences = []
    for frame in frames[1:-1]:
        for i in range(150, 360, 15):
            for j in range(150, 360, 15):
                point = frame.position_lps + frame.axes_mm @ [i, j]
                index = np.rint(inverse[:3, :3] @ point + inverse[:3, 3]).astype(int)
                if (index >= 0).all() and (index < volume.array.shape).all():
                    differences.append(abs(volume.array[tuple(index)] - frame.values_ij[i, j]))
    assert len(differences) > 1000
    return float(np.mean(differences))


def test_large_gap_is_never_bridged_in_silence(shared_data: Path) -> None:
    reading = read_folder(shared_data / "dicom" / "ct_four_slices_large_gap")

    if reading.volumes:
        assert all(volume.flags for volume in reading.volumes)
        assert all(volume.array.shape[2] * volume.geometry.spacing_mm[2] < 5
                   or volume.array.shape[2] > 4 for volume in reading.volumes)  # fmt: skip
    else:
        assert "202.5" in " ".join(refusal.found for refusal in reading.refusals)


def test_segmentations_are_skipped_and_their_images_read(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "seg_examples"

    listing = open_input(folder)

    skipped = {record.source for record in listing.skipped}
    for name in ("liver.dcm", "partial_overlaps.dcm", "sparse-labelmap-noppv.dcm",
                 "23x38x3/seg/label.seg", "spine_seg.nrrd"):  # fmt: skip
        assert name in skipped
    shapes = sorted(ref.geometry.shape for study in listing.studies for ref in study.volumes)
    assert shapes.count((23, 38, 3)) == 2
    assert shapes.count((24, 38, 3)) == 2
    assert shapes.count((512, 512, 3)) == 1


def test_one_slice_in_many_encodings_conflicts(shared_data: Path) -> None:
    """Lossless and lossy copies claim one position; colour, ultrasound and reports are skipped."""
    folder = shared_data / "dicom" / "ct_slice_in_14_transfer_syntaxes"

    listing = open_input(folder)
    reading = read_all(listing)

    assert reading.refusals
    skipped = {record.source for record in listing.skipped}
    assert {"TestPattern_RGB.dcm", "TestPattern_Palette.dcm", "no-pixel-data.dcm"} <= skipped
    assert "createAllTransferSyntaxes.sh" in skipped
    for volume in reading.volumes:
        assert volume.flags


LOSSY_NAMES = (
    "JPEGLSLossy", "JPEG2000Transfer", "Process1Transfer", "Process2_4",
)  # fmt: skip


RETIRED_NAMES = ("Process10_12", "Process6_8")
"""Progressive JPEG in 12 bits, retired in 2001: no declared decoder reads it."""


def _ct_slices(shared_data: Path) -> list[Path]:
    folder = shared_data / "dicom" / "ct_slice_in_14_transfer_syntaxes"
    return [path for path in sorted(folder.glob("CTImage.dcm*")) if path.suffix == ".dcm"]


@pytest.mark.parametrize("number", range(16))
def test_every_encoding_is_decoded(number: int, shared_data: Path, tmp_path: Path) -> None:
    """Two copies one above the other: lossless ones equal the plain slice, lossy ones say so."""
    paths = _ct_slices(shared_data)
    assert len(paths) == 16
    path = paths[number]
    for copy in range(2):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] += 5.0 * copy
        dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.10.9999.{copy}"
        dataset.save_as(tmp_path / str(copy))

    reading = read_all(open_input(tmp_path))

    if any(mark in path.name for mark in RETIRED_NAMES):
        assert [(r.source, r.code) for r in reading.refusals] == [("0", "transfer-syntax")]
        return
    assert [refusal.code for refusal in reading.refusals] == []
    (volume,) = reading.volumes
    lossless = frames_of(paths[0])[0].values_ij
    codes = {flag.code for flag in volume.flags}
    for k in range(2):
        difference = np.abs(volume.array[:, :, k] - lossless)
        if "lossy-compression" in codes:
            assert difference.mean() < 40.0
        else:
            assert difference.max() == 0.0
    assert ("lossy-compression" in codes) == any(mark in path.name for mark in LOSSY_NAMES)
