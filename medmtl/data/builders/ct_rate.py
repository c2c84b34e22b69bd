"""The public layout of CT-RATE: chest CT with eighteen abnormalities read from reports, no masks.

`train/train_1/train_1_a/train_1_a_1.nii.gz` (`train_fixed/` in newer copies), the same for `valid`,
and `train_predicted_labels.csv`, `train_metadata.csv`, `no_chest_train.txt` (for `valid`:
`validation_metadata.csv`) anywhere below the root. Hamamci et al., arXiv:2403.17834.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import read_table
from medmtl.data.builders.person import age_years, attributes, sex
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256
from medmtl.nifti.names import SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.data.builders.copy import DataCopy

__all__ = ["CT_RATE_SCHEMA", "build_ct_rate_manifest"]

_COLUMNS: Mapping[str, Code | None] = {
    "Medical material": None,
    "Arterial wall calcification": None,
    "Cardiomegaly": Code("8186001", "Cardiomegaly"),
    "Pericardial effusion": Code("373945007", "Pericardial effusion"),
    "Coronary artery wall calcification": None,
    "Hiatal hernia": Code("84089009", "Hiatal hernia"),
    "Lymphadenopathy": Code("30746006", "Lymphadenopathy"),
    "Emphysema": Code("87433001", "Pulmonary emphysema"),
    "Atelectasis": Code("46621007", "Atelectasis"),
    "Lung nodule": None,
    "Lung opacity": None,
    "Pulmonary fibrotic sequela": None,
    "Pleural effusion": Code("60046008", "Pleural effusion"),
    "Mosaic attenuation pattern": None,
    "Peribronchial thickening": None,
    "Consolidation": Code("95436008", "Lung consolidation"),
    "Bronchiectasis": Code("12295008", "Bronchiectasis"),
    "Interlobular septal thickening": None,
}


def _snake(column: str) -> str:
    return column.lower().replace(" ", "_")


CT_RATE_SCHEMA = LabelSchema(
    findings=tuple(FindingSpec(_snake(column), code) for column, code in _COLUMNS.items())
)
"""The eighteen columns, in their order."""

_VOLUME = re.compile(r"(?P<patient>(?:train|valid)_\d+)_[a-z]+_\d+")
_SPLITS = {"train": "train", "valid": "val"}
_METADATA = {"train": "train_metadata.csv", "valid": "validation_metadata.csv"}
_VALUES = {"0": False, "1": True, "0.0": False, "1.0": True}
_ATTRIBUTES = {
    "vendor": "Manufacturer",
    "kernel": "ConvolutionKernel",
    "rescale_slope": "RescaleSlope",
    "rescale_intercept": "RescaleIntercept",
}
_CITATION = (
    "I. E. Hamamci, S. Er, C. Wang, et al. Developing Generalist Foundation Models from a "
    "Multimodal Dataset for 3D Computed Tomography. arXiv:2403.17834, 2024"
)


def build_ct_rate_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy, or a part of one: only volumes that are there are listed.

    A case is one reconstruction (`train_1_a_1`), since their number differs between examinations;
    all of one patient are in one fold. `valid` is split val.

    Args:
        data: Holds `train/` or `valid/` (or their `_fixed` forms) somewhere below.

    Returns:
        The manifest of the volumes, and what is wrong: a volume without labels is left out, labels
        without a volume are counted.

    Raises:
        ConfigError: If no volume has labels.
    """
    problems: list[str] = []
    cases: list[Case] = []
    for part, split in _SPLITS.items():
        volumes = _volumes(data.source, part, problems)
        elsewhere = _no_chest(data.source, part)
        labels = _rows(data.source, f"{part}_predicted_labels.csv")
        meta = _rows(data.source, _METADATA[part])
        for name, path in volumes.items():
            if name in elsewhere:
                problems.append(f"{name}: in no_chest_{part}.txt, so not a chest CT; left out")
                continue
            row = labels.get(name)
            if row is None:
                problems.append(f"{name}: not in {part}_predicted_labels.csv; left out")
                continue
            cases.append(_case(name, path, data, split, row, meta.get(name, {}), problems))
        absent = len(labels.keys() - volumes.keys())
        if absent and volumes:
            problems.append(f"{part}: {absent} rows of labels without a volume in this copy")
    if not cases:
        found = "; ".join(problems[:3]) or "no file train_1_a_1.nii.gz"
        raise ConfigError(
            f"No usable CT-RATE volume: found {found}, expected train/ or valid/ with their "
            "predicted_labels.csv. Give the folder that holds them."
        )
    manifest = Manifest(
        name="ct_rate",
        licence="CC BY-NC-SA 4.0",
        citation=_CITATION,
        source="https://huggingface.co/datasets/ibrahimhamamci/CT-RATE",
        modality="CT",
        schema=CT_RATE_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _volumes(root: Path, part: str, problems: list[str]) -> dict[str, Path]:
    """Volumes by name; of two files of one name the one with repaired geometry."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob(f"{part}_*.nii.gz")):
        name = SUFFIX.sub("", path.name)
        if _VOLUME.fullmatch(name) and (name not in found or _is_fixed(path, part)):
            found[name] = path
    as_first_released = sum(not _is_fixed(path, part) for path in found.values())
    if as_first_released:
        problems.append(
            f"{part}: {as_first_released} volumes are not below {part}_fixed: the headers of the "
            "first release are known to be wrong in position, direction and rescaling"
        )
    return found


def _no_chest(root: Path, part: str) -> frozenset[str]:
    """Volumes that the authors found to show another body part.

    Raises:
        ConfigError: If the list is there but cannot be read.
    """
    try:
        texts = [
            path.read_text(encoding="utf-8-sig") for path in root.rglob(f"no_chest_{part}.txt")
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"no_chest_{part}.txt cannot be read. Download it again.") from error
    return frozenset(SUFFIX.sub("", line.strip()) for text in texts for line in text.splitlines())


def _is_fixed(path: Path, part: str) -> bool:
    return f"{part}_fixed" in path.parts


def _rows(root: Path, name: str) -> dict[str, dict[str, str]]:
    """Rows of the one table of that name below the root, by volume."""
    tables = sorted(root.rglob(name))
    rows = read_table(tables[0]) if tables else []
    return {SUFFIX.sub("", row.get("VolumeName", "")): row for row in rows}


def _case(
    name: str, path: Path, data: DataCopy, split: str, row: Mapping[str, str],
    meta: Mapping[str, str], problems: list[str],
) -> Case:  # fmt: skip
    findings = {_snake(column): _VALUES.get(row.get(column, "")) for column in _COLUMNS}
    odd = [column for column in _COLUMNS if row.get(column, "") not in {*_VALUES, ""}]
    if odd:
        problems.append(f"{name}: neither 0 nor 1 in {', '.join(odd)}; unknown")
    volume = VolumeRow(
        volume_id="image",
        image=data.name_of(path),
        sha256=file_sha256(path),
        attributes=attributes(meta, _ATTRIBUTES),
    )
    match = _VOLUME.fullmatch(name)
    return Case(
        case_id=name,
        patient_id=match["patient"] if match else name,
        split=split,
        fold=None,
        volumes=(volume,),
        findings=findings,
        covariates=Covariates(
            age_years=age_years(meta.get("PatientAge")), sex=sex(meta.get("PatientSex"))
        ),
    )
