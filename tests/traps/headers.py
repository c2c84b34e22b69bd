"""Headers that lack the geometry or lie about it: refused, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.uid import ComputedRadiographyImageStorage, UltrasoundImageStorage

from tests.traps.expectation import Expectation, Image, reads, refuses
from tests.traps.series import assign, file_dataset, make_series, patch, uid, write


def _without(folder: Path, keyword: str) -> Expectation:
    make_series().set(**{keyword: None}).write(folder)
    return refuses()


def _one_without(folder: Path, keyword: str) -> Expectation:
    """One slice lacks the tag: it must not silently leave the stack."""
    series = make_series()
    assign(series.datasets[3], **{keyword: None})
    series.write(folder)
    return refuses()


def missing_orientation(folder: Path) -> Expectation:
    return _without(folder, "ImageOrientationPatient")


def missing_position(folder: Path) -> Expectation:
    return _without(folder, "ImagePositionPatient")


def missing_pixel_spacing(folder: Path) -> Expectation:
    return _without(folder, "PixelSpacing")


def missing_orientation_on_one_slice(folder: Path) -> Expectation:
    return _one_without(folder, "ImageOrientationPatient")


def missing_position_on_one_slice(folder: Path) -> Expectation:
    return _one_without(folder, "ImagePositionPatient")


def missing_pixel_spacing_on_one_slice(folder: Path) -> Expectation:
    return _one_without(folder, "PixelSpacing")


def missing_position_on_the_last_slice(folder: Path) -> Expectation:
    """Without the last slice the rest is regular: dropping it in silence cuts the volume."""
    series = make_series()
    assign(series.datasets[-1], ImagePositionPatient=None)
    series.write(folder)
    return Expectation(images=((series.slices(0, 5),), ()), flagged=True, may_refuse=True)


def missing_series_uid(folder: Path) -> Expectation:
    series = make_series().set(SeriesInstanceUID=None)
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True)


def missing_study_uid(folder: Path) -> Expectation:
    series = make_series().set(StudyInstanceUID=None)
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True)


def missing_modality(folder: Path) -> Expectation:
    """The SOP class still says CT."""
    series = make_series().set(Modality=None)
    series.write(folder)
    return reads(series.image, may_refuse=True)


def missing_rows(folder: Path) -> Expectation:
    return _without(folder, "Rows")


def missing_bits_allocated(folder: Path) -> Expectation:
    return _without(folder, "BitsAllocated")


def missing_patient(folder: Path) -> Expectation:
    series = make_series().set(PatientID=None, PatientName=None)
    series.write(folder)
    return reads(series.image)


def _everywhere(folder: Path, **tags: Any) -> Expectation:
    make_series().set(**tags).write(folder)
    return refuses()


def cosines_not_orthogonal(folder: Path) -> Expectation:
    return _everywhere(folder, ImageOrientationPatient=["1", "0", "0", "0.3", "0.953939", "0"])


def cosines_not_of_unit_length(folder: Path) -> Expectation:
    return _everywhere(folder, ImageOrientationPatient=["2", "0", "0", "0", "1", "0"])


def cosines_all_zero(folder: Path) -> Expectation:
    return _everywhere(folder, ImageOrientationPatient=["0"] * 6)


def cosines_only_five(folder: Path) -> Expectation:
    return _everywhere(folder, ImageOrientationPatient=["1", "0", "0", "0", "1"])


def pixel_spacing_zero(folder: Path) -> Expectation:
    return _everywhere(folder, PixelSpacing=["0", "0.75"])


def pixel_spacing_negative(folder: Path) -> Expectation:
    return _everywhere(folder, PixelSpacing=["-0.75", "1.5"])


def pixel_spacing_single(folder: Path) -> Expectation:
    return _everywhere(folder, PixelSpacing="0.75")


def pixel_spacing_absurd(folder: Path) -> Expectation:
    """1e30 mm is no pixel."""
    return _everywhere(folder, PixelSpacing=["1e30", "1e30"])


def position_of_two_numbers(folder: Path) -> Expectation:
    return _everywhere(folder, ImagePositionPatient=["1", "2"])


def _garbled(folder: Path, keyword: str, value: list[str], old: bytes, new: bytes) -> Expectation:
    series = make_series()
    assign(series.datasets[2], **{keyword: value})
    series.write(folder)
    patch(folder / "IM0002.dcm", old, new)
    return refuses()


def position_nan(folder: Path) -> Expectation:
    value = ["-11", "-22", "38.76543"]
    return _garbled(folder, "ImagePositionPatient", value, b"38.76543", b"nan     ")


def position_infinite(folder: Path) -> Expectation:
    value = ["-11", "-22", "38.76543"]
    return _garbled(folder, "ImagePositionPatient", value, b"38.76543", b"1e999   ")


def position_garbage(folder: Path) -> Expectation:
    value = ["-11", "-22", "38.76543"]
    return _garbled(folder, "ImagePositionPatient", value, b"38.76543", b"38,76543")


def orientation_garbage(folder: Path) -> Expectation:
    value = ["1.000123", "0", "0", "0", "1", "0"]
    return _garbled(folder, "ImageOrientationPatient", value, b"1.000123", b"Zzyzx^Qu")


def pixel_spacing_garbage(folder: Path) -> Expectation:
    return _garbled(folder, "PixelSpacing", ["0.751234", "1.5"], b"0.751234", b"0.75\0mm\0")


def instance_number_garbage(folder: Path) -> Expectation:
    """Nothing geometric depends on it."""
    series = make_series()
    assign(series.datasets[2], InstanceNumber="123456")
    series.write(folder)
    patch(folder / "IM0002.dcm", b"123456", b"twelve")
    return reads(series.image, may_refuse=True)


def rows_zero(folder: Path) -> Expectation:
    return _everywhere(folder, Rows=0)


def rows_too_many(folder: Path) -> Expectation:
    """Rows says 65535: refuse before allocating."""
    return _everywhere(folder, Rows=65535, Columns=65535)


def bits_stored_above_allocated(folder: Path) -> Expectation:
    return _everywhere(folder, BitsStored=24, HighBit=23)


def bits_allocated_odd(folder: Path) -> Expectation:
    return _everywhere(folder, BitsAllocated=13, BitsStored=13, HighBit=12)


def projection_with_imager_spacing_only(folder: Path) -> Expectation:
    """A radiograph: spacing at the detector, no position. Skipped or refused, never a volume."""
    dataset = file_dataset(ComputedRadiographyImageStorage, uid("cr"))
    source = make_series(shape=(8, 7, 1)).datasets[0]
    for keyword in ("Rows", "Columns", "PixelData", "BitsAllocated", "BitsStored", "HighBit",
                    "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation",
                    "StudyInstanceUID", "SeriesInstanceUID"):  # fmt: skip
        setattr(dataset, keyword, getattr(source, keyword))
    dataset["PixelData"].VR = "OW"
    assign(dataset, Modality="CR", ImagerPixelSpacing=["0.2", "0.2"], InstanceNumber=1)
    write(folder, [dataset])
    return Expectation(images=((),), not_images=("IM0000.dcm",), may_refuse=True)


def ct_with_imager_spacing_only(folder: Path) -> Expectation:
    return _everywhere(folder, PixelSpacing=None, ImagerPixelSpacing=["0.75", "1.5"])


def ultrasound_frames(folder: Path) -> Expectation:
    """Ultrasound without patient geometry."""
    series = make_series()
    for dataset in series.datasets:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    series.set(Modality="US", ImagePositionPatient=None, ImageOrientationPatient=None)
    series.write(folder)
    return Expectation(images=((),), may_refuse=True)


def pixel_spacing_order(folder: Path) -> Expectation:
    """PixelSpacing is row distance first; a 4:1 ratio makes the swap visible."""
    series = make_series(spacing_mm=(3.0, 0.75, 2.5), shape=(5, 9, 6))
    series.write(folder)
    return reads(series.image, clean=True)


def position_with_spaces_and_exponent(folder: Path) -> Expectation:
    """Legal decimal strings that are seldom seen."""
    series = make_series(origin=(-11.0, -22.0, 33.0))
    for k, dataset in enumerate(series.datasets):
        z = 33.0 + 2.5 * k
        assign(dataset, ImagePositionPatient=["-1.1E+01", " -22.0 ", f"{z / 10:.3f}e1"])
    series.write(folder)
    return reads(series.image)


def series_description_with_control_characters(folder: Path) -> Expectation:
    series = make_series().set(SeriesDescription="Quentin\x1b[31m\x07")
    series.write(folder)
    return reads(series.image)


def orientation_flips_on_one_slice(folder: Path) -> Expectation:
    """Same plane, row direction mirrored, position at the other corner: same slice, mirrored."""
    series = make_series()
    dataset = series.datasets[3]
    width = 7 * 1.5
    x, y, z = (float(value) for value in dataset.ImagePositionPatient)
    assign(dataset, ImagePositionPatient=[x + width, y, z])
    assign(dataset, ImageOrientationPatient=["-1", "0", "0", "0", "1", "0"])
    mirrored = np.ascontiguousarray(series.stored[::-1, :, 3].T.astype("<u2"))
    dataset.PixelData = mirrored.tobytes()
    series.write(folder)
    lone = np.eye(4)
    lone[:3, :3] = np.diag([1.5, 0.75, 2.5])
    lone[:3, 3] = (x, y, z)
    lower, upper = series.slices(0, 3), series.slices(4, 6)
    middle = Image(series.image.array[:, :, 3:4], lone)
    return Expectation(
        images=((series.image,), (lower, middle, upper), (lower, upper), ()),
        flagged=True, may_refuse=True,
    )  # fmt: skip


TRAPS = (
    missing_orientation, missing_position, missing_pixel_spacing,
    missing_orientation_on_one_slice, missing_position_on_one_slice,
    missing_pixel_spacing_on_one_slice, missing_position_on_the_last_slice, missing_series_uid,
    missing_study_uid, missing_modality, missing_rows, missing_bits_allocated, missing_patient,
    cosines_not_orthogonal, cosines_not_of_unit_length, cosines_all_zero, cosines_only_five,
    pixel_spacing_zero, pixel_spacing_negative, pixel_spacing_single, pixel_spacing_absurd,
    position_of_two_numbers, position_nan, position_infinite, position_garbage,
    orientation_garbage, pixel_spacing_garbage, instance_number_garbage, rows_zero,
    rows_too_many, bits_stored_above_allocated, bits_allocated_odd,
    projection_with_imager_spacing_only, ct_with_imager_spacing_only, ultrasound_frames,
    pixel_spacing_order, position_with_spaces_and_exponent,
    series_description_with_control_characters, orientation_flips_on_one_slice,
)  # fmt: skip
