"""Enhanced (multi-frame) CT and MR (PS3.3 A.36, A.38), and what only looks like them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    NuclearMedicineImageStorage,
    RLELossless,
)

from tests.traps.expectation import Expectation, Field, Image, reads, refuses, skips
from tests.traps.gaps import field_of, ramp, ramp_series
from tests.traps.series import (
    AXIAL,
    ORIGIN,
    SHAPE,
    SPACING_MM,
    Affine,
    affine_of,
    distinct_values,
    file_dataset,
    make_series,
    put_pixels,
    rotation,
    save,
    uid,
)


def item(**tags: Any) -> DicomSequence:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return DicomSequence([dataset])


def enhanced(
    stored: NDArray[Any],
    positions: Sequence[Any],
    affine: Affine,
    *,
    sop_class: str = EnhancedCTImageStorage,
    modality: str = "CT",
    slopes: Sequence[float] | None = None,
    intercepts: Sequence[float] | None = None,
    content: Sequence[dict[str, Any]] | None = None,
    extra: Sequence[dict[str, Any]] | None = None,
    series: str = "e",
) -> FileDataset:
    """One enhanced image; frame n has the pixels stored[:, :, n] and stands at positions[n]."""
    count = stored.shape[2]
    dataset: FileDataset = file_dataset(sop_class, uid(series, "sop"))
    dataset.Modality = modality
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study", "e"), uid("series", series)
    dataset.FrameOfReferenceUID = uid("frame", "e")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames, dataset.StudyDate = 1, count, "20200102"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = (affine[:3, :2] / spacing[:2]).T.ravel()
    shared = Dataset()
    shared.PlaneOrientationSequence = item(
        ImageOrientationPatient=[f"{value:.9f}" for value in cosines]
    )
    shared.PixelMeasuresSequence = item(
        PixelSpacing=[f"{spacing[1]:.6f}", f"{spacing[0]:.6f}"],
        SliceThickness=f"{spacing[2]:.6f}",
    )
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    slopes = [1.0] * count if slopes is None else slopes
    intercepts = (
        [-1024.0 if modality == "CT" else 0.0] * count if intercepts is None else intercepts
    )
    groups = []
    for n in range(count):
        group = Dataset()
        group.PlanePositionSequence = item(
            ImagePositionPatient=[f"{value:.9f}"[:16] for value in np.asarray(positions[n])]
        )
        group.PixelValueTransformationSequence = item(
            RescaleSlope=f"{slopes[n]:.6f}", RescaleIntercept=f"{intercepts[n]:.6f}",
            RescaleType="HU" if modality == "CT" else "US",
        )  # fmt: skip
        tags = {"StackID": "1", "FrameAcquisitionNumber": 1, **(content[n] if content else {})}
        group.FrameContentSequence = item(**tags)
        for keyword, value in (extra[n] if extra else {}).items():
            setattr(group, keyword, value)
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    put_pixels(dataset, stored)
    return dataset


def _grid(direction: NDArray[np.float64] = AXIAL, count: int = 6) -> tuple[Affine, list[Any]]:
    affine = affine_of(direction, SPACING_MM, ORIGIN)
    return affine, [affine[:3, 3] + k * affine[:3, 2] for k in range(count)]


def _write(dataset: Dataset, folder: Path) -> None:
    save(dataset, folder / "enhanced.dcm")


def enhanced_ct(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    _write(enhanced(stored, positions, affine), folder)
    return reads(Image(stored - 1024.0, affine), clean=True)


def enhanced_ct_oblique(folder: Path) -> Expectation:
    affine, positions = _grid(rotation(1, 12.0) @ rotation(0, 33.0))
    stored = distinct_values(SHAPE)
    _write(enhanced(stored, positions, affine), folder)
    return reads(Image(stored - 1024.0, affine))


def enhanced_frames_shuffled(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    order = [3, 0, 5, 1, 4, 2]
    _write(enhanced(stored[:, :, order], [positions[n] for n in order], affine), folder)
    return reads(Image(stored - 1024.0, affine))


def enhanced_in_stack_position_lies(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    content = [{"InStackPositionNumber": n} for n in (6, 5, 4, 3, 2, 1)]
    _write(enhanced(stored, positions, affine, content=content), folder)
    return reads(Image(stored - 1024.0, affine), may_refuse=True)


def enhanced_mr_rescale_per_frame(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    slopes, intercepts = [1, 2, 0.5, 4, 0.25, 3], [0, 5, -7, 11, 0, 1]
    dataset = enhanced(
        stored, positions, affine, sop_class=EnhancedMRImageStorage, modality="MR",
        slopes=slopes, intercepts=intercepts,
    )  # fmt: skip
    _write(dataset, folder)
    return reads(Image(stored * np.array(slopes) + np.array(intercepts), affine))


def enhanced_zero_slope(folder: Path) -> Expectation:
    affine, positions = _grid()
    _write(enhanced(distinct_values(SHAPE), positions, affine, slopes=[1, 1, 0, 1, 1, 1]), folder)
    return refuses()


def enhanced_ct_without_rescale(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    dataset = enhanced(stored, positions, affine)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PixelValueTransformationSequence
    _write(dataset, folder)
    return reads(Image(stored, affine), flagged=True, may_refuse=True)


def enhanced_missing_frame(folder: Path) -> Expectation:
    where = 2.5 * np.array([0, 1, 2, 4, 5, 6.0])
    classic = ramp_series(where)
    positions = [dataset.ImagePositionPatient for dataset in classic.datasets]
    dataset = enhanced(
        classic.stored, positions, classic.affine_lps, slopes=[0.1] * 6, intercepts=[-1024.0] * 6
    )
    _write(dataset, folder)
    return reads(field_of(where), flagged=True, may_refuse=True, refusal_mm=(5.0,))


def _four_d(
    folder: Path, content: Callable[[int], dict[str, Any]], extra: Callable[[int], dict[str, Any]]
) -> Expectation:
    """Three volumes of four slices, time running fastest."""
    affine, positions = _grid(count=4)
    stored = distinct_values((8, 7, 12))
    frames = [(k, t) for k in range(4) for t in range(3)]
    dataset = enhanced(
        stored, [positions[k] for k, _ in frames], affine, sop_class=EnhancedMRImageStorage,
        modality="MR", content=[content(t) for _, t in frames],
        extra=[extra(t) for _, t in frames],
    )  # fmt: skip
    _write(dataset, folder)
    images = [Image(stored[:, :, t::3].astype(float), affine) for t in range(3)]
    return reads(*images, same_series=True)


def enhanced_4d_temporal_position(folder: Path) -> Expectation:
    return _four_d(folder, lambda t: {"TemporalPositionIndex": t + 1}, lambda _: {})


def enhanced_4d_cardiac(folder: Path) -> Expectation:
    return _four_d(
        folder,
        lambda t: {"TemporalPositionIndex": t + 1},
        lambda t: {
            "CardiacSynchronizationSequence": item(NominalCardiacTriggerDelayTime=100.0 * t)
        },
    )


def enhanced_4d_trigger_delay_only(folder: Path) -> Expectation:
    return _four_d(
        folder,
        lambda _: {},
        lambda t: {
            "CardiacSynchronizationSequence": item(NominalCardiacTriggerDelayTime=100.0 * t)
        },
    )


def enhanced_4d_echo(folder: Path) -> Expectation:
    return _four_d(
        folder, lambda _: {}, lambda t: {"MREchoSequence": item(EffectiveEchoTime=5.0 * (t + 1))}
    )


def enhanced_4d_b_value(folder: Path) -> Expectation:
    return _four_d(
        folder,
        lambda _: {},
        lambda t: {"MRDiffusionSequence": item(DiffusionBValue=500.0 * t)},
    )


def enhanced_4d_unlabelled(folder: Path) -> Expectation:
    """Frames repeat positions and nothing says why: never interleaved."""
    expected = _four_d(folder, lambda _: {}, lambda _: {})
    return Expectation(images=expected.images, may_refuse=True)


def enhanced_two_stacks(folder: Path) -> Expectation:
    affine, positions = _grid(count=4)
    other = affine_of(rotation(0, 90.0), SPACING_MM, (-11, 0, 60))
    stored = distinct_values((8, 7, 8))
    far = [other[:3, 3] + k * other[:3, 2] for k in range(4)]
    content = [{"StackID": str(1 + n // 4)} for n in range(8)]
    dataset = enhanced(stored, [*positions, *far], affine, content=content)
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for n, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        axes = (affine if n < 4 else other)[:3, :2] / np.array(SPACING_MM[:2])
        group.PlaneOrientationSequence = item(
            ImageOrientationPatient=[f"{value:.9f}" for value in axes.T.ravel()]
        )
    _write(dataset, folder)
    values = stored - 1024.0
    return reads(Image(values[:, :, :4], affine), Image(values[:, :, 4:], other), may_refuse=True)


def enhanced_without_position(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(distinct_values(SHAPE), positions, affine)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence
    _write(dataset, folder)
    return refuses()


def enhanced_without_groups(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(distinct_values(SHAPE), positions, affine)
    del dataset.PerFrameFunctionalGroupsSequence
    _write(dataset, folder)
    return refuses()


def enhanced_groups_fewer_than_frames(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(distinct_values(SHAPE), positions, affine)
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    _write(dataset, folder)
    return refuses()


def enhanced_gantry_tilt(folder: Path) -> Expectation:
    """A sheared enhanced CT of the linear scene: resampled and flagged, or refused."""

    direction, axis = rotation(0, 20.0), np.array([0.0, 0.0, 1.0])
    affine = affine_of(direction, SPACING_MM, ORIGIN)
    positions = [np.array(ORIGIN) + 2.5 * k * axis for k in range(10)]
    index = np.indices((8, 7)).reshape(2, -1).T
    values = np.stack([ramp(index @ affine[:3, :2].T + place) for place in positions], axis=-1)
    stored = np.rint((values + 1024) / 0.1).astype(int).reshape(8, 7, -1)
    dataset = enhanced(stored, positions, affine, slopes=[0.1] * 10, intercepts=[-1024.0] * 10)
    _write(dataset, folder)
    sheared = affine.copy()
    sheared[:3, 2] = 2.5 * axis
    return reads(Field(ramp, (8, 7, 10), sheared), flagged=True, may_refuse=True)


def enhanced_rle(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    dataset = enhanced(stored, positions, affine)
    frames = stored.transpose(2, 1, 0).astype("<u2")
    dataset.compress(RLELossless, frames, encoding_plugin="pydicom", generate_instance_uid=False)
    _write(dataset, folder)
    return reads(Image(stored - 1024.0, affine))


def enhanced_truncated(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(distinct_values(SHAPE), positions, affine)
    dataset.PixelData = dataset.PixelData[:-100]
    _write(dataset, folder)
    return refuses(refusal_names=("enhanced.dcm",))


def enhanced_more_frames_than_pixels(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(distinct_values(SHAPE), positions, affine)
    dataset.NumberOfFrames = 60000
    _write(dataset, folder)
    return refuses()


def legacy_converted_enhanced_ct(folder: Path) -> Expectation:
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    dataset = enhanced(stored, positions, affine, sop_class=LegacyConvertedEnhancedCTImageStorage)
    _write(dataset, folder)
    return reads(Image(stored - 1024.0, affine), may_refuse=True)


def enhanced_split_over_two_files(folder: Path) -> Expectation:
    """A concatenation: two parts of one stack. One volume, two volumes or refused."""
    affine, positions = _grid()
    stored = distinct_values(SHAPE)
    for part in range(2):
        some = slice(3 * part, 3 * part + 3)
        dataset = enhanced(stored[:, :, some], positions[some], affine)
        dataset.ConcatenationUID = uid("concatenation")
        dataset.InConcatenationNumber, dataset.InConcatenationTotalNumber = part + 1, 2
        dataset.SOPInstanceUID = uid("part", part)
        dataset.file_meta.MediaStorageSOPInstanceUID = uid("part", part)
        save(dataset, folder / f"{2 - part}.dcm")
    image = Image(stored - 1024.0, affine)
    upper = affine.copy()
    upper[:3, 3] += 3 * affine[:3, 2]
    halves = (Image(image.array[:, :, :3], affine), Image(image.array[:, :, 3:], upper))
    return Expectation(images=((image,), halves), may_refuse=True)


def multiframe_secondary_capture(folder: Path) -> Expectation:
    affine, positions = _grid()
    dataset = enhanced(
        distinct_values(SHAPE), positions, affine, modality="OT",
        sop_class=MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    )  # fmt: skip
    _write(dataset, folder)
    return skips("enhanced.dcm")


def nuclear_medicine_multiframe(folder: Path) -> Expectation:
    """Positions lie in detector modules that medmtl does not read."""
    dataset = file_dataset(NuclearMedicineImageStorage, uid("nm"))
    dataset.Modality, dataset.NumberOfFrames = "NM", 6
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid("study", "e"), uid("series", "nm")
    dataset.PixelSpacing = ["4", "4"]
    put_pixels(dataset, distinct_values(SHAPE))
    _write(dataset, folder)
    return skips("enhanced.dcm")


def classic_ct_with_two_frames(folder: Path) -> Expectation:
    """CT Image Storage must not carry frames; there is one position for both."""

    series = make_series(shape=(8, 7, 6))
    for k, dataset in enumerate(series.datasets):
        put_pixels(dataset, np.stack([series.stored[:, :, k]] * 2, axis=-1) + 1)
        dataset.NumberOfFrames = 2
    series.write(folder)
    return refuses()


TRAPS = (
    enhanced_ct, enhanced_ct_oblique, enhanced_frames_shuffled, enhanced_in_stack_position_lies,
    enhanced_mr_rescale_per_frame, enhanced_zero_slope, enhanced_ct_without_rescale,
    enhanced_missing_frame, enhanced_4d_temporal_position, enhanced_4d_cardiac,
    enhanced_4d_trigger_delay_only, enhanced_4d_echo, enhanced_4d_b_value,
    enhanced_4d_unlabelled, enhanced_two_stacks, enhanced_without_position,
    enhanced_without_groups, enhanced_groups_fewer_than_frames, enhanced_gantry_tilt,
    enhanced_rle, enhanced_truncated, enhanced_more_frames_than_pixels,
    legacy_converted_enhanced_ct, enhanced_split_over_two_files, multiframe_secondary_capture,
    nuclear_medicine_multiframe, classic_ct_with_two_frames,
)  # fmt: skip
