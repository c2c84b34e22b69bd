"""Values: representation, rescale, padding, look-up tables. Applied exactly once, no overflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from tests.traps.expectation import Expectation, Image, reads, refuses
from tests.traps.series import (
    SHAPE,
    assign,
    distinct_values,
    make_series,
    patch,
    with_rescale,
)


def unsigned_above_32767(folder: Path) -> Expectation:
    series = make_series(stored=distinct_values(SHAPE, step=190), modality="MR", slope=None)
    series.write(folder)
    return reads(series.image)


def signed_negative(folder: Path) -> Expectation:
    series = make_series(
        stored=distinct_values(SHAPE) - 1024, signed=True, slope=1.0, intercept=0.0
    )
    series.write(folder)
    return reads(series.image)


def signed_and_unsigned_mixed(folder: Path) -> Expectation:
    """Half of the slices signed, half unsigned, all values representable in both."""
    stored = distinct_values(SHAPE)
    series = make_series(stored=stored)
    for dataset in series.datasets[:3]:
        dataset.PixelRepresentation = 1
    series.write(folder)
    return reads(series.image, may_refuse=True)


def twelve_bits_with_garbage_above(folder: Path) -> Expectation:
    """BitsStored 12: the four high bits carry overlay or noise and are no value."""
    stored = distinct_values(SHAPE) % 4096
    garbage = np.random.default_rng(3).integers(0, 16, size=SHAPE) << 12
    series = make_series(stored=stored | garbage)
    series.set(BitsStored=12, HighBit=11)
    series.write(folder)
    return reads(Image(stored - 1024.0, series.affine_lps))


def twelve_bits_signed_with_garbage_above(folder: Path) -> Expectation:
    values = distinct_values(SHAPE, step=12) % 4096 - 2048
    garbage = np.random.default_rng(3).integers(0, 16, size=SHAPE) << 12
    series = make_series(stored=(values & 0xFFF) | garbage, intercept=0.0)
    series.set(BitsStored=12, HighBit=11, PixelRepresentation=1)
    series.write(folder)
    return reads(Image(values.astype(float), series.affine_lps))


def high_bit_above_bits_stored(folder: Path) -> Expectation:
    """BitsStored 12 with HighBit 15: values sit in the upper bits. Retired, so refuse or shift."""
    stored = distinct_values(SHAPE) % 4096
    series = make_series(stored=stored << 4)
    series.set(BitsStored=12, HighBit=15)
    series.write(folder)
    return reads(Image(stored - 1024.0, series.affine_lps), may_refuse=True)


def padding_value(folder: Path) -> Expectation:
    """-2000 outside the circle of reconstruction, as General Electric writes it."""
    stored = distinct_values(SHAPE) - 900
    outside = np.zeros(SHAPE, dtype=bool)
    outside[:2] = True
    series = make_series(
        stored=np.where(outside, -2000, stored), signed=True, slope=1.0, intercept=0.0
    )
    for dataset in series.datasets:
        dataset.add_new(0x00280120, "SS", -2000)
    series.write(folder)
    return reads(replace(series.image, padding=outside))


def padding_value_unsigned_high(folder: Path) -> Expectation:
    """Padding 63536 in unsigned data must not become a bright rim unless it is flagged."""
    outside = np.zeros(SHAPE, dtype=bool)
    outside[:, :1] = True
    series = make_series(stored=np.where(outside, 63536, distinct_values(SHAPE)))
    for dataset in series.datasets:
        dataset.add_new(0x00280120, "US", 63536)
    series.write(folder)
    return reads(replace(series.image, padding=outside), flagged=True, may_refuse=True)


def monochrome1(folder: Path) -> Expectation:
    """How it is displayed does not change what was measured."""
    series = make_series().set(PhotometricInterpretation="MONOCHROME1")
    series.write(folder)
    return reads(series.image)


def modality_lut(folder: Path) -> Expectation:
    """A table instead of slope and intercept (PS3.3 C.11.1)."""
    stored = distinct_values(SHAPE, step=1) % 200
    series = make_series(stored=stored, slope=None)
    table = (np.arange(256) ** 2 // 3).astype(np.uint16)
    for dataset in series.datasets:
        lut = Dataset()
        lut.add_new(0x00283002, "US", [256, 0, 16])
        lut.ModalityLUTType = "HU"
        lut.add_new(0x00283006, "OW", table.astype("<u2").tobytes())
        dataset.ModalityLUTSequence = [lut]
    series.write(folder)
    return reads(Image(table[stored].astype(float), series.affine_lps), may_refuse=True)


def window_and_voi_lut(folder: Path) -> Expectation:
    """A window is for display only."""
    series = make_series().set(WindowCenter="40", WindowWidth="400", RescaleType="HU")
    series.write(folder)
    return reads(series.image, clean=True)


def rescale_per_slice(folder: Path) -> Expectation:
    """PET-like scaling in an MR series: every slice has its own slope and intercept."""
    series = make_series(modality="MR")
    image = with_rescale(series, [1.0, 0.5, 2.0, 0.25, 3.0, 1.5], [0, 10, -5, 7, 0, 100])
    series.write(folder)
    return reads(image)


def rescale_fractional(folder: Path) -> Expectation:
    series = make_series(slope=0.2506, intercept=-1000.37)
    series.write(folder)
    return reads(series.image)


def rescale_overflows_16_bit(folder: Path) -> Expectation:
    series = make_series(modality="MR", slope=100.0, intercept=-50000.0)
    series.write(folder)
    return reads(series.image)


def rescale_leaves_signed_16_bit(folder: Path) -> Expectation:
    """Slope 1, intercept -1024 on unsigned values up to 63,000."""
    series = make_series(stored=distinct_values(SHAPE, step=187))
    series.write(folder)
    return reads(series.image)


def slope_negative(folder: Path) -> Expectation:
    series = make_series(slope=-1.0, intercept=1024.0)
    series.write(folder)
    return reads(series.image, may_refuse=True)


def slope_zero(folder: Path) -> Expectation:
    make_series(slope=0.0).write(folder)
    return refuses()


def slope_zero_on_one_slice(folder: Path) -> Expectation:
    series = make_series()
    assign(series.datasets[3], RescaleSlope="0")
    series.write(folder)
    return refuses(refusal_names=("IM0003.dcm",))


def slope_garbage(folder: Path) -> Expectation:
    make_series(slope=1.0).set(RescaleSlope="1.23456789").write(folder)
    for path in folder.iterdir():
        patch(path, b"1.23456789", b"one point!")
    return refuses()


def slope_nan(folder: Path) -> Expectation:
    make_series(slope=1.0).set(RescaleSlope="1.23456789").write(folder)
    for path in folder.iterdir():
        patch(path, b"1.23456789", b"nan       ")
    return refuses()


def rescale_missing_on_ct(folder: Path) -> Expectation:
    """Without slope and intercept the numbers are no HU."""
    series = make_series(slope=None)
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True)


def rescale_missing_on_one_ct_slice(folder: Path) -> Expectation:
    series = make_series()
    assign(series.datasets[2], RescaleSlope=None, RescaleIntercept=None)
    series.write(folder)
    image = with_missing_rescale(series.stored)
    return reads(Image(image, series.affine_lps), flagged=True, may_refuse=True)


def with_missing_rescale(
    stored: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The stored values less 1024, except of slice 2."""
    array = stored.astype(np.float64) - 1024.0
    array[:, :, 2] += 1024.0
    return array


