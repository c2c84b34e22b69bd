"""Small DICOM series whose geometry and values are known exactly.

Axis order of every array: (i, j, k) = (column, row, slice); affines map the index to LPS mm.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
)

from tests.traps.expectation import Image

Affine = NDArray[np.float64]
ROOT = "1.2.826.0.1.3680043.10.9999."
SHAPE = (8, 7, 6)
SPACING_MM = (1.5, 0.75, 2.5)
ORIGIN = (-11.0, -22.0, 33.0)
AXIAL = np.eye(3)
SAGITTAL = np.array([[0, 0, 1], [1, 0, 0], [0, -1, 0]], dtype=float)
CORONAL = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=float)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """Right-handed rotation about one patient axis."""
    a, b = [other for other in range(3) if other != axis]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = cos
    matrix[a, b], matrix[b, a] = (-sin, sin) if axis != 1 else (sin, -sin)
    return matrix


def affine_of(direction: ArrayLike, spacing_mm: ArrayLike, origin: ArrayLike) -> Affine:
    """Affine from unit direction columns, spacing along (i, j, k) and origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=float) * np.asarray(spacing_mm, dtype=float)
    affine[:3, 3] = origin
    return affine


def distinct_values(shape: Sequence[int], *, seed: int = 0, step: int = 12) -> NDArray[np.int64]:
    """A different stored value for every voxel, shuffled, from 3 upwards."""
    count = int(np.prod(shape))
    values = np.random.default_rng(seed).permutation(count) * step + 3
    return np.asarray(values.reshape(shape))


@dataclass(frozen=True, eq=False)
class Series:
    """Datasets in slice order and the true image."""

    datasets: list[FileDataset]
    stored: NDArray[Any]
    affine_lps: Affine
    slope: float = 1.0
    intercept: float = 0.0
    names: list[str] = field(default_factory=list)

    @property
    def image(self) -> Image:
        """The truth after the rescale of the header."""
        return Image(self.stored * self.slope + self.intercept, self.affine_lps)

    def slices(self, start: int, stop: int) -> Image:
        """The truth of a range of slices."""
        affine = self.affine_lps.copy()
        affine[:3, 3] += start * affine[:3, 2]
        return Image(self.image.array[:, :, start:stop], affine)

    def set(self, **tags: Any) -> Series:
        """Set the same tags on every slice (None removes)."""
        for dataset in self.datasets:
            assign(dataset, **tags)
        return self

    def write(self, folder: Path, names: Iterable[str] | None = None) -> list[str]:
        """Write in slice order; returns the file names."""
        return write(folder, self.datasets, names)


def assign(dataset: Dataset, **tags: Any) -> None:
    """Set tags by keyword; None removes the tag."""
    with unchecked():
        for keyword, value in tags.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)


@contextmanager
def unchecked() -> Iterator[None]:
    """Let pydicom write what the standard forbids."""
    with pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def uid(*parts: object) -> str:
    """A UID that depends only on the parts."""
    digits = int.from_bytes("/".join(map(str, parts)).encode(), "big") % 10**18
    return f"{ROOT}{digits}"


