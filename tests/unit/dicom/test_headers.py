"""The minimal header reader agrees with pydicom, and gives way to it when in doubt."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medmtl.core.geometry import Geometry
from medmtl.data.intake import open_input
from medmtl.dicom.fast_header import DoubtError, TruncatedError, read_fast
from medmtl.dicom.limits import ReadLimits
from medmtl.dicom.tags import Values, interpret
from medmtl.dicom.worker_client import Worker, WorkerError, shared_worker
from tests.dicom_factory import make_series

STORED = np.arange(80, dtype=np.int16).reshape(5, 4, 4)


def fast(path: Path) -> Values:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return interpret(read_fast(descriptor).raw)
    finally:
        os.close(descriptor)


def without_meaning(values: Values) -> Values:
    """Sequences are only noted as present; pixel data are not read by either."""
    return {key: value for key, value in values.items() if key != "frames"}


def as_lists(values: Values) -> Values:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in without_meaning(values).items()}


@pytest.mark.parametrize("syntax", ["explicit", "implicit"])
def test_both_readers_agree_on_generated_files(syntax: str, tmp_path: Path) -> None:
    tags = {"syntax": ImplicitVRLittleEndian} if syntax == "implicit" else {}
    make_series(tmp_path, array=STORED, PatientAge="045Y", EchoTime="", **tags)
    for path in sorted(tmp_path.iterdir()):
        assert as_lists(fast(path)) == as_lists(shared_worker(ReadLimits()).header(path))


def test_both_readers_agree_on_real_files(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "dicom").rglob("*")):
        if not path.is_file():
            continue
        try:
            values = fast(path)
        except (DoubtError, TruncatedError):
            continue
        assert as_lists(values) == as_lists(shared_worker(ReadLimits()).header(path)), path.name
        compared += 1
    assert compared > 100


def test_pixel_data_that_end_early_are_noticed_without_decoding(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED)
    path = min(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(TruncatedError):
        fast(path)
    (refusal,) = open_input(tmp_path).refusals
    assert (refusal.code, refusal.source) == ("truncated", path.name)


def test_numbers_are_those_of_the_standard_only() -> None:
    spacing = 0x00280030
    assert interpret({spacing: b"0.5\\0.7 "})["PixelSpacing"] == (0.5, 0.7)
    for wrong in (b"1_0\\1", b"nan\\1", b"inf\\1", b"0,5\\1", b"0x1\\1", b"1e999\\1"):
        assert interpret({spacing: wrong})["bad"] == ("PixelSpacing",)


@pytest.mark.parametrize("offset", [b"", b"+0100", b"-0500 "])
def test_a_date_time_may_state_its_offset_from_utc(offset: bytes) -> None:
    start, end = (
        interpret({0x0008002A: b"202401011200" + seconds + offset})["AcquisitionDateTime"]
        for seconds in (b"00.000000", b"01.500000")
    )
    assert end - start == 1.5
    assert interpret({0x0008002A: b"20240101120000-05" + offset})["bad"]


def test_a_worker_that_dies_is_an_answer_and_is_started_again(tmp_path: Path) -> None:
    make_series(tmp_path, array=STORED)
    path = min(tmp_path.iterdir())
    hasty = Worker(ReadLimits(max_header_seconds=0.0))
    with pytest.raises(WorkerError, match="too-slow"):
        hasty.header(path)
    hasty.limits = ReadLimits()
    assert hasty.header(path)["Rows"] == 4
    hasty.close()


def test_memory_limit_of_the_worker_is_a_refusal(tmp_path: Path) -> None:
    array = np.zeros((2048, 2048, 2), dtype=np.int16)
    make_series(tmp_path, array=array, syntax=DeflatedExplicitVRLittleEndian)
    limits = ReadLimits(max_worker_bytes=24 * 2**20)
    (ref,) = open_input(tmp_path, limits=limits).studies[0].volumes
    with pytest.raises(Exception, match=r"too-large|decoder-crash"):
        ref.read()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(slice_number=0, place=0.875, byte=0)  # makes the image look like a colour image
@example(slice_number=0, place=0.158203125, byte=0)  # swallows the SOP class into another element
@given(slice_number=st.integers(0, 3), place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_changed_byte_never_gives_another_geometry_in_silence(
    slice_number: int, place: float, byte: int, tmp_path: Path
) -> None:
    folder = tmp_path / "series"
    grid = make_series(folder, array=STORED)
    path = sorted(folder.iterdir())[slice_number]
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 41))] = byte
    path.write_bytes(bytes(content))
    listing = open_input(folder)
    for study in listing.studies:
        for ref in study.volumes:
            assert is_same(ref.geometry, grid) or ref.flags


def is_same(one: Geometry, other: Geometry) -> bool:
    return one.is_close(other, tolerance_voxel=0.05)