def slope_without_intercept(folder: Path) -> Expectation:
    series = make_series().set(RescaleIntercept=None)
    series.write(folder)
    truth = Image(series.stored.astype(float), series.affine_lps)
    return reads(truth, flagged=True, may_refuse=True)


def philips_private_scaling(folder: Path) -> Expectation:
    """Philips: (2005,100E) gives the quantitative scale beside the display rescale."""
    series = make_series(modality="MR", slope=2.5, intercept=0.0)
    for dataset in series.datasets:
        dataset.Manufacturer = "Philips Medical Systems"
        block = dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        block.add_new(0x0D, "FL", 0.0)
        block.add_new(0x0E, "FL", 0.0123)
    series.write(folder)
    return reads(series.image, flagged=True, flag_words=("philips", "private", "scal"))


def rescale_in_wrong_unit(folder: Path) -> Expectation:
    """RescaleType says optical density: a CT of that is not in HU."""
    series = make_series().set(RescaleType="OD")
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True)


def float_pixels(folder: Path) -> Expectation:
    """Float Pixel Data belongs to parametric maps; a CT with it is read right or refused."""
    series = make_series(slope=1.0, intercept=0.0)
    for k, dataset in enumerate(series.datasets):
        values = series.stored[:, :, k].T.astype("<f4") / 8
        del dataset.PixelData
        dataset.FloatPixelData = values.tobytes()
        dataset.BitsAllocated = 32
        for keyword in ("BitsStored", "HighBit", "PixelRepresentation"):
            delattr(dataset, keyword)
    series.write(folder)
    return reads(Image(series.stored / 8.0, series.affine_lps), may_refuse=True)


def thirty_two_bits(folder: Path) -> Expectation:
    stored = distinct_values(SHAPE, step=5_000_011)
    series = make_series(modality="MR", slope=None)
    for k, dataset in enumerate(series.datasets):
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit = 31
        dataset.PixelData = stored[:, :, k].T.astype("<u4").tobytes()
    series.write(folder)
    return reads(Image(stored, series.affine_lps), may_refuse=True)


TRAPS = (
    unsigned_above_32767, signed_negative, signed_and_unsigned_mixed,
    twelve_bits_with_garbage_above, twelve_bits_signed_with_garbage_above,
    high_bit_above_bits_stored, padding_value, padding_value_unsigned_high, monochrome1,
    modality_lut, window_and_voi_lut, rescale_per_slice, rescale_fractional,
    rescale_overflows_16_bit, rescale_leaves_signed_16_bit, slope_negative, slope_zero,
    slope_zero_on_one_slice, slope_garbage, slope_nan, rescale_missing_on_ct,
    rescale_missing_on_one_ct_slice, slope_without_intercept, philips_private_scaling,
    rescale_in_wrong_unit, float_pixels, thirty_two_bits,
)  # fmt: skip
