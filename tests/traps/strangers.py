"""What is no image volume, beside a sound series: listed, skipped, and the series still read."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import (
    BasicTextSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
)

from tests.traps.expectation import Expectation, reads, skips
from tests.traps.series import Series, file_dataset, make_series, put_pixels, save, uid


def _beside(folder: Path, dataset: Dataset, name: str) -> Expectation:
    """The sound series, and the stranger in the same study and folder."""
    series = make_series()
    series.write(folder)
    save(dataset, folder / name)
    return reads(series.image, not_images=(name,), studies=1)


def stranger(sop_class: str, modality: str, *, series: str | None = None) -> Any:
    """A dataset of another kind in the study of `make_series`."""
    dataset = file_dataset(sop_class, uid("stranger", modality))
    dataset.Modality = modality
    dataset.StudyInstanceUID = uid("study", "t")
    dataset.SeriesInstanceUID = uid("series", series or modality)
    dataset.InstanceNumber = 1
    return dataset


def pdf(folder: Path) -> Expectation:
    dataset = stranger(EncapsulatedPDFStorage, "DOC")
    dataset.EncapsulatedDocument = b"%PDF-1.4 Zzyzx "
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    return _beside(folder, dataset, "report.dcm")


def structured_report(folder: Path) -> Expectation:
    dataset = stranger(BasicTextSRStorage, "SR")
    dataset.ValueType, dataset.CompletionFlag = "CONTAINER", "COMPLETE"
    dataset.ContentSequence = []
    return _beside(folder, dataset, "report.dcm")


def presentation_state(folder: Path) -> Expectation:
    dataset = stranger(GrayscaleSoftcopyPresentationStateStorage, "PR")
    return _beside(folder, dataset, "state.dcm")


def structure_set(folder: Path) -> Expectation:
    return _beside(folder, stranger(RTStructureSetStorage, "RTSTRUCT"), "structures.dcm")


def secondary_capture(folder: Path) -> Expectation:
    dataset = stranger(SecondaryCaptureImageStorage, "CT")
    put_pixels(dataset, np.arange(56).reshape(8, 7))
    return _beside(folder, dataset, "capture.dcm")


def secondary_capture_in_the_series(folder: Path) -> Expectation:
    """A dose screen carries the UID of the series and even a position."""
    dataset = stranger(SecondaryCaptureImageStorage, "CT", series="s")
    put_pixels(dataset, np.arange(56).reshape(8, 7))
    dataset.ImagePositionPatient = ["-11", "-22", "34.25"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = ["0.75", "1.5"]
    dataset.FrameOfReferenceUID = uid("frame", "t")
    return _beside(folder, dataset, "capture.dcm")


def rgb_series(folder: Path) -> Expectation:
    """CT Image Storage in colour: not a measured volume."""
    series = make_series()
    for k, dataset in enumerate(series.datasets):
        frame = (series.stored[:, :, k].T % 251).astype(np.uint8)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.PlanarConfiguration = 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = np.stack([frame] * 3, axis=-1).tobytes()
        dataset["PixelData"].VR = "OB"
    series.write(folder)
    return Expectation(images=((),), may_refuse=True)


def palette_colour(folder: Path) -> Expectation:
    make_series().set(PhotometricInterpretation="PALETTE COLOR").write(folder)
    return Expectation(images=((),), may_refuse=True)


def derived_rgb_slice_in_the_series(folder: Path) -> Expectation:
    """A fused colour slice under the UID of the series, at a position of its own."""
    dataset = make_series(origin=(-11, -22, 48), first_instance=7).datasets[0]
    frame = np.full((7, 8, 3), 7, dtype=np.uint8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelData = frame.tobytes()
    dataset["PixelData"].VR = "OB"
    series = make_series()
    series.write(folder)
    save(dataset, folder / "fused.dcm")
    return reads(series.image, may_refuse=True, not_images=("fused.dcm",))


def segmentation(folder: Path) -> Expectation:
    """A DICOM SEG of the series (highdicom): multi-frame, with positions, yet no image."""
    series = make_series()
    _complete(series)
    mask = np.zeros((6, 7, 8), dtype=np.uint8)
    mask[2:4, 2:5, 2:6] = 1
    description = hd.seg.SegmentDescription(
        segment_number=1, segment_label="liver", segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )  # fmt: skip
    seg = hd.seg.Segmentation(
        source_images=series.datasets, pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[description], series_instance_uid=uid("series", "seg"),
        series_number=9, sop_instance_uid=uid("seg"), instance_number=1, manufacturer="medmtl",
        manufacturer_model_name="traps", software_versions="1", device_serial_number="1",
    )  # fmt: skip
    series.write(folder)
    seg.save_as(folder / "seg.dcm")
    return reads(series.image, not_images=("seg.dcm",), studies=1)


def _complete(series: Series) -> None:
    """Attributes of type 2 that highdicom copies."""
    for dataset in series.datasets:
        dataset.PatientSex, dataset.StudyTime, dataset.PositionReferenceIndicator = "", "", ""
        dataset.ReferringPhysicianName = "Zzyzx^Quentin"


def junk_files(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    (folder / "notes.txt").write_text("Zzyzx Quentin, PID90417\n")
    (folder / "random.dcm").write_bytes(np.random.default_rng(0).bytes(3000))
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 64)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + b"\0" * 600)
    (folder / "data.csv").write_text("a,b\n1,2\n")
    return reads(series.image, not_images=("notes.txt", "random.dcm", "image.png", "Thumbs.db"))


def empty_files(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    (folder / "empty.dcm").write_bytes(b"")
    (folder / "empty").write_bytes(b"")
    return reads(series.image, not_images=("empty.dcm", "empty"))


def only_junk(folder: Path) -> Expectation:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("nothing here")
    return skips("notes.txt")


def preamble_only(folder: Path) -> Expectation:
    series = make_series()
    series.write(folder)
    (folder / "magic.dcm").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "short.dcm").write_bytes(b"\0" * 128 + b"DICM\x02\x00")
    return reads(series.image, not_images=("magic.dcm", "short.dcm"))


def meta_claims_gigabytes(folder: Path) -> Expectation:
    """A 200-byte file whose first element says it is 4 GB long."""
    series = make_series()
    series.write(folder)
    element = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 0xFFFFFFF0)
    (folder / "huge.dcm").write_bytes(b"\0" * 128 + b"DICM" + element + b"\0\x01")
    body = struct.pack("<HH2sHI", 8, 5, b"UN", 0, 0x7FFFFFFF)
    (folder / "huge2.dcm").write_bytes(b"\0" * 128 + b"DICM" + body + b"\0" * 64)
    return reads(series.image, not_images=("huge.dcm", "huge2.dcm"))


def nested_sequences_without_end(folder: Path) -> Expectation:
    """Ten thousand nested items: a parser that recurses dies."""
    series = make_series()
    series.write(folder)
    source = (folder / "IM0000.dcm").read_bytes()
    start = struct.pack("<HH2sHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    place = source.find(b"\x08\x00\x08\x00CS")
    (folder / "deep.dcm").write_bytes(source[:place] + (start + item) * 10_000)
    return reads(series.image, not_images=("deep.dcm",))


def no_sop_class(folder: Path) -> Expectation:
    """Pixels without a SOP class: what it is cannot be known."""
    series = make_series().set(SOPClassUID=None)
    for dataset in series.datasets:
        del dataset.file_meta.MediaStorageSOPClassUID
    folder.mkdir(parents=True, exist_ok=True)
    for k, dataset in enumerate(series.datasets):
        dataset.save_as(folder / f"{k}.dcm")
    return reads(series.image, may_refuse=True)


def localizer_alone(folder: Path) -> Expectation:
    series = make_series(shape=(8, 7, 1)).set(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    series.write(folder)
    return Expectation(images=((),), optional=(series.image,), may_refuse=True)


TRAPS = (
    pdf, structured_report, presentation_state, structure_set, secondary_capture,
    secondary_capture_in_the_series, rgb_series, palette_colour, derived_rgb_slice_in_the_series,
    segmentation, junk_files, empty_files, only_junk, preamble_only, meta_claims_gigabytes,
    nested_sequences_without_end, no_sop_class, localizer_alone,
)  # fmt: skip
