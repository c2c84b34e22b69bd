"""A changed byte anywhere: a refusal, a flag, or the same geometry. Never a crash, never a hang.

One file of a five-slice series, at an end or in the middle, is damaged. The other four say where
the slices lie, so every volume that comes back without a flag must lie on the true grid, and every
slice but the damaged one must carry its true values.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medmtl.core.errors import MedmtlError
from medmtl.core.volume import Volume
from medmtl.data.intake import open_input
from tests.traps.expectation import Image, Reading, read_all, to_index, voxel_centres_lps
from tests.traps.multiframe import enhanced_mr_rescale_per_frame
from tests.traps.nifti_files import nifti_plain
from tests.traps.series import distinct_values, make_series, save, unchecked

damaged_slice = st.sampled_from([0, 2, 4])  # both ends and the middle
SLOWEST_S = 5.0
QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
FEW = settings(QUICK, max_examples=15)
SHAPE = (6, 5, 5)


@cache
def sound_files() -> tuple[tuple[bytes, ...], Image]:
    """The files of the series and its truth."""
    series = make_series(shape=SHAPE, stored=distinct_values(SHAPE))
    with tempfile.TemporaryDirectory() as scratch:
        names = series.write(Path(scratch))
        return tuple((Path(scratch) / name).read_bytes() for name in names), series.image


def read_with(damaged: bytes, number: int) -> Reading | None:
    """Read the series with one damaged file; None where the whole input is refused."""
    with tempfile.TemporaryDirectory() as scratch:
        for k, content in enumerate(sound_files()[0]):
            (Path(scratch) / f"{k}.dcm").write_bytes(damaged if k == number else content)
        return read_timed(Path(scratch))


def read_timed(folder: Path) -> Reading | None:
    """Read a folder within the time limit; any other exception than ours is a failure."""
    start = time.process_time()
    try:
        reading = read_all(open_input(folder))
    except MedmtlError:
        reading = None
    assert time.process_time() - start < SLOWEST_S
    return reading


def astray(volume: Volume, truth: Image, number: int) -> str:
    """Why an unflagged volume is another geometry than the truth, or other values; else empty."""
    index = to_index(truth.affine_lps, voxel_centres_lps(volume))
    nearest = np.rint(index).astype(int)
    if np.abs(index - nearest).max() > 0.03:
        return "voxels off the true grid"
    if (nearest < 0).any() or (nearest >= truth.array.shape).any():
        return "voxels outside the true grid"
    true = truth.array[tuple(nearest.T)]
    wrong = ~np.isclose(volume.array.reshape(-1), true, atol=1e-3)
    wrong &= nearest[:, 2] != number
    return "values of an untouched slice changed" if wrong.any() else ""


def assert_never_silently_wrong(damaged: bytes, number: int) -> None:
    """No volume without a flag may lie elsewhere, and no slice may vanish without a word."""
    reading, truth = read_with(damaged, number), sound_files()[1]
    if reading is None:
        return
    said = reading.refusals or reading.skipped
    flags = [flag for ref in reading.refs for flag in ref.flags]
    flags += [flag for volume in reading.volumes for flag in volume.flags]
    whole = sum(volume.array.shape[2] for volume in reading.volumes) >= truth.array.shape[2]
    assert whole or said or flags
    for ref, volume in zip(reading.refs, reading.volumes, strict=True):
        if not (ref.flags or volume.flags):
            assert astray(volume, truth, number) == ""


def test_the_sound_series_is_read_without_a_word() -> None:
    reading = read_with(sound_files()[0][2], 2)
    assert reading is not None
    (volume,) = reading.volumes
    assert (reading.refusals, reading.skipped, volume.flags) == ([], [], ())
    assert astray(volume, sound_files()[1], number=-1) == ""


@QUICK
@given(
    number=damaged_slice,
    place=st.integers(0, 10_000),
    value=st.integers(0, 255),
    more=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
)
def test_changed_bytes(number: int, place: int, value: int, more: list[tuple[int, int]]) -> None:
    content = bytearray(sound_files()[0][number])
    for where, byte in ((place, value), *more):
        content[128 + where % (len(content) - 128)] = byte
    assert_never_silently_wrong(bytes(content), number)


@FEW
@given(
    number=damaged_slice,
    start=st.integers(0, 2_000),
    length=st.integers(1, 200),
    junk=st.binary(max_size=40),
)
def test_cut_and_inserted_bytes(number: int, start: int, length: int, junk: bytes) -> None:
    content = sound_files()[0][number]
    start %= len(content)
    assert_never_silently_wrong(content[:start] + junk + content[start + length :], number)


@FEW
@given(number=damaged_slice, length=st.integers(0, 1_500))
def test_truncated(number: int, length: int) -> None:
    content = sound_files()[0][number]
    assert_never_silently_wrong(content[: length % len(content)], number)


GEOMETRY_TAGS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
NUMBER_TAGS = ("RescaleSlope", "RescaleIntercept", "SliceThickness", "InstanceNumber")
COUNT_TAGS = (
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "NumberOfFrames",
)  # fmt: skip
TEXT_TAGS = (
    "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID",
    "SOPClassUID", "Modality", "PhotometricInterpretation", "PatientID", "ImageType",
    "SpecificCharacterSet",
)  # fmt: skip
numbers = st.one_of(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.6g}"),
    st.sampled_from(["0", "-0", "1e308", "-1e308", "1e-30", "", "1.0", "2", "33", "40.5"]),
)


@QUICK
@given(
    number=damaged_slice,
    keyword=st.sampled_from(GEOMETRY_TAGS),
    axis=st.integers(0, 5),
    value=numbers,
)
def test_changed_geometry_of_one_slice(number: int, keyword: str, axis: int, value: str) -> None:
    content = _retagged(number, lambda dataset: _set_component(dataset, keyword, axis, value))
    assert_never_silently_wrong(content, number)


@QUICK
@given(
    number=damaged_slice,
    edit=st.one_of(
        st.tuples(st.sampled_from(NUMBER_TAGS), numbers),
        st.tuples(st.sampled_from(COUNT_TAGS), st.integers(0, 65535)),
        st.tuples(
            st.sampled_from(TEXT_TAGS),
            st.text("0123456789.ABCDEF\\^=\n é", max_size=40),
        ),
    ),
)
def test_changed_tag_of_one_slice(number: int, edit: tuple[str, str | int]) -> None:
    content = _retagged(number, lambda dataset: _set_tag(dataset, *edit))
    assert_never_silently_wrong(content, number)


def _retagged(number: int, edit: Callable[[pydicom.Dataset], None]) -> bytes:
    """The damaged file with an edited header; the sound file where it cannot be written."""
    with tempfile.TemporaryDirectory() as scratch, unchecked():
        path = Path(scratch) / "x.dcm"
        path.write_bytes(sound_files()[0][number])
        dataset = pydicom.dcmread(path)
        try:
            edit(dataset)
            save(dataset, path)
        except (ValueError, TypeError, OverflowError, AttributeError, UnicodeError):
            return sound_files()[0][number]
        return path.read_bytes()


def _set_component(dataset: pydicom.Dataset, keyword: str, axis: int, value: str) -> None:
    values = [str(number) for number in dataset[keyword].value]
    values[axis % len(values)] = value
    setattr(dataset, keyword, values)


def _set_tag(dataset: pydicom.Dataset, keyword: str, value: str | int) -> None:
    setattr(dataset, keyword, value)


@cache
def compressed_file(syntax: str) -> tuple[bytes, tuple[bytes, ...]]:
    """One compressed slice and its four sound companions."""
    shape = (40, 36, 3)
    series = make_series(shape=shape, stored=distinct_values(shape, step=7))
    for dataset in series.datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    with tempfile.TemporaryDirectory() as scratch:
        names = series.write(Path(scratch))
        files = tuple((Path(scratch) / name).read_bytes() for name in names)
    return files[1], files


@FEW
@given(
    syntax=st.sampled_from([RLELossless, JPEGLSLossless, JPEG2000Lossless]),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_codestream(syntax: str, edits: list[tuple[int, int]]) -> None:
    """Decoders meet damaged streams: no crash of the process, no hang."""
    content, files = compressed_file(syntax)
    damaged = bytearray(content)
    start = damaged.rfind(b"\xe0\x7f\x10\x00")
    for where, byte in edits:
        damaged[start + where % (len(damaged) - start)] = byte
    with tempfile.TemporaryDirectory() as scratch:
        for k, sound in enumerate(files):
            (Path(scratch) / f"{k}.dcm").write_bytes(bytes(damaged) if k == 1 else sound)
        read_timed(Path(scratch))


@cache
def enhanced_file() -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        enhanced_mr_rescale_per_frame(Path(scratch))
        return (Path(scratch) / "enhanced.dcm").read_bytes()


@FEW
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_changed_enhanced(edits: list[tuple[int, int]]) -> None:
    content = bytearray(enhanced_file())
    for where, byte in edits:
        content[128 + where % (len(content) - 128)] = byte
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "enhanced.dcm").write_bytes(bytes(content))
        read_timed(Path(scratch))


@FEW
@given(content=st.binary(max_size=600), has_magic=st.booleans())
def test_random_bytes(content: bytes, has_magic: bool) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        head = bytes(128) + b"DICM" if has_magic else b""
        (Path(scratch) / "x").write_bytes(head + content)
        reading = read_timed(Path(scratch))
    assert reading is None or not reading.volumes


@FEW
@given(edits=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_nifti_header(edits: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        nifti_plain(Path(scratch))
        path = Path(scratch) / "image.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        for where, byte in edits:
            content[where] = byte
        path.write_bytes(gzip.compress(bytes(content)))
        read_timed(Path(scratch))
