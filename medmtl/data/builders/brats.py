"""The public layout of BraTS 2020: four MR sequences, tumour masks, and the grade.

`BraTS20_Training_001/BraTS20_Training_001_{t1,t1ce,t2,flair,seg}.nii.gz` (or `.nii`), with
`name_mapping.csv` (grade) and `survival_info.csv` (age). Menze et al., IEEE Transactions on Medical
Imaging 34(10), 2015, doi 10.1109/TMI.2014.2377694.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import nifti_files, read_table
from medmtl.data.builders.person import positive
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.data.builders.copy import DataCopy

__all__ = ["BRATS_SCHEMA", "build_brats_manifest"]

BRATS_SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "necrotic_and_non_enhancing_core", None, is_lesion=True),
        SegmentSpec(2, "peritumoral_edema", Code("79654002", "Edema"), is_lesion=True),
        SegmentSpec(4, "enhancing_tumor", None, is_lesion=True),
    ),
    findings=(
        FindingSpec(
            "high_grade_glioma",
            None,
            ("enhancing_tumor", "necrotic_and_non_enhancing_core", "peritumoral_edema"),
        ),
    ),
)
"""Label 3 is not used since 2017. A low grade is the finding's absence."""

SEQUENCES = ("t1", "t1ce", "t2", "flair")
"""Volume ids, in the order of the rows."""

_SUBJECT = re.compile(r"BraTS20_Training_\d{3}")
_GRADES = {"HGG": True, "LGG": False}
_CITATION = (
    "B. H. Menze, A. Jakab, S. Bauer, et al. The Multimodal Brain Tumor Image Segmentation "
    "Benchmark (BRATS). IEEE Transactions on Medical Imaging 34(10), 1993-2024, 2015. "
    "doi 10.1109/TMI.2014.2377694; S. Bakas, H. Akbari, A. Sotiras, et al. Advancing The Cancer "
    "Genome Atlas glioma MRI collections with expert segmentation labels and radiomic features. "
    "Scientific Data 4, 170117, 2017. doi 10.1038/sdata.2017.117; S. Bakas, M. Reyes, A. Jakab, "
    "et al. Identifying the Best Machine Learning Algorithms for Brain Tumor Segmentation, "
    "Progression Assessment, and Overall Survival Prediction in the BRATS Challenge. "
    "arXiv:1811.02629, 2018"
)


def build_brats_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through the training part; the four sequences are volumes that share one mask.

    Args:
        data: Holds the subject folders and `name_mapping.csv`.

    Returns:
        The manifest of the usable subjects, and what is wrong with the others. A subject without a
        grade is listed with the finding unknown.

    Raises:
        ConfigError: If there is no usable subject.
    """
    problems: list[str] = []
    grades = {
        row.get("BraTS_2020_subject_ID", ""): row.get("Grade", "")
        for row in read_table(data.source / "name_mapping.csv")
    }
    ages = {
        row.get("Brats20ID", ""): row.get("Age")
        for row in read_table(data.source / "survival_info.csv")
    }
    if not grades:
        problems.append("no name_mapping.csv: no grade is known")
    cases = [
        case
        for folder in sorted(data.source.iterdir())
        if _SUBJECT.fullmatch(folder.name) and folder.is_dir()
        if (case := _case(folder, data, grades, ages, problems)) is not None
    ]
    if not cases:
        found = "; ".join(problems[:3])
        raise ConfigError(
            f"No usable BraTS 2020 subject: found {found}, expected BraTS20_Training_001 and its "
            "sequences. Give the folder MICCAI_BraTS2020_TrainingData."
        )
    manifest = Manifest(
        name="brats2020",
        licence="terms of the challenge, by registration; no open licence known",
        citation=_CITATION,
        source="https://www.med.upenn.edu/cbica/brats2020/data.html",
        modality="MR",
        schema=BRATS_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _case(
    folder: Path, data: DataCopy, grades: Mapping[str, str], ages: Mapping[str, str | None],
    problems: list[str],
) -> Case | None:  # fmt: skip
    subject = folder.name
    files = nifti_files(folder)
    wanted = [f"{subject}_{sequence}" for sequence in (*SEQUENCES, "seg")]
    missing = [name for name in wanted if name not in files]
    if missing:
        problems.append(f"{subject}: no {', '.join(missing)}{_hint(subject, files)}; left out")
        return None
    grade = grades.get(subject, "")
    if grade not in _GRADES and grades:
        problems.append(f"{subject}: grade {grade!r} in name_mapping.csv; finding unknown")
    mask = data.name_of(files[f"{subject}_seg"])
    volumes = tuple(
        VolumeRow(
            volume_id=sequence,
            image=data.name_of(files[f"{subject}_{sequence}"]),
            segmentation=mask,
            sha256=file_sha256(files[f"{subject}_{sequence}"]),
            annotated_segments=BRATS_SCHEMA.segment_names,
        )
        for sequence in SEQUENCES
    )
    return Case(
        case_id=subject,
        patient_id=subject,
        split="train",
        fold=None,
        volumes=volumes,
        findings={"high_grade_glioma": _GRADES.get(grade)},
        covariates=Covariates(age_years=positive(ages.get(subject))),
    )


def _hint(subject: str, files: Mapping[str, Path]) -> str:
    """Subject 355 of the release has its mask under the name it had at its hospital."""
    others = [name for name in files if not name.startswith(subject) and "seg" in name.lower()]
    if len(others) != 1:
        return ""
    return f" (another file looks like a mask: if it is, rename it to {subject}_seg)"
