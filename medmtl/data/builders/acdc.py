"""The public layout of ACDC: patient folders with an Info.cfg, an ED and an ES volume.

Bernard et al., IEEE Transactions on Medical Imaging 37(11), 2018, doi 10.1109/TMI.2018.2837502.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256
from medmtl.data.splits import with_folds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["ACDC_SCHEMA", "build_acdc_manifest"]

ACDC_SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "right_ventricle_cavity", Code("53085002", "Right ventricle")),
        SegmentSpec(2, "myocardium", Code("74281007", "Myocardium")),
        SegmentSpec(3, "left_ventricle_cavity", Code("87878005", "Left ventricle")),
    ),
    findings=(
        FindingSpec(
            "dilated_cardiomyopathy",
            Code("399020009", "Dilated cardiomyopathy"),
            ("left_ventricle_cavity", "myocardium"),
        ),
        FindingSpec(
            "hypertrophic_cardiomyopathy",
            Code("233873004", "Hypertrophic cardiomyopathy"),
            ("myocardium", "left_ventricle_cavity"),
        ),
        FindingSpec(
            "myocardial_infarction",
            Code("22298006", "Myocardial infarction"),
            ("myocardium", "left_ventricle_cavity"),
        ),
        FindingSpec("abnormal_right_ventricle", None, ("right_ventricle_cavity",)),
    ),
    findings_exclusive=True,
)
"""Labels of the ACDC masks, and its groups as findings; a normal heart has none of them."""

_GROUPS = {
    "NOR": None,
    "DCM": "dilated_cardiomyopathy",
    "HCM": "hypertrophic_cardiomyopathy",
    "MINF": "myocardial_infarction",
    "RV": "abnormal_right_ventricle",
}
_SPLITS = {"training": "train", "testing": "test"}
_PATIENT = re.compile(r"patient\d{3,}")
_CITATION = (
    "O. Bernard, A. Lalande, C. Zotti, F. Cervenansky, et al. Deep Learning Techniques for "
    "Automatic MRI Cardiac Multi-structures Segmentation and Diagnosis: Is the Problem Solved? "
    "IEEE Transactions on Medical Imaging 37(11), 2514-2525, 2018. doi 10.1109/TMI.2018.2837502"
)


def build_acdc_manifest(root: Path) -> tuple[Manifest, list[str]]:
    """Look through a copy of ACDC; paths in the manifest are relative to `root`.

    Args:
        root: Holds `training/`, `testing/` or both (directly or in `database/`), or the patient
            folders themselves.

    Returns:
        The manifest of all usable patients, and what is wrong with the others.

    Raises:
        ConfigError: If there is no usable patient.
    """
    problems: list[str] = []
    cases: list[Case] = []
    for folder, split in _patients(root):
        info = _read_info(folder)
        case = _case(folder, root, split=split, info=info, problems=problems)
        if case is not None:
            cases.append(case)
    if not cases:
        found = "; ".join(problems[:3]) or "no folder patientNNN"
        message = f"No usable ACDC patient: found {found}, expected training/patient001/Info.cfg "
        raise ConfigError(
            message + "with its frames. Give the folder that holds training/ as root."
        )
    cases, repeated = _without_repeats(cases)
    return _manifest(with_folds(cases)), problems + repeated


def _manifest(cases: Sequence[Case]) -> Manifest:
    return Manifest(
        name="acdc",
        licence="CC BY-NC-SA 4.0",
        citation=_CITATION,
        source="https://www.creatis.insa-lyon.fr/Challenge/acdc/",
        modality="MR",
        schema=ACDC_SCHEMA,
        cases=tuple(cases),
    )


def _patients(root: Path) -> Iterator[tuple[Path, str]]:
    """Patient folders in order with their split, training first."""
    parts = [
        (parent / name, split)
        for parent in (root, root / "database")
        for name, split in _SPLITS.items()
        if (parent / name).is_dir()
    ]
    for part, split in parts or [(root, _SPLITS.get(root.name, "train"))]:
        if not part.is_dir():
            continue
        for folder in sorted(part.iterdir()):
            if _PATIENT.fullmatch(folder.name) and folder.is_dir():
                yield folder, split


def _without_repeats(cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Only the first of several folders with one patient number."""
    kept: dict[str, Case] = {}
    problems = []
    for case in cases:
        if case.case_id in kept:
            problems.append(
                f"{case.case_id}: there are two folders of this patient; used the first"
            )
        else:
            kept[case.case_id] = case
    return list(kept.values()), problems


def _read_info(folder: Path) -> dict[str, str]:
    """The `key: value` lines of Info.cfg; empty where there is none."""
    try:
        text = (folder / "Info.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs if value.strip()}


def _case(
    folder: Path, root: Path, *, split: str, info: Mapping[str, str], problems: list[str]
) -> Case | None:
    """The case of one patient folder; None, with the reason noted, where it cannot be used."""
    if not info:
        problems.append(f"{folder.name}: no readable Info.cfg; left out")
        return None
    volumes = []
    for phase in ("ED", "ES"):
        volume = _volume(folder, root, phase=phase, info=info, problems=problems)
        if volume is None:
            return None
        volumes.append(volume)
    return Case(
        case_id=folder.name,
        patient_id=folder.name,
        split=split,
        fold=None,
        volumes=tuple(volumes),
        findings=_findings(folder.name, info.get("Group"), problems),
        covariates=Covariates(
            height_cm=_positive(info.get("Height")), weight_kg=_positive(info.get("Weight"))
        ),
    )


def _volume(
    folder: Path, root: Path, *, phase: str, info: Mapping[str, str], problems: list[str]
) -> VolumeRow | None:
    frame = info.get(phase, "")
    if not (frame.isascii() and frame.isdigit()):
        problems.append(f"{folder.name}: {phase} in Info.cfg is {frame!r}, no frame; left out")
        return None
    stem = f"{folder.name}_frame{int(frame):02d}"
    image, truth = _nifti(folder, stem), _nifti(folder, f"{stem}_gt")
    if image is None:
        problems.append(f"{folder.name}: no image {stem}.nii.gz; left out")
        return None
    if truth is None:
        problems.append(f"{folder.name}: no mask {stem}_gt.nii.gz; listed without it")
    return VolumeRow(
        volume_id=phase.lower(),
        image=image.relative_to(root).as_posix(),
        segmentation=truth.relative_to(root).as_posix() if truth else None,
        sha256=file_sha256(image),
        annotated_segments=ACDC_SCHEMA.segment_names if truth else (),
    )


def _nifti(folder: Path, stem: str) -> Path | None:
    candidates = (folder / f"{stem}{suffix}" for suffix in (".nii.gz", ".nii"))
    return next((path for path in candidates if path.is_file()), None)


def _findings(patient: str, group: str | None, problems: list[str]) -> dict[str, bool | None]:
    if group not in _GROUPS:
        problems.append(f"{patient}: group {group!r} in Info.cfg; findings listed as unknown")
        return dict.fromkeys(ACDC_SCHEMA.finding_names)
    return {name: name == _GROUPS[group] for name in ACDC_SCHEMA.finding_names}


def _positive(text: str | None) -> float | None:
    """A positive number, or None where there is none: unknown is not zero."""
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None
