"""The images of a folder, NIfTI or DICOM, with every name that a table may call them by."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from medmtl.core.errors import InputRefusedError
from medmtl.core.prediction import Covariates
from medmtl.data.intake import open_input
from medmtl.dicom import ReadLimits
from medmtl.dicom.worker_client import WorkerError, shared_worker
from medmtl.nifti.names import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medmtl.core.study import Study, VolumeRef
    from medmtl.data.builders.copy import DataCopy

__all__ = ["FolderImage", "called", "find_images", "plain_key"]

_CHANNEL = re.compile(r"_\d{4}\Z")
"""nnU-Net writes the channel behind the name of the case; other people number their cases so."""
_SEPARATORS = "_-. "

Write: TypeAlias = Callable[["DataCopy"], str]


@dataclass(frozen=True, eq=False)
class FolderImage:
    """One volume, and its names by the role of the column that may hold them.

    Attributes:
        case_id: Name of the case: of the file without suffix, or a hash of the study's UIDs.
        stem: Name of the file without suffix, of DICOM the case id: what a mask is called.
        shown: Path or hash for messages.
        study: Equal for the volumes of one study.
        size: Number of voxels.
        names: Casefolded names by role ("file", "study", "patient"); "start" are those whose first
            part may be the patient.
        modality: Of DICOM, else "".
        is_phase: Whether it is one of the phases of a cine.
        patient_id: Of the DICOM header, else "". It identifies a person, and goes nowhere as it is.
        covariates: What a DICOM header says.
        write: Gives the path for the manifest; of DICOM a file that names the images.
    """

    case_id: str
    stem: str
    shown: str
    study: str
    size: int
    names: dict[str, frozenset[str]]
    modality: str
    is_phase: bool
    patient_id: str = field(repr=False)
    covariates: Covariates
    write: Write

    @property
    def without_channel(self) -> str:
        """The case whose channel this image may be; "" where its name ends in no such number."""
        case, count = _CHANNEL.subn("", self.stem)
        return case if count else ""

    def is_called(self, role: str, name: str) -> bool:
        """Whether a cell of that role is a name of this image."""
        key = plain_key(name)
        names = self.names[role]
        if role != "patient":
            return key in names
        starts = tuple(f"{key}{separator}" for separator in _SEPARATORS)
        return key in names or any(own.startswith(starts) for own in self.names["start"])


def plain_key(name: str) -> str:
    """A name as it is compared: forward slashes, no image suffix, one case, one form of umlauts."""
    plain = unicodedata.normalize("NFC", name.strip())  # macOS writes letter and accent apart
    return SUFFIX.sub("", plain.replace("\\", "/")).casefold()


def called(images: Iterable[FolderImage], role: str, name: str) -> list[FolderImage]:
    """The images that a cell means: those of that name, else the channels of that case."""
    images = list(images)
    return [image for image in images if image.is_called(role, name)] or [
        image for image in images if plain_key(image.without_channel) == plain_key(name)
    ]


def find_images(
    folder: Path, *, without: Sequence[Path] = ()
) -> tuple[list[FolderImage], list[str]]:
    """Look through a folder and all below it; only headers are read.

    Args:
        folder: Holds NIfTI files or DICOM in any arrangement.
        without: Folders whose NIfTI files are no images: masks, and what was made before.

    Returns:
        Images in a stable order, and what cannot be used with its reason.

    Raises:
        MedmtlError: If the folder is missing or holds no file.
    """
    listing = open_input(folder)
    problems = [
        f"{refusal.source}: {refusal.code}: found {refusal.found}, expected {refusal.expected}"
        for refusal in listing.refusals
    ]
    images = []
    for study in listing.studies:
        is_dicom = study.kind == "dicom"
        for ref in study.volumes:
            image = _dicom(folder, study, ref) if is_dicom else _nifti(folder, ref)
            if is_dicom or not _is_below(folder, ref, without):
                images.append(image)
    return images, problems


def _is_below(folder: Path, ref: VolumeRef, without: Sequence[Path]) -> bool:
    path = (folder / ref.source_files[0]).resolve()
    return any(path.is_relative_to(one.resolve()) for one in without)


def _nifti(folder: Path, ref: VolumeRef) -> FolderImage:
    path = ref.source_files[0]
    stem, folders = SUFFIX.sub("", PurePosixPath(path).name), PurePosixPath(path).parent.parts
    parts = _keys([*folders, stem])
    return FolderImage(
        case_id=stem,
        stem=stem,
        shown=path,
        study=path,
        size=math.prod(ref.geometry.shape),
        names={
            "file": _keys([path, stem]),
            "study": parts,
            "patient": parts,
            "start": _keys([path, stem]),
        },
        modality="",
        is_phase=False,
        patient_id="",
        covariates=Covariates(),
        write=lambda data: data.name_of(folder / path),
    )


def _dicom(folder: Path, study: Study, ref: VolumeRef) -> FolderImage:
    path = PurePosixPath(ref.source_files[0])
    folders = path.parent.parts
    whole = [str(PurePosixPath(*folders[: n + 1])) for n in range(len(folders))]
    patient_id = _patient_id(folder / path)
    files = _keys([*ref.source_files, *folders[-1:], *whole[-1:]])

    def write(data: DataCopy) -> str:
        name = f"{study.case_id}_{ref.id}"
        of_series = {file for one in study.volumes if one.series_key == ref.series_key
                     for file in one.source_files}  # fmt: skip
        paths = [folder / file for file in of_series]
        if all(path.is_file() for path in paths):
            return data.write_series(name, ref.id, paths)
        return data.write_image(name, ref.read())  # inside an archive

    return FolderImage(
        case_id=study.case_id,
        stem=study.case_id,
        shown=f"study {study.case_id}, volume {ref.id}",
        study=study.case_id,
        size=math.prod(ref.geometry.shape),
        names={
            "file": files | _keys([ref.series_uid]),
            "study": _keys([*folders, *whole, study.study_uid]),
            "patient": _keys([*folders, patient_id]),
            "start": files,
        },
        modality=ref.modality,
        is_phase=ref.phase is not None,
        patient_id=patient_id,
        covariates=study.covariates,
        write=write,
    )


def _patient_id(path: Path) -> str:
    """Compared and hashed, never written; "" where it cannot be read (inside a zip)."""
    try:
        return shared_worker(ReadLimits()).patient(path).get("PatientID", "")
    except (WorkerError, InputRefusedError, OSError):
        return ""


def _keys(names: Iterable[str]) -> frozenset[str]:
    return frozenset(key for name in names if (key := plain_key(name)))
