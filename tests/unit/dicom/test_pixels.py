"""Stored values become native units exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    PositronEmissionTomographyImageStorage,
)

from medmtl.core.volume import Volume
from medmtl.data.intake import open_input
from medmtl.dicom.codestream import CodestreamError, Frame, check_frame
from tests.dicom_factory import make_series

SHAPE = (5, 4, 3)
STORED = np.arange(60, dtype=np.uint16).reshape(SHAPE)


def read(folder: Path) -> Volume:
    listing = open_input(folder)
    assert listing.refusals == ()
    return listing.studies[0].volumes[0].read()


def test_rescale_of_each_slice_is_applied_once(tmp_path: Path) -> None:
    tags = {"RescaleSlope": ["1", "2", "3"], "RescaleIntercept": ["-1024", "0", "5"]}
    make_series(tmp_path, array=STORED, per_slice=tags)
    volume = read(tmp_path)
    assert np.array_equal(volume.array, STORED * np.array([1, 2, 3]) + np.array([-1024, 0, 5]))
    assert volume.array.dtype == np.int16


def test_large_values_do_not_overflow(tmp_path: Path) -> None:
    make_series(tmp_path, array=np.full(SHAPE, 65535, np.uint16), RescaleIntercept="-1024")
    assert (read(tmp_path).array == 64511).all()


def test_fractional_slope_gives_float(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED, RescaleSlope="0.5", RescaleIntercept="0.25")
    volume = read(tmp_path)
    assert volume.array.dtype == np.float32
    assert np.array_equal(volume.array, STORED * 0.5 + 0.25)


def test_garbage_above_the_stored_bits_is_ignored(tmp_path: Path) -> None:
    dirty = (STORED | 0xA000).astype(np.uint16)
    make_series(tmp_path, array=dirty, BitsStored=12, HighBit=11)
    assert np.array_equal(read(tmp_path).array, STORED)


def test_sign_of_twelve_stored_bits_is_extended(tmp_path: Path) -> None:
    twelve = (STORED.astype(np.int32) - 30) & 0xFFF
    make_series(
        tmp_path, array=twelve.astype(np.uint16), BitsStored=12, HighBit=11, PixelRepresentation=1
    )
    assert np.array_equal(read(tmp_path).array, STORED.astype(np.int32) - 30)


def test_monochrome1_values_are_not_inverted(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED, PhotometricInterpretation="MONOCHROME1")
    volume = read(tmp_path)
    assert np.array_equal(volume.array, STORED)
    assert "monochrome1" in {flag.code for flag in volume.flags}


def test_a_slope_of_zero_is_refused(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED, RescaleSlope="0")
    assert {refusal.code for refusal in open_input(tmp_path).refusals} == {"zero-slope"}


def test_a_ct_without_rescale_is_flagged(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED, RescaleSlope=None, RescaleIntercept=None)
    assert "rescale-missing" in {flag.code for flag in read(tmp_path).flags}


def write_pet(folder: Path, units: list[str | None]) -> None:
    kind = str(PositronEmissionTomographyImageStorage)
    per_slice: dict[str, list[Any]] = {"Units": units}
    make_series(folder, array=STORED, modality="PT", per_slice=per_slice, SOPClassUID=kind)


@pytest.mark.parametrize(
    ("units", "severity"),
    [("GML", None), ("BQML", "warning"), ("CNTS", "error"), (None, "error")],
)
def test_a_pet_that_is_not_in_suv_is_flagged(
    units: str | None, severity: str | None, tmp_path: Path
) -> None:
    write_pet(tmp_path, [units] * 3)
    said = [flag.severity for flag in read(tmp_path).flags if flag.code == "pet-not-suv"]
    assert said == ([severity] if severity else [])


def test_a_pet_of_two_units_is_refused(tmp_path: Path) -> None:
    write_pet(tmp_path, ["GML", "GML", "BQML"])
    assert {refusal.code for refusal in open_input(tmp_path).refusals} == {"mixed-units"}


def test_a_pet_that_states_its_unit_in_a_part_is_flagged_as_an_error(tmp_path: Path) -> None:
    write_pet(tmp_path, ["GML", None, "GML"])
    said = {flag.code: flag.severity for flag in read(tmp_path).flags}
    assert said["pet-not-suv"] == "error"


def jpeg_2000(rows: int, columns: int) -> bytes:
    fields = (columns, rows, 0, 0, columns, rows, 0, 0)
    size = b"".join(value.to_bytes(4, "big") for value in fields)
    return b"\xff\x4f\xff\x51\x00\x29\x00\x00" + size + b"\x00\x01\x0f\x01\x01" + b"\xff\xd9"


def test_a_bomb_is_seen_in_the_codestream_before_decoding() -> None:
    expected: dict[str, Any] = {
        "syntax": str(JPEG2000Lossless),
        "rows": 4,
        "columns": 5,
        "signed": False,
    }
    assert check_frame(jpeg_2000(4, 5), allocated=16, **expected) == Frame(
        4, 5, 1, 16, signed=False
    )
    with pytest.raises(CodestreamError, match="60000 x 60000"):
        check_frame(jpeg_2000(60000, 60000), allocated=16, **expected)
    with pytest.raises(CodestreamError, match="cut off"):
        check_frame(jpeg_2000(4, 5)[:-2], allocated=16, **expected)


def write_big_endian(file: Path, header: pydicom.FileDataset, *, vr: str, data: bytes) -> None:
    decoded = Dataset()
    for element in header:
        decoded.add(element)
    decoded.add_new(0x7FE00010, vr, data)
    decoded.file_meta = header.file_meta
    decoded.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    decoded.save_as(file, implicit_vr=False, little_endian=False, enforce_file_format=True)


@pytest.mark.parametrize("columns", [4, 3])
@pytest.mark.parametrize("vr", ["OB", "OW"])
def test_bytes_are_swapped_in_big_endian_words_alone(tmp_path: Path, vr: str, columns: int) -> None:
    """PS3.5 A.3: single bytes (OB) have no order; words (OW) hold the second pixel first."""
    stored = np.arange(5 * columns * 3, dtype=np.uint8).reshape(columns, 5, 3)
    make_series(tmp_path, array=stored, BitsAllocated=8, BitsStored=8, HighBit=7)
    for file in list(tmp_path.iterdir()):
        header = pydicom.dcmread(file)
        plane = header.PixelData
        swapped = np.frombuffer(plane, "<u2").astype(">u2").tobytes()
        write_big_endian(file, header, vr=vr, data=plane if vr == "OB" else swapped)
    assert np.array_equal(read(tmp_path).array, stored)


def test_a_modality_table_is_read_in_the_order_of_its_file(tmp_path: Path) -> None:
    table = (np.arange(60) * 300).astype(np.uint16)
    make_series(tmp_path, array=STORED, RescaleSlope=None, RescaleIntercept=None)
    for file in list(tmp_path.iterdir()):
        header = pydicom.dcmread(file)
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [60, 0, 16])
        item.ModalityLUTType = "HU"
        item.add_new("LUTData", "OW", table.astype(">u2").tobytes())
        header.ModalityLUTSequence = [item]
        plane = np.frombuffer(header.PixelData, "<u2").astype(">u2").tobytes()
        write_big_endian(file, header, vr="OW", data=plane)
    assert np.array_equal(read(tmp_path).array, table[STORED])
