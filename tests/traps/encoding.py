"""Transfer syntaxes, codecs, and pixel data that is not what the header says."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.traps.expectation import Expectation, Image, reads, refuses
from tests.traps.gaps import field_of, ramp_series
from tests.traps.series import Series, distinct_values, make_series, patch

# Six frames of 8 columns by 7 rows, value 500 k + 37 y + 11 x + (x y k) mod 13, made with
# OpenJPH (reversible); there is no HTJ2K encoder among the dependencies.
HTJ2K_FRAMES = (
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAEcAAf+TwAAl"
    "JQUHdAAAAMAAEsAAEoDiAId0AEwBh3QAwAATQAATABD+AAJ0AJKSAENUAMAAJwBERKCnwnUA/9k=",
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHUAAf+TwAAm"
    "NfsFB3QAAADAABLAABLAABIA7gCHdABYAYd0APwncwDAABPAABUQAASAA0H4AAK0AAGJAuUAhrQArSRzAMAAKuAA"
    "E8AAKsADIwwIoA0Oj5zGAKH3DOUzxQAtxgn+QDPY8mfXAP/Z",
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHoAAf+TwAAm"
    "SfcFB3QAAADAABLAABLAABIA7ACHdABUAYd0AP0ncwDAABPAABUQAATAAEH5AAK0AAQNguUAhrQADPkASXQAwAAr"
    "YAAVMAAKoI1gkTlV+UCQIdKkVwAFETlA+kloVgBVsjr5GRdepFYA/9k=",
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHMAAf+TwAAm"
    "YfMFB3QAAADAABLAABKA7ACHdABUAYd0AMAAE8AAFRAABIAAIfcAArQAAAUC5ACGtADGKnMAwAArYAAVUAAKsJBO"
    "MzAgKOED+L1YVgCCEYvxAt/PBFYAuEWMpfJM/nkktgD/2Q==",
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH0AAf+TwAAm"
    "ee8FB3QAAADAABLAABLAABKA6ACHdABSAYd0APgAR3QAwAATwAAVEAAEoMpY9QACtAAKDoHiAIa0ADb5E5MAwAAr"
    "oAAVUAAKsKNQpWVwKK3+AJlDxrYAESlI+vgFncK1ANkZS5JBkvNLObcA/9k=",
    "/0//UQApQAAAAAAIAAAABwAAAAAAAAAAAAAACAAAAAcAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUE"
    "BEAB/1wAEyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH4AAf+TwAAm"
    "k+sFB3QAAADAABLAABLAABIA6gCHdABUAYd0AP4AYwDAABPAABUQAATAxkD5AAK0AAgMgeUAhrQACFT+MZMAwAAr"
    "oAAVcAAKsINXlFUybVj+AF5TYZYAKSZQIsQAfueqlgC11prT2gFTzqc2AP/Z",
)


def htj2k_values() -> NDArray[np.int64]:
    """The stored values of `HTJ2K_FRAMES`, shape (i, j, k)."""
    x, y, k = np.indices((8, 7, 6))
    return np.asarray(500 * k + 37 * y + 11 * x + (x * y * k) % 13)


def _encapsulate(dataset: Any, frame: bytes, syntax: str) -> None:
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = UID(syntax)


def _compressed(syntax: str, plugin: str, **options: Any) -> Series:
    series = make_series(**options)
    for dataset in series.datasets:
        dataset.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
    return series


J2K_SHAPE = (40, 36, 6)
"""OpenJPEG needs 32 pixels a side for its default number of resolutions."""


def _jpeg_2000(*, signed: bool = False) -> Series:
    stored = distinct_values(J2K_SHAPE, step=7) - (30000 if signed else 0)
    return _compressed(JPEG2000Lossless, "pylibjpeg", shape=J2K_SHAPE, stored=stored, signed=signed)


def _uncompressed(folder: Path, syntax: str) -> Expectation:
    series = make_series(syntax=syntax)
    series.write(folder)
    return reads(series.image, clean=True)


def implicit_little_endian(folder: Path) -> Expectation:
    return _uncompressed(folder, ImplicitVRLittleEndian)


def explicit_big_endian(folder: Path) -> Expectation:
    return _uncompressed(folder, ExplicitVRBigEndian)


def deflated(folder: Path) -> Expectation:
    return _uncompressed(folder, DeflatedExplicitVRLittleEndian)


def rle(folder: Path) -> Expectation:
    series = _compressed(RLELossless, "pydicom")
    series.write(folder)
    return reads(series.image, clean=True)


def jpeg_ls(folder: Path) -> Expectation:
    series = _compressed(JPEGLSLossless, "pyjpegls")
    series.write(folder)
    return reads(series.image, clean=True)


def jpeg_2000(folder: Path) -> Expectation:
    series = _jpeg_2000()
    series.write(folder)
    return reads(series.image, clean=True)


def jpeg_2000_signed(folder: Path) -> Expectation:
    series = _jpeg_2000(signed=True)
    series.write(folder)
    return reads(series.image)


def jpeg_2000_deeper_than_its_values(folder: Path) -> Expectation:
    """The encoder always says 16 bits; the values keep to the 12 of the header."""
    stored = distinct_values(J2K_SHAPE) % 4096
    series = _compressed(JPEG2000Lossless, "pylibjpeg", shape=J2K_SHAPE, stored=stored)
    series.set(BitsStored=12, HighBit=11).write(folder)
    return reads(series.image)


def jpeg_2000_values_beyond_the_stored_bits(folder: Path) -> Expectation:
    """Cut to 12 bits, 5000 would be read as 904."""
    _jpeg_2000().set(BitsStored=12, HighBit=11).write(folder)
    return refuses()


def jpeg_2000_signed_values_beyond_the_stored_bits(folder: Path) -> Expectation:
    """A signed stream means its values: 3000 is no -1096 of 12 bits."""
    stored = distinct_values(J2K_SHAPE) % 4096
    series = _compressed(JPEG2000Lossless, "pylibjpeg", shape=J2K_SHAPE, stored=stored, signed=True)
    series.set(BitsStored=12, HighBit=11).write(folder)
    return refuses()


def jpeg_2000_signed_in_an_unsigned_image(folder: Path) -> Expectation:
    _jpeg_2000(signed=True).set(PixelRepresentation=0).write(folder)
    return refuses()


def jpeg_ls_signed(folder: Path) -> Expectation:
    stored = distinct_values((8, 7, 6)) - 2000
    series = _compressed(JPEGLSLossless, "pyjpegls", stored=stored, signed=True, intercept=0.0)
    series.write(folder)
    return reads(series.image)


def jpeg_ls_signed_with_zeros_above_the_high_bit(folder: Path) -> Expectation:
    """DCMTK packs whole cells: -16 in 12 bits is 0x0FF0 in a stream of 16."""
    stored = distinct_values((8, 7, 6)) - 2000
    series = _compressed(
        JPEGLSLossless, "pyjpegls", stored=stored & 0xFFF, signed=True, intercept=0.0
    )
    series.set(BitsStored=12, HighBit=11).write(folder)
    return reads(replace(series, stored=stored).image)


def jpeg_lossless_frame(frame_ji: NDArray[np.uint16], scratch: Path) -> bytes:
    """One frame in JPEG Lossless SV1, encoded by GDCM inside SimpleITK."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(scratch))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.GetImageFromArray(frame_ji[None]))
    dataset = pydicom.dcmread(scratch)
    scratch.unlink()
    if dataset.file_meta.TransferSyntaxUID != JPEGLosslessSV1:
        message = f"GDCM wrote {dataset.file_meta.TransferSyntaxUID.name}"
        raise ValueError(message)
    return bytes(next(generate_frames(dataset.PixelData, number_of_frames=1)))


