"""Legal or common ways to write a header that simple readers trip over."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests.traps.expectation import Expectation, Image, reads, refuses
from tests.traps.nifti_files import RAS_TO_LPS
from tests.traps.series import (
    CORONAL,
    ORIGIN,
    assign,
    distinct_values,
    make_series,
    merged,
    patch,
    save,
    uid,
    write,
)


def derived_reformat(folder: Path) -> Expectation:
    """A multiplanar reformat is derived, and a volume all the same."""
    series = make_series(direction=CORONAL).set(ImageType=["DERIVED", "SECONDARY", "MPR"])
    series.write(folder)
    return reads(series.image)


def number_of_frames_one(folder: Path) -> Expectation:
    series = make_series().set(NumberOfFrames=1)
    series.write(folder)
    return reads(series.image)


def decimal_strings_too_long(folder: Path) -> Expectation:
    """More than 16 characters, as many exporters write them."""
    series = make_series(spacing_mm=(1.5, 0.75, 2.5))
    for k, dataset in enumerate(series.datasets):
        z = f"{33 + 2.5 * k:.20f}"
        assign(dataset, ImagePositionPatient=["-11.00000000000000000001", "-22", z])
    series.write(folder)
    return reads(series.image)


def uid_padded_with_a_space(folder: Path) -> Expectation:
    """A UID may end in a null byte; some writers pad it with a space. It is the same UID."""
    series = make_series()
    odd = "1.2.826.0.1.3680043.10.9999.123"
    series.set(SeriesInstanceUID=odd, StudyInstanceUID=odd + ".1")
    series.write(folder)
    for path in sorted(folder.iterdir())[::2]:
        patch(path, odd.encode() + b"\0", odd.encode() + b" ")
    return reads(series.image, studies=1)


def geometry_of_unknown_vr(folder: Path) -> Expectation:
    """A gateway wrote the geometry with VR UN (PS3.5 6.2.2)."""
    series = make_series()
    for dataset in series.datasets:
        for tag in (0x00200032, 0x00200037, 0x00280030):
            text = "\\".join(str(value) for value in dataset[tag].value).encode()
            del dataset[tag]
            dataset.add_new(tag, "UN", text + b" " * (len(text) % 2))
    series.write(folder)
    return reads(series.image, may_refuse=True)


def icon_with_pixels_of_its_own(folder: Path) -> Expectation:
    """A thumbnail inside a sequence has Rows, Columns and Pixel Data too."""
    series = make_series()
    for dataset in series.datasets:
        icon = Dataset()
        icon.Rows = icon.Columns = 4
        icon.BitsAllocated = icon.BitsStored = 8
        icon.HighBit, icon.PixelRepresentation, icon.SamplesPerPixel = 7, 0, 1
        icon.PhotometricInterpretation = "MONOCHROME2"
        icon.add_new(0x7FE00010, "OB", bytes(16))
        dataset.IconImageSequence = [icon]
        dataset["IconImageSequence"].is_undefined_length = True
    series.write(folder)
    return reads(series.image)


def geometry_of_another_image_inside(folder: Path) -> Expectation:
    """References in sequences carry positions, spacings and slopes of other images."""
    series = make_series()
    for dataset in series.datasets:
        inner = Dataset()
        inner.ImagePositionPatient = ["1", "2", "3"]
        inner.ImageOrientationPatient = ["0", "1", "0", "0", "0", "-1"]
        inner.PixelSpacing, inner.RescaleSlope = ["9", "9"], "7"
        inner.SeriesInstanceUID = uid("series", "elsewhere")
        outer = Dataset()
        outer.ReferencedImageSequence = [inner]
        dataset.SourceImageSequence = [outer, inner]
        block = dataset.private_block(0x0009, "ZZYZX TRAPS", create=True)
        block.add_new(0x01, "SQ", [inner])
        dataset[block.get_tag(0x01)].is_undefined_length = True
    series.write(folder)
    return reads(series.image)


def group_lengths(folder: Path) -> Expectation:
    """Retired group length elements in every group, with wrong values."""
    series = make_series()
    for dataset in series.datasets:
        for group in (0x0008, 0x0010, 0x0020, 0x0028, 0x7FE0):
            dataset.add_new(group << 16, "UL", 12345)
    series.write(folder)
    return reads(series.image)


def trailing_padding_element(folder: Path) -> Expectation:
    """(FFFC,FFFC) Data Set Trailing Padding after the pixels (PS3.10 7.2)."""
    series = make_series()
    series.write(folder)
    element = struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 64) + bytes(64)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes() + element)
    return reads(series.image)


def declared_explicit_but_implicit(folder: Path) -> Expectation:
    series = make_series(syntax=ImplicitVRLittleEndian)
    series.write(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        old = b"\x02\x00\x10\x00UI\x12\x001.2.840.10008.1.2\0"
        new = b"\x02\x00\x10\x00UI\x14\x00" + ExplicitVRLittleEndian.encode() + b"\0"
        length = struct.unpack_from("<I", content, 140)[0]
        content = content[:140] + struct.pack("<I", length + 2) + content[144:]
        path.write_bytes(content.replace(old, new))
    return reads(series.image, may_refuse=True)


def no_preamble_explicit(folder: Path) -> Expectation:
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        bare = Dataset()
        bare.update(dataset)
        bare.save_as(folder / f"raw{k}", implicit_vr=False, little_endian=True)
    return reads(series.image, may_refuse=True)


def dual_energy(folder: Path) -> Expectation:
    """Two tube voltages at each position."""
    parts = [make_series(seed=n, first_instance=1 + 100 * n) for n in range(2)]
    for part, kvp in zip(parts, ("80", "140"), strict=True):
        part.set(KVP=kvp)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def two_kernels(folder: Path) -> Expectation:
    """A soft and a sharp reconstruction under one series UID."""
    parts = [make_series(seed=n, first_instance=1 + 100 * n) for n in range(2)]
    for part, kernel in zip(parts, ("B30f", "B70f"), strict=True):
        part.set(ConvolutionKernel=kernel)
    write(folder, merged(*parts))
    return reads(*(part.image for part in parts), may_refuse=True)


def nothing_tells_two_volumes_apart(folder: Path) -> Expectation:
    """Every position twice, with nothing but the instance number to tell why."""
    parts = [make_series(seed=n, first_instance=1 + 100 * n) for n in range(2)]
    write(folder, merged(*parts))
    return Expectation(images=(tuple(part.image for part in parts), ()), may_refuse=True)


def cine_with_a_series_per_slice(folder: Path) -> Expectation:
    """Cardiac MR as many scanners send it: four phases of one slice in each series."""
    stored = [distinct_values((8, 7, 6), seed=phase) for phase in range(4)]
    datasets: list[Any] = []
    for phase in range(4):
        whole = make_series(modality="MR", stored=stored[phase], spacing_mm=(1.5, 0.75, 8.0))
        for k, dataset in enumerate(whole.datasets):
            assign(
                dataset, SeriesInstanceUID=uid("series", "slice", k), SeriesNumber=10 + k,
                SOPInstanceUID=uid("sop", phase, k), InstanceNumber=phase + 1,
                TriggerTime=str(60.0 * phase), CardiacNumberOfImages=4,
            )  # fmt: skip
            datasets.append(dataset)
    write(folder, datasets)
    affine = whole.affine_lps
    images = [Image(values - 1024.0, affine) for values in stored]
    return reads(*images, may_refuse=True, studies=1)


def series_per_slice_of_two_studies(folder: Path) -> Expectation:
    """Single slices of two studies never make one stack."""
    datasets: list[Any] = []
    for n in range(4):
        part = make_series(
            shape=(8, 7, 1), modality="MR", series=f"s{n}", study=f"t{n % 2}", seed=n,
            origin=(ORIGIN[0], ORIGIN[1], ORIGIN[2] + 2.5 * n),
        )  # fmt: skip
        part.set(TriggerTime="0", PatientID=f"PID90417{n % 2}")
        datasets += part.datasets
    write(folder, datasets)
    return refuses()


def deflated_truncated(folder: Path) -> Expectation:
    series = make_series(syntax=DeflatedExplicitVRLittleEndian)
    series.write(folder)
    path = folder / "IM0002.dcm"
    path.write_bytes(path.read_bytes()[:-30])
    return reads(series.image, may_refuse=True, flagged=True, refusal_names=("IM0002.dcm",))


def deflate_bomb(folder: Path) -> Expectation:
    """100 MB of zeros deflated into a private element before the pixels."""
    series = make_series()
    series.write(folder)
    bomb = make_series(syntax=DeflatedExplicitVRLittleEndian, first_instance=50).datasets[0]
    block = bomb.private_block(0x0011, "ZZYZX TRAPS", create=True)
    block.add_new(0x01, "OB", bytes(100 << 20))
    save(bomb, folder / "bomb.dcm")
    return Expectation(images=((series.image,), ()), may_refuse=True, flagged=True)


def nifti_version_2(folder: Path) -> Expectation:
    affine = np.diag([-1.5, 0.75, 3.0, 1.0])
    array = distinct_values((6, 5, 4)).astype(np.int16)
    image = nib.Nifti2Image(array, affine)
    image.to_filename(folder / "image.nii.gz")
    return reads(Image(array, RAS_TO_LPS @ affine), may_refuse=True)


def nifti_big_endian(folder: Path) -> Expectation:
    affine = np.diag([-1.5, 0.75, 3.0, 1.0])
    array = distinct_values((6, 5, 4)).astype(">i2")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(array, affine, header)
    image.to_filename(folder / "image.nii")
    return reads(Image(array.astype(np.int16), RAS_TO_LPS @ affine), may_refuse=True)


def nifti_gz_without_the_suffix(folder: Path) -> Expectation:
    """`image.nii` that is really compressed."""
    affine = np.diag([-1.5, 0.75, 3.0, 1.0])
    array = distinct_values((6, 5, 4)).astype(np.int16)
    nib.Nifti1Image(array, affine).to_filename(folder / "image.nii.gz")
    (folder / "image.nii.gz").rename(folder / "image.nii")
    return reads(Image(array, RAS_TO_LPS @ affine), may_refuse=True)


TRAPS = (
    derived_reformat, number_of_frames_one, decimal_strings_too_long, uid_padded_with_a_space,
    geometry_of_unknown_vr, icon_with_pixels_of_its_own, geometry_of_another_image_inside,
    group_lengths, trailing_padding_element, declared_explicit_but_implicit, no_preamble_explicit,
    dual_energy, two_kernels, nothing_tells_two_volumes_apart, cine_with_a_series_per_slice,
    series_per_slice_of_two_studies, deflated_truncated, deflate_bomb, nifti_version_2,
    nifti_big_endian, nifti_gz_without_the_suffix,
)  # fmt: skip
