"""Regular series that only look difficult: all are to be read exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from tests.traps.expectation import Expectation, Image, reads
from tests.traps.series import (
    CORONAL,
    ORIGIN,
    SAGITTAL,
    assign,
    make_series,
    patch,
    rotation,
    save,
    write,
)


def plain_axial(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    return reads(series.image, clean=True, studies=1)


def plain_mr(folder: Path) -> Expectation:
    series = make_series(modality="MR", slope=None)
    series.write(folder)
    return reads(series.image, clean=True)


def file_names_reversed(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder, [f"{n:03d}.dcm" for n in range(9, 3, -1)])
    return reads(series.image, clean=True)


def file_names_shuffled(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder, ["d", "a", "f", "b", "c", "e"])
    return reads(series.image, clean=True)


def instance_numbers_reversed(folder: Path) -> Expectation:
    series = make_series()
    for number, dataset in enumerate(reversed(series.datasets), start=1):
        dataset.InstanceNumber = number
    series.write(folder)
    return reads(series.image, clean=True)


def instance_numbers_shuffled(folder: Path) -> Expectation:
    series = make_series()
    for number, dataset in zip((4, 1, 6, 2, 3, 5), series.datasets, strict=True):
        dataset.InstanceNumber = number
    series.write(folder)
    return reads(series.image, clean=True)


def instance_numbers_all_equal(folder: Path) -> Expectation:
    series = make_series().set(InstanceNumber=1)
    series.write(folder)
    return reads(series.image)


def instance_numbers_absent(folder: Path) -> Expectation:
    series = make_series().set(InstanceNumber=None)
    series.write(folder, ["c", "b", "a", "f", "e", "d"])
    return reads(series.image)


def slice_location_lies(folder: Path) -> Expectation:
    series = make_series()
    for location, dataset in zip((5, 3, 1, 2, 6, 4), series.datasets, strict=True):
        dataset.SliceLocation = location
    series.write(folder)
    return reads(series.image)


def feet_first(folder: Path) -> Expectation:
    series = make_series(direction=np.diag([-1.0, 1.0, -1.0]))
    series.set(PatientPosition="FFS")
    series.write(folder)
    return reads(series.image, clean=True)


def prone(folder: Path) -> Expectation:
    series = make_series(direction=np.diag([-1.0, -1.0, 1.0]))
    series.set(PatientPosition="HFP")
    series.write(folder)
    return reads(series.image, clean=True)


def sagittal(folder: Path) -> Expectation:
    series = make_series(direction=SAGITTAL, modality="MR")
    series.write(folder)
    return reads(series.image, clean=True)


def coronal(folder: Path) -> Expectation:
    series = make_series(direction=CORONAL, modality="MR")
    series.write(folder)
    return reads(series.image, clean=True)


def oblique(folder: Path) -> Expectation:
    series = make_series(direction=rotation(0, 25.0), modality="MR")
    series.write(folder)
    return reads(series.image, clean=True)


def double_oblique(folder: Path) -> Expectation:
    direction = rotation(2, 20.0) @ rotation(0, -35.0) @ rotation(1, 15.0)
    series = make_series(direction=direction, modality="MR")
    series.write(folder, ["3", "1", "2", "6", "5", "4"])
    return reads(series.image, clean=True)


def oblique_near_45_degrees(folder: Path) -> Expectation:
    series = make_series(direction=rotation(0, 45.0) @ rotation(2, 45.0), modality="MR")
    series.write(folder)
    return reads(series.image)


def cosines_rounded_to_four_digits(folder: Path) -> Expectation:
    """Real scanners print few digits; that is no shear (highdicom refuses it)."""
    direction = rotation(2, 7.3) @ rotation(0, -12.7)
    series = make_series(direction=direction, modality="MR")
    cosines = [f"{value:.4f}" for value in direction[:, :2].T.ravel()]
    series.set(ImageOrientationPatient=cosines)
    series.write(folder)
    return reads(series.image)


def cosines_differ_in_the_last_digit(folder: Path) -> Expectation:
    series = make_series(direction=rotation(0, 25.0), modality="MR")
    for k, dataset in enumerate(series.datasets):
        cosines = [float(value) + 1e-6 * (k % 2) for value in dataset.ImageOrientationPatient]
        assign(dataset, ImageOrientationPatient=[f"{value:.9f}" for value in cosines])
    series.write(folder)
    return reads(series.image)


def pixels_not_square(folder: Path) -> Expectation:
    series = make_series(spacing_mm=(0.5, 2.0, 3.0))
    series.write(folder)
    return reads(series.image, clean=True)


def pixels_not_square_oblique(folder: Path) -> Expectation:
    series = make_series(
        spacing_mm=(2.25, 0.6, 4.0), direction=rotation(1, 30.0) @ CORONAL, modality="MR"
    )
    series.write(folder)
    return reads(series.image, clean=True)


def thickness_larger_than_spacing(folder: Path) -> Expectation:
    series = make_series().set(SliceThickness="5.0")
    series.write(folder)
    return reads(series.image)


def thickness_smaller_than_spacing(folder: Path) -> Expectation:
    series = make_series(modality="MR").set(SliceThickness="1.0", SpacingBetweenSlices="2.5")
    series.write(folder)
    return reads(series.image)


def thickness_absent(folder: Path) -> Expectation:
    series = make_series().set(SliceThickness=None)
    series.write(folder)
    return reads(series.image)


def spacing_between_slices_lies(folder: Path) -> Expectation:
    series = make_series(modality="MR").set(SpacingBetweenSlices="9.0")
    series.write(folder)
    return reads(series.image)


def spacing_between_slices_negative(folder: Path) -> Expectation:
    """Some scanners write a negative spacing; positions decide."""
    series = make_series(modality="MR").set(SpacingBetweenSlices="-2.5")
    series.write(folder)
    return reads(series.image)


def jitter_of_one_percent(folder: Path) -> Expectation:
    offsets = 0.009 * 2.5 * np.array([0, 1, -1, 1, -1, 0])
    positions = [np.add(ORIGIN, (0, 0, 2.5 * k + offsets[k])) for k in range(6)]
    series = make_series(positions=positions)
    series.write(folder, ["c", "b", "a", "f", "e", "d"])
    return reads(series.image)


def thin_and_long(folder: Path) -> Expectation:
    """Rounding of positions to 0.1 mm must not accumulate into a wrong spacing."""
    positions = [np.add(ORIGIN, (0, 0, 0.625 * k)) for k in range(40)]
    series = make_series(shape=(4, 3, 40), spacing_mm=(1, 1, 0.625), positions=positions)
    series.write(folder)
    return reads(series.image)


def positions_rounded(folder: Path) -> Expectation:
    """0.625 mm slices whose positions carry two decimals: 0.8 % jitter."""
    positions = [np.round(np.add(ORIGIN, (0, 0, 0.625 * k)), 2) for k in range(12)]
    series = make_series(shape=(4, 3, 12), spacing_mm=(1, 1, 0.625), positions=positions)
    series.write(folder)
    return reads(series.image)


def two_slices(folder: Path) -> Expectation:
    series = make_series(shape=(8, 7, 2))
    series.write(folder, ["b", "a"])
    return reads(series.image, may_refuse=True)


def no_extension(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder, [f"1.2.3.{n}" for n in range(6)])
    return reads(series.image, clean=True)


def wrong_extension(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder, [f"{n}.jpg" for n in range(6)])
    return reads(series.image, clean=True)


def no_preamble(folder: Path) -> Expectation:
    """Only the data set, implicit little endian, neither preamble nor file meta."""
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        bare = Dataset()
        bare.update(dataset)
        bare.save_as(folder / f"raw{k}", implicit_vr=True, little_endian=True)
    return reads(series.image, may_refuse=True)


def nested_folders(folder: Path) -> Expectation:
    series = make_series()
    write(folder, series.datasets, [f"{'ab'[k % 2]}/{k}/image" for k in range(6)])
    return reads(series.image, clean=True)


def one_file_opened(folder: Path) -> Expectation:
    """A folder with one series, a subfolder as INPUT."""
    series = make_series()
    write(folder / "sub", series.datasets)
    return reads(series.image, clean=True, entry="sub")


def preamble_with_code(folder: Path) -> Expectation:
    """A preamble may be an executable (PE/DICOM); pixels and geometry are sound."""
    series = make_series()
    for dataset in series.datasets:
        dataset.preamble = b"MZ" + b"\x90" * 126
    series.write(folder)
    return reads(series.image)


def missing_sop_instance_uid(folder: Path) -> Expectation:
    series = make_series().set(SOPInstanceUID=None)
    for dataset in series.datasets:
        del dataset.file_meta.MediaStorageSOPInstanceUID
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(series.datasets):
        dataset.save_as(folder / f"{k}.dcm")
    return reads(series.image)


def missing_frame_of_reference(folder: Path) -> Expectation:
    series = make_series().set(FrameOfReferenceUID=None)
    series.write(folder)
    return reads(series.image)


def private_tags(folder: Path) -> Expectation:
    series = make_series()
    for dataset in series.datasets:
        block = dataset.private_block(0x0029, "ZZYZX TRAPS", create=True)
        block.add_new(0x10, "OB", bytes(range(256)))
        block.add_new(0x11, "LO", "Zzyzx^Quentin")
    series.write(folder)
    return reads(series.image, clean=True)


def character_sets(folder: Path) -> Expectation:
    """One name, written in UTF-8 and in Latin-1: the same patient."""
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        dataset.SpecificCharacterSet = ["ISO_IR 192", "ISO_IR 100"][k % 2]
        dataset.PatientName = "Zzyzx^Ålesund"
    series.write(folder)
    return reads(series.image)


def name_with_trailing_delimiters(folder: Path) -> Expectation:
    """`Name^First^^^` and `Name^First` are one person (PS3.5 6.2.1)."""
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        dataset.PatientName = "Zzyzx^Quentin" + "^^^" * (k % 2)
    series.write(folder)
    return reads(series.image)


def character_set_unknown(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    for dataset in series.datasets:
        dataset.SpecificCharacterSet = "ISO_IR 192"
    for k, dataset in enumerate(series.datasets):
        save(dataset, folder / f"IM{k:04d}.dcm")
        patch(folder / f"IM{k:04d}.dcm", b"ISO_IR 192", b"ISO_XX 777")
        patch(folder / f"IM{k:04d}.dcm", b"Zzyzx^Quentin", b"Zzyzx^Q\xff\xfentin")
    return reads(series.image)


def rows_of_one_pixel_more(folder: Path) -> Expectation:
    """Odd pixel counts in 16 bit and a padding byte after odd 8-bit frames."""
    series = make_series(shape=(5, 5, 5))
    for k, dataset in enumerate(series.datasets):
        frame = (series.stored[:, :, k] % 251).astype(np.uint8)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = frame.T.tobytes() + b"\0"
        dataset["PixelData"].VR = "OB"
    series.write(folder)
    truth = Image((series.stored % 251) - 1024.0, series.affine_lps)
    return reads(truth)


TRAPS = (
    plain_axial, plain_mr, file_names_reversed, file_names_shuffled, instance_numbers_reversed,
    instance_numbers_shuffled, instance_numbers_all_equal, instance_numbers_absent,
    slice_location_lies, feet_first, prone, sagittal, coronal, oblique, double_oblique,
    oblique_near_45_degrees, cosines_rounded_to_four_digits, cosines_differ_in_the_last_digit,
    pixels_not_square, pixels_not_square_oblique, thickness_larger_than_spacing,
    thickness_smaller_than_spacing, thickness_absent, spacing_between_slices_lies,
    spacing_between_slices_negative, jitter_of_one_percent, thin_and_long, positions_rounded,
    two_slices, no_extension, wrong_extension, no_preamble, nested_folders, one_file_opened,
    preamble_with_code, missing_sop_instance_uid, missing_frame_of_reference, private_tags,
    character_sets, name_with_trailing_delimiters, character_set_unknown, rows_of_one_pixel_more,
)  # fmt: skip