def jpeg_lossless(folder: Path) -> Expectation:
    folder.mkdir(parents=True, exist_ok=True)
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        frame = series.stored[:, :, k].T.astype(np.uint16)
        scratch = folder.parent / "scratch.dcm"
        _encapsulate(dataset, jpeg_lossless_frame(frame, scratch), JPEGLosslessSV1)
    series.write(folder)
    return reads(series.image, clean=True)


def htj2k(folder: Path) -> Expectation:
    series = make_series(stored=htj2k_values())
    for dataset, text in zip(series.datasets, HTJ2K_FRAMES, strict=True):
        _encapsulate(dataset, base64.b64decode(text), HTJ2KLossless)
    series.write(folder)
    return reads(series.image, clean=True)


def lossy_jpeg_2000(folder: Path) -> Expectation:
    """Lossy pixels carry LossyImageCompression 01: near the truth, and flagged or refused."""
    x, y, k = np.indices(J2K_SHAPE)
    series = make_series(shape=J2K_SHAPE, stored=40 * x + 30 * y + 100 * k)
    for dataset in series.datasets:
        dataset.compress(
            JPEG2000, encoding_plugin="pylibjpeg", j2k_cr=[2], generate_instance_uid=False
        )
        dataset.LossyImageCompression = "01"
    series.write(folder)
    truth = Image(series.image.array, series.affine_lps, tolerance=200.0)
    return reads(truth, flagged=True, may_refuse=True)


