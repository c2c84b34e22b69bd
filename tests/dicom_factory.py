"""DICOM series whose geometry and values are known exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from medmtl.core.geometry import Geometry

__all__ = ["make_dataset", "make_series", "uid_of"]


def uid_of(*words: object) -> UID:
    """The same UID for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def make_dataset(
    *,
    plane: NDArray[Any],
    position: NDArray[np.float64],
    geometry: Geometry,
    modality: str = "CT",
    syntax: str = ExplicitVRLittleEndian,
    name: str = "series",
    study: str = "study",
    number: int = 1,
    **tags: Any,
) -> FileDataset:
    """One slice; `plane` is (i, j) and `tags` override or (None) delete attributes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if modality == "CT" else MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid_of(name, number)
    meta.TransferSyntaxUID = UID(syntax)
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    i_mm, j_mm, _ = geometry.spacing_mm
    values: dict[str, Any] = {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": modality,
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "StudyInstanceUID": uid_of(study),
        "SeriesInstanceUID": uid_of(study, name),
        "FrameOfReferenceUID": uid_of(study, "frame"),
        "InstanceNumber": number,
        "ImagePositionPatient": [f"{value:.6f}" for value in position],
        "ImageOrientationPatient": [f"{value:.9f}" for value in geometry.direction[:, :2].T.flat],
        "PixelSpacing": [f"{j_mm:.6f}", f"{i_mm:.6f}"],
        "SliceThickness": "2.5",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": plane.shape[1],
        "Columns": plane.shape[0],
        "BitsAllocated": plane.dtype.itemsize * 8,
        "BitsStored": plane.dtype.itemsize * 8,
        "HighBit": plane.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(plane.dtype.kind == "i"),
        "RescaleSlope": "1",
        "RescaleIntercept": "0",
    }
    values |= tags
    for keyword, value in values.items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.PixelData = (
        np.ascontiguousarray(plane.T).astype(plane.dtype.newbyteorder("<")).tobytes()
    )
    dataset["PixelData"].VR = "OW"
    return dataset


def make_series(
    folder: Path,
    *,
    array: NDArray[Any],
    geometry: Geometry | None = None,
    modality: str = "CT",
    name: str = "series",
    study: str = "study",
    per_slice: dict[str, list[Any]] | None = None,
    **tags: Any,
) -> Geometry:
    """Write one file per slice of `array` (i, j, k), the last slice first in the alphabet.

    Args:
        folder: Created where absent.
        array: Stored values.
        geometry: Grid; 1 x 1 x 2.5 mm, axial, where absent.
        modality: "CT" or "MR".
        name: Names files and series.
        study: Names the study.
        per_slice: Attributes that differ, one value per slice.
        **tags: Attributes of all slices; None deletes one.

    Returns:
        The grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = array.shape[2]
    grid = geometry or Geometry.from_parts(
        shape=array.shape, spacing_mm=(1.0, 1.0, 2.5), origin_lps=(-10.0, -20.0, 30.0)
    )
    for k in range(count):
        own = {key: values[k] for key, values in (per_slice or {}).items()}
        position = grid.affine_lps[:3, 3] + grid.affine_lps[:3, 2] * k
        dataset = make_dataset(
            plane=array[..., k], position=position, geometry=grid, modality=modality,
            name=name, study=study, number=k + 1, **{**tags, **own},
        )  # fmt: skip
        dataset.save_as(folder / f"{name}_{count - k:04d}", enforce_file_format=True)
    return grid
