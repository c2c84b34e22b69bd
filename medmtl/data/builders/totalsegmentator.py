"""The public layout of the TotalSegmentator CT data set, version 2.

`s0001/ct.nii.gz`, one file per structure in `s0001/segmentations/`, and `meta.csv` with the split.
Wasserthal et al., Radiology: Artificial Intelligence 5(5), 2023, doi 10.1148/ryai.230024.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.labels import LabelSchema
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import nifti_files, read_table
from medmtl.data.builders.person import attributes, positive, sex
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256
from medmtl.data.volume_file import read_grid, read_volume_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from medmtl.core.geometry import Geometry
    from medmtl.data.builders.copy import DataCopy

__all__ = ["TOTALSEGMENTATOR_SCHEMA", "build_totalsegmentator_manifest"]

TOTALSEGMENTATOR_SCHEMA = LabelSchema(segments=TOTAL_SEGMENTS)
"""The structures of version 2; it has no findings."""

_VERSION_1_ONLY = frozenset(
    {
        "face", "pulmonary_artery", "heart_myocardium", "heart_atrium_left", "heart_atrium_right",
        "heart_ventricle_left", "heart_ventricle_right",
    }
)  # fmt: skip
"""Structures of version 1 that version 2 has not."""

_SUBJECT = re.compile(r"s\d{4}")
_ATTRIBUTES = {
    "vendor": "manufacturer",
    "scanner": "scanner_model",
    "site": "institute",
    "study_type": "study_type",
    "kvp": "kvp",
    "pathology": "pathology",
    "pathology_location": "pathology_location",
}
_CITATION = (
    "J. Wasserthal, H.-C. Breit, M. T. Meyer, et al. TotalSegmentator: Robust Segmentation of 104 "
    "Anatomic Structures in CT Images. Radiology: Artificial Intelligence 5(5), e230024, 2023. "
    "doi 10.1148/ryai.230024"
)


def build_totalsegmentator_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy and write one label map per subject.

    The masks of a subject become one map with the label order of the authors' toolkit. Where masks
    overlap, the structure with the higher label stands, and the number of voxels is said. A
    structure without a file was not looked for: it is unknown, not absent.

    Args:
        data: Holds the folders `s0000` and so on, and `meta.csv`.

    Returns:
        The manifest of the usable subjects, and what is wrong with the others.

    Raises:
        ConfigError: If there is no usable subject, or the copy is of version 1.
        OutputError: If a label map cannot be written.
    """
    problems: list[str] = []
    meta = {
        row.get("image_id", ""): row for row in read_table(data.source / "meta.csv", delimiter=";")
    }
    if not meta:
        problems.append("no meta.csv: every subject has split train, and nothing is known of it")
    folders = [
        path
        for path in sorted(data.source.iterdir())
        if _SUBJECT.fullmatch(path.name) and path.is_dir()
    ]
    cases = [
        case
        for folder in folders
        if (case := _case(folder, data, meta.get(folder.name), bool(meta), problems)) is not None
    ]
    gone = sorted(meta.keys() - {folder.name for folder in folders})
    problems += [f"{name}: in meta.csv, but no such folder" for name in gone]
    if not cases:
        found = "; ".join(problems[:3]) or "no folder s0000"
        raise ConfigError(
            f"No usable TotalSegmentator subject: found {found}, expected s0000/ct.nii.gz with "
            "segmentations/. Give the folder that holds the subjects."
        )
    manifest = Manifest(
        name="totalsegmentator",
        licence="CC BY 4.0",
        citation=_CITATION,
        source="https://doi.org/10.5281/zenodo.10047292",
        modality="CT",
        schema=TOTALSEGMENTATOR_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _case(
    folder: Path, data: DataCopy, row: Mapping[str, str] | None, has_meta: bool,
    problems: list[str],
) -> Case | None:  # fmt: skip
    subject = folder.name
    split = row.get("split", "") if row else "" if has_meta else "train"
    if split not in {"train", "val", "test"}:
        problems.append(f"{subject}: no split train, val or test in meta.csv; left out")
        return None
    image = nifti_files(folder).get("ct")
    if image is None:
        problems.append(f"{subject}: no image ct.nii.gz; left out")
        return None
    try:
        grid = read_grid(folder, image.name)
        labels, names = _merged(folder, grid, problems)
    except InputRefusedError as error:
        text = f"found {error.found}, expected {error.expected}"
        problems.append(f"{subject}: {error.source}: {text}; left out")
        return None
    row = row or {}
    volume = VolumeRow(
        volume_id="image",
        image=data.name_of(image),
        segmentation=data.write_labels(f"{subject}_labels", labels, grid) if names else None,
        sha256=file_sha256(image),
        annotated_segments=names,
        attributes=attributes(row, _ATTRIBUTES),
    )
    return Case(
        case_id=subject,
        patient_id=subject,
        split=split,
        fold=None,
        volumes=(volume,),
        covariates=Covariates(age_years=positive(row.get("age")), sex=sex(row.get("gender"))),
    )


def _merged(
    folder: Path, grid: Geometry, problems: list[str]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """One label map of all masks, and the structures that have a file.

    Raises:
        ConfigError: If there is a structure that only version 1 has.
        InputRefusedError: If a mask is damaged or on another grid.
    """
    files = {name.lower(): path for name, path in nifti_files(folder / "segmentations").items()}
    if old := sorted(files.keys() & _VERSION_1_ONLY):
        raise ConfigError(
            f"{folder.name}: found masks that only version 1 of the data set has "
            f"({', '.join(old)}), expected version 2. Download it from "
            "https://doi.org/10.5281/zenodo.10047292."
        )
    known = {segment.name for segment in TOTAL_SEGMENTS}
    strange = sorted(files.keys() - known)
    if strange:
        problems.append(f"{folder.name}: masks of no structure of version 2: {', '.join(strange)}")
    if not files.keys() & known:
        problems.append(f"{folder.name}: no mask in segmentations/; listed without one")
    labels = np.zeros(grid.shape, dtype=np.uint8)
    overlap = 0
    for segment in TOTAL_SEGMENTS:
        if segment.name in files:
            inside = _mask(folder, files[segment.name], grid)
            overlap += int(np.count_nonzero(labels[inside]))
            labels[inside] = segment.label
    if overlap:
        problems.append(f"{folder.name}: {overlap} voxels in two masks; the higher label stands")
    return labels, tuple(s.name for s in TOTAL_SEGMENTS if s.name in files)


def _mask(folder: Path, path: Path, grid: Geometry) -> NDArray[np.bool_]:
    name = path.relative_to(folder).as_posix()
    mask = read_volume_file(folder, name)
    if not mask.geometry.is_close(grid):
        raise InputRefusedError(
            name,
            stage="read",
            code="grid-differs",
            found=f"a grid of {mask.geometry.shape} voxels",
            expected=f"the grid of ct.nii.gz, {grid.shape} voxels",
            advice="Download the subject again.",
        )
    return np.asarray(mask.array != 0)