def _transcode(dataset: Any, syntax: str) -> None:
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.set_original_encoding(UID(syntax).is_implicit_VR, True, "iso8859")


def mixed_syntaxes(folder: Path) -> Expectation:
    """Six slices, six syntaxes."""
    series = make_series(shape=J2K_SHAPE, stored=distinct_values(J2K_SHAPE, step=7))
    plans: tuple[Callable[[Any], None], ...] = (
        lambda dataset: dataset.compress(RLELossless, encoding_plugin="pydicom"),
        lambda dataset: dataset.compress(JPEGLSLossless, encoding_plugin="pyjpegls"),
        lambda dataset: dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg"),
        lambda dataset: _transcode(dataset, ImplicitVRLittleEndian),
        lambda dataset: _transcode(dataset, DeflatedExplicitVRLittleEndian),
        lambda _: None,
    )
    for dataset, plan in zip(series.datasets, plans, strict=True):
        plan(dataset)
    series.write(folder)
    return reads(series.image)


def declared_implicit_but_explicit(folder: Path) -> Expectation:
    """The wrong transfer syntax in the file meta. pydicom may notice and still read it right."""
    series = make_series()
    series.write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2\0\0\0")
    return reads(series.image, may_refuse=True, refusal_names=("IM0",))


def declared_jpeg_but_uncompressed(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    return refuses(refusal_names=("IM0",))


def declared_uncompressed_but_jpeg_2000(folder: Path) -> Expectation:
    series = _jpeg_2000()
    for dataset in series.datasets:
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    series.write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0")
    return refuses(refusal_names=("IM0",))


def declared_jpeg_ls_but_jpeg_2000(folder: Path) -> Expectation:
    series = _jpeg_2000()
    series.write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.80")
    return reads(series.image, flagged=True, may_refuse=True, refusal_names=("IM0",))


def declared_big_endian_but_little(folder: Path) -> Expectation:
    make_series().write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.2\0")
    return Expectation(images=((),), may_refuse=True)


def transfer_syntax_unknown(folder: Path) -> Expectation:
    make_series().write(folder)
    for path in folder.iterdir():
        patch(path, b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.9.9.9\0")
    return Expectation(images=((),), may_refuse=True)


def transfer_syntax_missing(folder: Path) -> Expectation:
    series = make_series()
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(series.datasets):
        del dataset.file_meta.TransferSyntaxUID
        dataset.save_as(folder / f"{k}", implicit_vr=False, little_endian=True)
    return reads(series.image, may_refuse=True)


def pixel_data_short(folder: Path) -> Expectation:
    series = make_series()
    series.datasets[2].PixelData = series.datasets[2].PixelData[:-20]
    series.write(folder)
    return refuses(refusal_names=("IM0002.dcm",))


def pixel_data_long(folder: Path) -> Expectation:
    """More pixels than Rows x Columns: some viewers read on, some cut."""
    series = make_series()
    series.datasets[2].PixelData += b"\x11" * 60
    series.write(folder)
    return reads(series.image, flagged=True, may_refuse=True, refusal_names=("IM0002.dcm",))


def pixel_data_absent(folder: Path) -> Expectation:
    where = 2.5 * np.arange(7.0)
    series = ramp_series(where)
    del series.datasets[2].PixelData
    series.write(folder)
    return reads(field_of(where), flagged=True, may_refuse=True)


def pixel_data_empty(folder: Path) -> Expectation:
    series = make_series()
    series.datasets[2].PixelData = b""
    series.write(folder)
    return refuses(refusal_names=("IM0002.dcm",))


def file_truncated_in_pixels(folder: Path) -> Expectation:
    make_series().write(folder)
    path = folder / "IM0003.dcm"
    path.write_bytes(path.read_bytes()[:-41])
    return refuses(refusal_names=("IM0003.dcm",))


def file_truncated_in_header(folder: Path) -> Expectation:
    """One slice ends before its position: not a volume with a silent hole."""
    where = 2.5 * np.arange(7.0)
    ramp_series(where).write(folder)
    path = folder / "IM0003.dcm"
    path.write_bytes(path.read_bytes()[:420])
    return reads(field_of(where), flagged=True, not_images=("IM0003.dcm",), may_refuse=True)


def codestream_truncated(folder: Path) -> Expectation:
    series = _jpeg_2000()
    frame = next(generate_frames(series.datasets[4].PixelData, number_of_frames=1))
    cut = frame[: len(frame) // 2]
    _encapsulate(series.datasets[4], cut + b"\0" * (len(cut) % 2), JPEG2000Lossless)
    series.write(folder)
    return refuses(refusal_names=("IM0004.dcm",))


def codestream_truncated_jpeg_ls(folder: Path) -> Expectation:
    series = _compressed(JPEGLSLossless, "pyjpegls")
    frame = next(generate_frames(series.datasets[4].PixelData, number_of_frames=1))
    cut = frame[: len(frame) // 2]
    _encapsulate(series.datasets[4], cut + b"\0" * (len(cut) % 2), JPEGLSLossless)
    series.write(folder)
    return refuses(refusal_names=("IM0004.dcm",))


def codestream_truncated_rle(folder: Path) -> Expectation:
    series = _compressed(RLELossless, "pydicom")
    frame = next(generate_frames(series.datasets[4].PixelData, number_of_frames=1))
    _encapsulate(series.datasets[4], frame[:80], RLELossless)
    series.write(folder)
    return refuses(refusal_names=("IM0004.dcm",))


def codestream_of_another_size(folder: Path) -> Expectation:
    """The JPEG-LS frame holds 10 x 9 pixels, the header says 8 x 7."""
    series = _compressed(JPEGLSLossless, "pyjpegls")
    larger = _compressed(JPEGLSLossless, "pyjpegls", shape=(10, 9, 6))
    series.datasets[1].PixelData = larger.datasets[1].PixelData
    series.write(folder)
    return refuses(refusal_names=("IM0001.dcm",))


def codestream_bomb(folder: Path) -> Expectation:
    """A 200-byte codestream whose own header claims 60,000 x 60,000 pixels."""
    series = _jpeg_2000()
    for dataset in series.datasets:
        content = bytearray(dataset.PixelData)
        start = content.find(b"\xff\x51") + 6  # SIZ: Xsiz, Ysiz follow Lsiz and Rsiz
        content[start : start + 8] = (60000).to_bytes(4, "big") * 2
        dataset.PixelData = bytes(content)
    series.write(folder)
    return refuses(refusal_names=("IM000",))


def jpeg_baseline_declared_for_16_bit(folder: Path) -> Expectation:
    series = make_series()
    for dataset in series.datasets:
        _encapsulate(dataset, b"\xff\xd8\xff\xe0junk\xff\xd9", JPEGBaseline8Bit)
    series.write(folder)
    return refuses(refusal_names=("IM000",))


def extra_trailing_bytes(folder: Path) -> Expectation:
    """Junk after the data set: the pixels are whole. Read, or refused with the file."""
    series = make_series()
    series.write(folder)
    path = folder / "IM0003.dcm"
    path.write_bytes(path.read_bytes() + b"\0" * 37)
    return reads(series.image, may_refuse=True)


def encapsulated_in_two_fragments(folder: Path) -> Expectation:
    series = _compressed(JPEGLSLossless, "pyjpegls")
    for dataset in series.datasets:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate([frame], fragments_per_frame=2, has_bot=False)
        dataset["PixelData"].VR = "OB"
    series.write(folder)
    return reads(series.image)


def save_without_meta(folder: Path) -> Expectation:
    """File meta without its group length, as some archives write it."""
    series = make_series()
    for dataset in series.datasets:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    series.write(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:132] + content[144:])
    return reads(series.image)


TRAPS = (
    implicit_little_endian, explicit_big_endian, deflated, rle, jpeg_ls, jpeg_2000,
    jpeg_2000_signed, jpeg_2000_deeper_than_its_values, jpeg_2000_values_beyond_the_stored_bits,
    jpeg_2000_signed_values_beyond_the_stored_bits, jpeg_2000_signed_in_an_unsigned_image,
    jpeg_ls_signed, jpeg_ls_signed_with_zeros_above_the_high_bit, jpeg_lossless, htj2k,
    lossy_jpeg_2000, mixed_syntaxes,
    declared_implicit_but_explicit, declared_jpeg_but_uncompressed,
    declared_uncompressed_but_jpeg_2000, declared_jpeg_ls_but_jpeg_2000,
    declared_big_endian_but_little, transfer_syntax_unknown, transfer_syntax_missing,
    pixel_data_short, pixel_data_long, pixel_data_absent, pixel_data_empty,
    file_truncated_in_pixels, file_truncated_in_header, codestream_truncated,
    codestream_truncated_jpeg_ls, codestream_truncated_rle, codestream_of_another_size,
    codestream_bomb, jpeg_baseline_declared_for_16_bit, extra_trailing_bytes,
    encapsulated_in_two_fragments, save_without_meta,
)  # fmt: skip
