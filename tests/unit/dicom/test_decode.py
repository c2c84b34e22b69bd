"""The fast ways into the pixels give the very numbers of the slow one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ImplicitVRLittleEndian

from medmtl.core.errors import InputRefusedError
from medmtl.data.intake import open_input
from medmtl.dicom.frames import Frame, make_frame
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.native import is_native, native_frame
from medmtl.dicom.pixel_format import PixelFormat, without_garbage
from medmtl.dicom.scan import scan_files
from medmtl.dicom.slices import Slices
from medmtl.dicom.sources import SourceFile
from medmtl.dicom.worker_client import shared_worker
from tests.dicom_factory import make_series

MANY_SLICES = 60
LIMITS = ReadLimits()


def frame_of(path: Path) -> Frame:
    (instance,) = scan_files([SourceFile(path, path.name)], shared_worker(LIMITS)).instances
    return make_frame(instance, 0, instance.values)


def slow(frame: Frame) -> np.ndarray:
    rows, columns = frame.shape
    path = frame.instance.file.path
    return shared_worker(LIMITS).decode(path, frame=0, rows=rows, columns=columns, lut=False)


def stacked(path: Path, folder: Path) -> None:
    """The slice three times, 5 mm apart, the bytes of its pixels untouched."""
    for number in range(3):
        image = pydicom.dcmread(path)
        image.SOPInstanceUID = f"{image.SOPInstanceUID}.{number}"[-64:]
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        x, y, z = image.ImagePositionPatient
        image.ImagePositionPatient = [x, y, float(z) + 5 * number]
        image.InstanceNumber = number + 1
        image.save_as(folder / f"{number}.dcm")


RETIRED = ("Process10_12", "Process6_8")


@pytest.mark.parametrize("number", range(14))
def test_every_transfer_syntax_gives_the_bits_of_the_slow_reader(
    number: int, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "dicom" / "ct_slice_in_14_transfer_syntaxes"
    known = (path for path in folder.glob("CTImage.dcm*") if path.suffix == ".dcm")
    path = sorted(path for path in known if not any(name in path.name for name in RETIRED))[number]
    stacked(path, tmp_path)
    frame = frame_of(path)
    expected = slow(frame).astype(np.float64) * float(frame.values.get("RescaleSlope", 1))
    expected += float(frame.values.get("RescaleIntercept", 0))
    volume = open_input(tmp_path).studies[0].volumes[0].read()
    for k in range(3):
        assert np.array_equal(volume.array[:, :, k].T, expected.astype(volume.array.dtype))


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_plain_files_are_read_in_place_as_the_worker_reads_them(
    tmp_path: Path, bits: int, syntax: str
) -> None:
    array = np.random.default_rng(bits).integers(0, 2**bits, (5, 7, 2), dtype=f"u{bits // 8}")
    make_series(tmp_path, array=array, BitsStored=bits - 3, HighBit=bits - 2)
    for path in tmp_path.iterdir():
        if syntax == "implicit":
            image = pydicom.dcmread(path)
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            image.save_as(path, implicit_vr=True, little_endian=True)
        frame = frame_of(path)
        assert is_native(frame)
        found = native_frame(frame, max_file_bytes=LIMITS.max_pixel_bytes)
        assert found is not None
        assert found.dtype == slow(frame).dtype
        assert np.array_equal(found, slow(frame))


def test_a_file_that_changed_since_the_scan_is_left_to_the_worker(tmp_path: Path) -> None:
    make_series(tmp_path, array=np.ones((5, 7, 2), np.uint16))
    path = min(tmp_path.iterdir())
    frame = frame_of(path)
    image = pydicom.dcmread(path)
    image.Rows, image.Columns = image.Columns, image.Rows  # as many bytes in the same place
    image.save_as(path)
    assert native_frame(frame, max_file_bytes=LIMITS.max_pixel_bytes) is None
    path.unlink()
    assert native_frame(frame, max_file_bytes=LIMITS.max_pixel_bytes) is None


def test_of_two_bad_slices_the_first_is_named(tmp_path: Path) -> None:
    make_series(tmp_path, array=np.ones((5, 7, MANY_SLICES), np.uint16))
    (study,) = open_input(tmp_path).studies
    files = study.volumes[0].source_files
    for name in (files[40], files[3]):
        (tmp_path / name).write_bytes(b"no image any more")
    with pytest.raises(InputRefusedError, match=files[3]):
        study.volumes[0].read()


@pytest.mark.parametrize(
    ("largest", "smallest", "dtype"),
    [(32767, -32768, np.int16), (65535, 0, np.uint16), (65535, -1, np.int32)],
)
def test_whole_numbers_take_the_smallest_type_that_holds_them(
    largest: int, smallest: int, dtype: type
) -> None:
    slices = Slices(3, (1, 2), is_integral=True)
    slices.put_whole(2, np.array([[5, 6]], np.int32))
    slices.put_whole(0, np.array([[largest, smallest]], np.int32))
    slices.put_whole(1, np.array([[1, 2]], np.int32))
    assert slices.finished().dtype == dtype
    assert slices.finished().tolist() == [[[largest, smallest]], [[1, 2]], [[5, 6]]]


@given(
    stored=st.lists(st.integers(-(2**15), 2**16), min_size=4, max_size=4),
    slope=st.integers(-9, 9).filter(bool),
    intercept=st.integers(-(10**6), 10**6),
)
def test_rescaling_in_place_gives_the_exact_numbers(
    stored: list[int], slope: int, intercept: int
) -> None:
    slices = Slices(2, (1, 2), is_integral=True)
    planes = np.array(stored, np.int32).reshape(2, 1, 2)
    for number in range(2):
        slices.put_whole(number, planes[number], slope=slope, intercept=intercept)
    expected = [value * slope + intercept for value in stored]
    assert slices.finished().ravel().tolist() == expected
    assert (slices.finished().dtype == np.int16) == all(-32768 <= one < 32768 for one in expected)


@given(data=st.data(), allocated=st.sampled_from([8, 16, 32]), signed=st.booleans())
def test_stored_bits_are_cut_out_and_their_sign_extended(
    data: st.DataObject, allocated: int, signed: bool
) -> None:
    high = data.draw(st.integers(0, allocated - 1))
    stored = data.draw(st.integers(1, high + 1))
    cell = data.draw(st.integers(0, 2**allocated - 1))
    expected = (cell >> (high + 1 - stored)) % 2**stored
    if signed and expected >= 2 ** (stored - 1):
        expected -= 2**stored
    form = PixelFormat(1, 1, allocated, stored, high, signed, 1)
    cells = np.array([[cell]], f"<u{allocated // 8}")
    assert without_garbage(cells, form).tolist() == [[expected]]
