"""Several volumes under one series UID: they are split, never interleaved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.traps.expectation import Expectation, Image, reads
from tests.traps.series import (
    AXIAL,
    SAGITTAL,
    Series,
    assign,
    distinct_values,
    make_series,
    merged,
    rotation,
    uid,
    write,
)


def _parts(count: int, **options: Any) -> list[Series]:
    """Series of one UID with different pixels and instance numbers at the same positions."""
    return [
        make_series(seed=n, first_instance=100 * n + 1, modality=options.get("modality", "MR"))
        for n in range(count)
    ]


def _tagged(folder: Path, keyword: str, values: list[Any], **more: Any) -> Expectation:
    parts = _parts(len(values))
    for part, value in zip(parts, values, strict=True):
        part.set(**{keyword: value}, **more)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), same_series=True, studies=1)


def phases_by_trigger_time(folder: Path) -> Expectation:
    times = [0.0, 120.0, 240.0, 360.0]
    parts = _parts(4)
    for part, time in zip(parts, times, strict=True):
        part.set(TriggerTime=str(time), NominalInterval="480")
    write(folder, merged(*parts))
    images = [replace(part.image, time_ms=t) for part, t in zip(parts, times, strict=True)]
    return reads(*images, same_series=True)


def phases_with_jittering_trigger_times(folder: Path) -> Expectation:
    """Each slice was gated on its own: the times of one phase differ by some ms."""
    parts = _parts(4)
    rng = np.random.default_rng(7)
    for phase, part in enumerate(parts):
        for dataset in part.datasets:
            assign(dataset, TriggerTime=f"{phase * 80 + rng.uniform(0, 9):.1f}")
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), same_series=True, may_refuse=True)


def phases_with_times_that_overlap(folder: Path) -> Expectation:
    """Heart rate differs per slice: rank within the slice, not the time, names the phase."""
    parts = _parts(5)
    for phase, part in enumerate(parts):
        for k, dataset in enumerate(part.datasets):
            assign(dataset, TriggerTime=f"{phase * (30 + 4 * k):.1f}", CardiacNumberOfImages=5)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), same_series=True, may_refuse=True)


def phases_in_slice_major_order(folder: Path) -> Expectation:
    """Instance numbers run through the phases of a slice first, as Siemens cine does."""
    parts = _parts(3)
    datasets = merged(*parts)
    for number, dataset in enumerate(datasets, start=1):
        dataset.InstanceNumber = number
    for phase, part in enumerate(parts):
        part.set(TriggerTime=str(50.0 * phase))
    write(folder, datasets)
    return reads(*(part.image for part in parts), same_series=True)


def temporal_positions(folder: Path) -> Expectation:
    return _tagged(folder, "TemporalPositionIdentifier", [1, 2, 3], NumberOfTemporalPositions=3)


def echo_times(folder: Path) -> Expectation:
    return _tagged(folder, "EchoTime", ["4.6", "9.2", "13.8"])


def b_values(folder: Path) -> Expectation:
    parts = _parts(3)
    for part, value in zip(parts, (0.0, 500.0, 1000.0), strict=True):
        part.set(DiffusionBValue=value)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), same_series=True)


def b_values_in_private_tags(folder: Path) -> Expectation:
    """Siemens writes the b-value at (0019,100C)."""
    parts = _parts(2)
    for part, value in zip(parts, ("0", "800"), strict=True):
        for dataset in part.datasets:
            block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
            block.add_new(0x0C, "IS", value)
            assign(dataset, Manufacturer="SIEMENS")
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def gradient_directions(folder: Path) -> Expectation:
    """One b-value, three directions: three volumes."""
    parts = _parts(3)
    for part, direction in zip(parts, np.eye(3), strict=True):
        part.set(DiffusionBValue=700.0, DiffusionGradientOrientation=direction.tolist())
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def acquisition_numbers(folder: Path) -> Expectation:
    return _tagged(folder, "AcquisitionNumber", [1, 2])


def acquisition_times_only(folder: Path) -> Expectation:
    """Dynamic series whose frames differ in AcquisitionTime and instance number alone."""
    parts = _parts(2)
    for part, time in zip(parts, ("101500.00", "101730.00"), strict=True):
        part.set(AcquisitionTime=time)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def acquisition_number_per_slice(folder: Path) -> Expectation:
    """Every slice is its own acquisition (axial CT): still one volume."""
    series = make_series()
    for number, dataset in enumerate(series.datasets, start=1):
        dataset.AcquisitionNumber = number
    series.write(folder)
    return reads(series.image)


def trigger_time_per_slice(folder: Path) -> Expectation:
    """One phase of a cine in its own series: times differ per slice, positions do not repeat."""
    series = make_series(modality="MR")
    for k, dataset in enumerate(series.datasets):
        assign(dataset, TriggerTime=f"{300 + 3 * k}")
    series.write(folder)
    return reads(series.image)


def acquisition_time_per_slice(folder: Path) -> Expectation:
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        assign(dataset, AcquisitionTime=f"1015{k:02d}", ContentTime=f"1016{k:02d}")
    series.write(folder)
    return reads(series.image)


def two_acquisitions_half_a_slice_apart(folder: Path) -> Expectation:
    """Second acquisition shifted by 1 mm: merged they look like uneven spacing."""
    first = make_series().set(AcquisitionNumber=1)
    second = make_series(origin=(-11.0, -22.0, 34.0), seed=1, first_instance=101)
    second.set(AcquisitionNumber=2)
    write(folder, merged(first, second))
    return reads(first.image, second.image, may_refuse=True)


def two_acquisitions_exactly_interleaved(folder: Path) -> Expectation:
    """Odd and even slices in two acquisitions: one volume or two, both are right."""
    whole = make_series(shape=(8, 7, 8))
    for k, dataset in enumerate(whole.datasets):
        dataset.AcquisitionNumber = 1 + k % 2
    whole.write(folder)
    halves = []
    for start in (0, 1):
        affine = whole.affine_lps.copy()
        affine[:3, 3] += start * affine[:3, 2]
        affine[:3, 2] *= 2
        halves.append(Image(whole.image.array[:, :, start::2], affine))
    return Expectation(images=((whole.image,), tuple(halves)))


def phase_with_a_missing_slice(folder: Path) -> Expectation:
    """One of 18 images is missing: two phases are whole, the third is not."""
    parts = _parts(3)
    for phase, part in enumerate(parts):
        part.set(TriggerTime=str(100.0 * phase), TemporalPositionIdentifier=phase + 1)
    del parts[1].datasets[2]
    write(folder, [dataset for part in parts for dataset in part.datasets])
    return Expectation(
        images=((parts[0].image, parts[2].image), ()), may_refuse=True, same_series=True
    )


def magnitude_and_phase_images(folder: Path) -> Expectation:
    parts = _parts(2)
    parts[0].set(ImageType=["ORIGINAL", "PRIMARY", "M", "FFE"])
    parts[1].set(ImageType=["ORIGINAL", "PRIMARY", "P", "FFE"])
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def two_orientations(folder: Path) -> Expectation:
    axial = make_series(modality="MR")
    sagittal = make_series(modality="MR", direction=SAGITTAL, seed=1, first_instance=50)
    write(folder, merged(axial, sagittal))
    return reads(axial.image, sagittal.image, studies=1)


def localizer_inside_the_series(folder: Path) -> Expectation:
    """A coronal overview carries the UID of the axial series."""
    series = make_series()
    direction = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float)
    scout = make_series(shape=(8, 7, 1), direction=direction, seed=4, first_instance=50)
    scout.set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(folder, scout.datasets + series.datasets)
    return reads(series.image, optional=(scout.image,))


def localizer_of_the_same_orientation(folder: Path) -> Expectation:
    """Axial like the series, off the grid, of another matrix size."""
    series = make_series()
    scout = make_series(
        shape=(9, 9, 1), spacing_mm=(4, 4, 10), origin=(-20, -20, 36), seed=4, first_instance=50
    )
    scout.set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(folder, scout.datasets + series.datasets)
    return reads(series.image, optional=(scout.image,))


def scouts_beside(folder: Path) -> Expectation:
    """A three-plane localizer as its own series of the study."""
    series = make_series()
    scouts = [
        make_series(shape=(8, 7, 1), direction=plane, seed=9 + n, series="scout",
                    first_instance=n + 1)
        for n, plane in enumerate((AXIAL, SAGITTAL))
    ]  # fmt: skip
    for scout in scouts:
        scout.set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write(folder, [d for scout in scouts for d in scout.datasets] + series.datasets)
    return reads(series.image, optional=tuple(scout.image for scout in scouts), studies=1)


def two_patients_under_one_series_uid(folder: Path) -> Expectation:
    """Odd slices of one patient, even slices of another: never one volume."""
    first = make_series(study="p", series="x")
    second = make_series(study="p", series="x", seed=1, first_instance=101)
    second.set(PatientID="PID90417B", PatientName="Zzyzx^Other")
    write(folder, merged(first, second))
    return reads(first.image, second.image, studies=2, flagged=True, may_refuse=True)


def two_patients_whose_slices_complete_each_other(folder: Path) -> Expectation:
    """The positions of both make one regular stack; that is the trap."""
    whole = make_series(shape=(8, 7, 8))
    for k in range(4, 8):
        assign(whole.datasets[k], PatientID="PID90417B", PatientName="Zzyzx^Other")
    whole.write(folder)
    return reads(whole.slices(0, 4), whole.slices(4, 8), studies=2, flagged=True, may_refuse=True)


def two_studies_under_one_series_uid(folder: Path) -> Expectation:
    first = make_series(study="p1", series="x")
    second = make_series(study="p2", series="x", seed=1, first_instance=101)
    write(folder, merged(first, second))
    return reads(first.image, second.image, studies=2, flagged=True, may_refuse=True)


def two_studies_whose_slices_complete_each_other(folder: Path) -> Expectation:
    whole = make_series(shape=(8, 7, 8))
    for dataset in whole.datasets[4:]:
        assign(dataset, StudyInstanceUID=uid("study", "other"))
    whole.write(folder)
    return reads(whole.slices(0, 4), whole.slices(4, 8), studies=2, flagged=True, may_refuse=True)


def frames_of_reference_mixed(folder: Path) -> Expectation:
    """Half of the slices belong to another coordinate system: positions do not compare."""
    whole = make_series(shape=(8, 7, 8))
    for dataset in whole.datasets[4:]:
        assign(dataset, FrameOfReferenceUID=uid("frame", "other"))
    whole.write(folder)
    return reads(whole.slices(0, 4), whole.slices(4, 8), may_refuse=True)


def frames_of_reference_interleaved(folder: Path) -> Expectation:
    first, second = _parts(2, modality="CT")
    second.set(FrameOfReferenceUID=uid("frame", "other"))
    write(folder, merged(first, second))
    return reads(first.image, second.image, may_refuse=True)


def two_modalities(folder: Path) -> Expectation:
    """CT and MR slices under one series UID."""
    first = make_series()
    second = make_series(modality="MR", seed=1, first_instance=101)
    write(folder, merged(first, second))
    return reads(first.image, second.image, may_refuse=True)


def two_matrix_sizes(folder: Path) -> Expectation:
    whole = make_series(shape=(8, 7, 8))
    other = make_series(shape=(6, 5, 2), origin=(-11.0, -22.0, 53.0), seed=1, first_instance=101)
    write(folder, whole.datasets + other.datasets)
    return reads(whole.image, other.image, may_refuse=True)


def one_slice_of_another_matrix(folder: Path) -> Expectation:
    series = make_series()
    odd = make_series(shape=(7, 8, 6), seed=1).datasets[2]
    odd.PixelSpacing, odd.InstanceNumber = series.datasets[2].PixelSpacing, 3
    series.datasets[2] = odd
    series.write(folder)
    return Expectation(images=((),), may_refuse=True)


def one_slice_of_another_pixel_spacing(folder: Path) -> Expectation:
    series = make_series()
    assign(series.datasets[2], PixelSpacing=["1.5", "3.0"])
    series.write(folder)
    return Expectation(images=((),), may_refuse=True)


def bits_allocated_mixed(folder: Path) -> Expectation:
    """Some slices in 8 bit: the values are known all the same."""
    stored = distinct_values((8, 7, 6)) % 250
    series = make_series(stored=stored)
    for dataset, k in zip(series.datasets[:3], range(3), strict=True):
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = stored[:, :, k].T.astype(np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"
    series.write(folder)
    return reads(series.image, may_refuse=True)


def two_series_in_one_study(folder: Path) -> Expectation:
    first = make_series(series="a")
    second = make_series(series="b", modality="MR", seed=1, spacing_mm=(1, 1, 4))
    write(folder, merged(first, second))
    return reads(first.image, second.image, studies=1, clean=True)


def two_studies_in_one_folder(folder: Path) -> Expectation:
    first = make_series(study="a", series="a")
    second = make_series(study="b", series="b", seed=1)
    write(folder, merged(first, second))
    return reads(first.image, second.image, studies=2, clean=True)


def far_apart_stacks(folder: Path) -> Expectation:
    """Two groups of lumbar discs, each its own angle (as in spine MR)."""
    direction = rotation(0, 11.0)
    lower = make_series(modality="MR", shape=(8, 7, 4))
    upper = make_series(
        modality="MR", shape=(8, 7, 4), direction=direction, origin=(-11, -22, 60), seed=1,
        first_instance=5,
    )  # fmt: skip
    write(folder, lower.datasets + upper.datasets)
    return reads(lower.image, upper.image, studies=1)


TRAPS = (
    phases_by_trigger_time, phases_with_jittering_trigger_times, phases_with_times_that_overlap,
    phases_in_slice_major_order, temporal_positions, echo_times, b_values,
    b_values_in_private_tags, gradient_directions, acquisition_numbers, acquisition_times_only,
    acquisition_number_per_slice, trigger_time_per_slice, acquisition_time_per_slice,
    two_acquisitions_half_a_slice_apart, two_acquisitions_exactly_interleaved,
    phase_with_a_missing_slice, magnitude_and_phase_images, two_orientations,
    localizer_inside_the_series, localizer_of_the_same_orientation, scouts_beside,
    two_patients_under_one_series_uid, two_patients_whose_slices_complete_each_other,
    two_studies_under_one_series_uid, two_studies_whose_slices_complete_each_other,
    frames_of_reference_mixed, frames_of_reference_interleaved, two_modalities, two_matrix_sizes,
    one_slice_of_another_matrix, one_slice_of_another_pixel_spacing, bits_allocated_mixed,
    two_series_in_one_study, two_studies_in_one_folder, far_apart_stacks,
)  # fmt: skip