def file_dataset(sop_class: str, sop_uid: str, *, syntax: str = ExplicitVRLittleEndian) -> Any:
    """An empty dataset with file meta, a preamble and the planted identities."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = sop_uid
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = ROOT + "1"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.set_original_encoding(
        is_implicit_vr=meta.TransferSyntaxUID.is_implicit_VR,
        is_little_endian=meta.TransferSyntaxUID.is_little_endian,
        character_encoding="iso8859",
    )
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = sop_uid
    plant_identity(dataset)
    return dataset


def plant_identity(dataset: Dataset) -> None:
    """Identities that must never leave the file."""
    dataset.PatientName = "Zzyzx^Quentin"
    dataset.PatientID = "PID90417"
    dataset.PatientBirthDate = "19370211"
    dataset.AccessionNumber = "ACC77531"
    dataset.InstitutionName = "Stonebridge Hospital"
    dataset.StudyDescription = "Zzyzx study"
    dataset.SeriesDescription = "Quentin series"
    dataset.PatientComments = "Zzyzx comment"
    dataset.StudyID = "ACC77531"
    dataset.Manufacturer = "Stonebridge"
    dataset.BodyPartExamined = "ZZYZX QUENTIN"


def put_pixels(dataset: Dataset, frame_ij: NDArray[Any], *, signed: bool = False) -> None:
    """Uncompressed 16-bit pixels; `frame_ij` has axes (column, row) or (column, row, frame)."""
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    dataset.Columns, dataset.Rows = frame_ij.shape[:2]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = int(signed)
    dataset.PixelData = np.asarray(frame_ij).T.astype(order + ("i2" if signed else "u2")).tobytes()
    dataset["PixelData"].VR = "OW"


def make_series(
    *,
    shape: Sequence[int] = SHAPE,
    spacing_mm: Sequence[float] = SPACING_MM,
    origin: Sequence[float] = ORIGIN,
    direction: ArrayLike = AXIAL,
    modality: str = "CT",
    stored: NDArray[Any] | None = None,
    slope: float | None = 1.0,
    intercept: float | None = -1024.0,
    positions: ArrayLike | None = None,
    signed: bool = False,
    syntax: str = ExplicitVRLittleEndian,
    series: str = "s",
    study: str = "t",
    seed: int = 0,
    first_instance: int = 1,
) -> Series:
    """A classic CT or MR series, one dataset per slice in slice order.

    Args:
        shape: Along (i, j, k).
        spacing_mm: Along (i, j, k): i is the distance of columns.
        origin: LPS of the first voxel.
        direction: Unit columns; a sheared third column makes a gantry tilt.
        modality: "CT" or "MR".
        stored: Stored values of shape `shape`.
        slope: Rescale slope; None leaves slope and intercept out.
        intercept: Rescale intercept.
        positions: ImagePositionPatient of each slice, shape (k, 3), where not regular.
        signed: Pixel representation.
        syntax: Transfer syntax (uncompressed).
        series: Seed of the series UID.
        study: Seed of the study UID.
        seed: Of the stored values.
        first_instance: Instance number of the first slice.
    """
    stored = distinct_values(shape, seed=seed) if stored is None else stored
    affine = affine_of(direction, spacing_mm, origin)
    if positions is None:
        positions = np.array([affine[:3, 3] + k * affine[:3, 2] for k in range(shape[2])])
    datasets = [
        _slice(
            stored[:, :, k], position, affine, modality=modality, slope=slope,
            intercept=intercept, signed=signed, syntax=syntax, series=series, study=study,
            number=first_instance + k,
        )
        for k, position in enumerate(np.asarray(positions))
    ]  # fmt: skip
    if slope is None:
        return Series(datasets, stored, affine)
    return Series(datasets, stored, affine, slope, intercept or 0.0)


def _slice(
    frame_ij: NDArray[Any], position: ArrayLike, affine: Affine, *, modality: str,
    slope: float | None, intercept: float | None, signed: bool, syntax: str, series: str,
    study: str, number: int,
) -> FileDataset:  # fmt: skip
    sop_class = CTImageStorage if modality == "CT" else MRImageStorage
    dataset: FileDataset = file_dataset(sop_class, uid(study, series, number), syntax=syntax)
    dataset.Modality = modality
    dataset.StudyInstanceUID = uid("study", study)
    dataset.SeriesInstanceUID = uid("series", series)
    dataset.FrameOfReferenceUID = uid("frame", study)
    dataset.StudyDate, dataset.SeriesNumber, dataset.InstanceNumber = "20200102", 3, number
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    place(dataset, position, affine)
    dataset.SliceThickness = _ds(np.linalg.norm(affine[:3, 2]))
    if slope is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = _ds(slope), _ds(intercept or 0.0)
    put_pixels(dataset, frame_ij, signed=signed)
    return dataset


def place(dataset: Dataset, position: ArrayLike, affine: Affine) -> None:
    """Position, orientation and pixel spacing (PS3.3 C.7.6.2: row distance comes first)."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    cosines = np.concatenate([affine[:3, 0] / spacing[0], affine[:3, 1] / spacing[1]])
    dataset.ImagePositionPatient = [_ds(value) for value in np.asarray(position)]
    dataset.ImageOrientationPatient = [_ds(value) for value in cosines]
    dataset.PixelSpacing = [_ds(spacing[1]), _ds(spacing[0])]


def _ds(value: Any) -> str:
    """A decimal string of at most 16 characters."""
    return f"{float(value):.9f}"[:16]


def write(
    folder: Path, datasets: Sequence[Dataset], names: Iterable[str] | None = None
) -> list[str]:
    """Write datasets; returns the file names, relative to the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = list(names) if names is not None else [f"IM{n:04d}.dcm" for n in range(len(datasets))]
    for dataset, name in zip(datasets, chosen, strict=True):
        save(dataset, folder / name)
    return chosen


def save(dataset: Dataset, path: Path) -> None:
    """Write one file; values that the standard forbids included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with unchecked():
        dataset.save_as(path, enforce_file_format=dataset.file_meta is not None)


def patch(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of the same length in a written file."""
    content = path.read_bytes()
    if old not in content or len(old) != len(new):
        message = f"{old!r} must be in {path.name} and as long as {new!r}"
        raise ValueError(message)
    path.write_bytes(content.replace(old, new))


def merged(*series: Series) -> list[FileDataset]:
    """Slices of several series, interleaved."""
    longest = max(len(each.datasets) for each in series)
    return [each.datasets[k] for k in range(longest) for each in series if k < len(each.datasets)]


def split_by(build: Callable[[int], Series], count: int) -> list[Series]:
    """Several series that share series and study UID, with distinct instance numbers."""
    return [build(n) for n in range(count)]


def with_rescale(series: Series, slopes: Sequence[float], intercepts: Sequence[float]) -> Image:
    """Give each slice its own rescale; returns the truth."""
    for dataset, slope, intercept in zip(series.datasets, slopes, intercepts, strict=True):
        assign(dataset, RescaleSlope=_ds(slope), RescaleIntercept=_ds(intercept))
    array = series.stored * np.asarray(slopes, dtype=float) + np.asarray(intercepts, dtype=float)
    return replace(series.image, array=array)
