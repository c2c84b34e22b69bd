"""The public layout of AMOS 2022: abdominal CT and MR with fifteen organs.

`imagesTr/amos_0001.nii.gz`, `labelsTr/`, the same for `Va` and `Ts`, `dataset.json`, and beside it
`labeled_data_meta_0000_0599.csv`. Ji et al., NeurIPS 2022, arXiv:2206.08023.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.core.labels import LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import nifti_files, read_json, read_table
from medmtl.data.builders.person import age_years, attributes, sex
from medmtl.data.builders.totalsegmentator_classes import TOTAL_SEGMENTS
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.data.builders.copy import DataCopy

__all__ = ["AMOS_SCHEMA", "build_amos_manifest"]

_SHARED = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "duodenum",
    "urinary_bladder",
)
"""Structures that TotalSegmentator has too, by its names, in label order."""

_CODES = {segment.name: segment.code for segment in TOTAL_SEGMENTS}

AMOS_SCHEMA = LabelSchema(
    segments=(
        *(SegmentSpec(label, name, _CODES[name]) for label, name in enumerate(_SHARED, start=1)),
        SegmentSpec(15, "prostate_or_uterus"),
    )
)

_CASE = re.compile(r"amos_(\d{4})")
_FIRST_MR = 500
"""Numbers below are CT, from here on MR (readme of the data set)."""

_SPLITS = {"Tr": "train", "Va": "val", "Ts": "test"}
_ATTRIBUTES = {"vendor": "Manufacturer", "scanner": "Manufacturer's Model Name", "site": "Site"}
_META = "labeled_data_meta_0000_0599.csv"
_CITATION = (
    "Y. Ji, H. Bai, C. Ge, et al. AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for "
    "Versatile Medical Image Segmentation. NeurIPS Datasets and Benchmarks, 2022. arXiv:2206.08023"
)


def build_amos_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy of AMOS: `Tr` is split train, `Va` val, `Ts` test.

    Each case has an attribute `modality`, CT or MR.

    Args:
        data: The folder `amos22`.

    Returns:
        The manifest of the usable cases, and what is wrong with the others.

    Raises:
        ConfigError: If there is no usable case.
    """
    problems: list[str] = []
    _compare_labels(read_json(data.source / "dataset.json"), problems)
    meta = _meta(data.source)
    cases = []
    for part, split in _SPLITS.items():
        images = nifti_files(data.source / f"images{part}")
        labels = nifti_files(data.source / f"labels{part}")
        problems += [
            f"{stem}: label in labels{part} without an image"
            for stem in labels
            if stem not in images
        ]
        for stem, image in images.items():
            case = _case(stem, image, labels.get(stem), data, split, meta, problems)
            if case is not None:
                cases.append(case)
    if not cases:
        found = "; ".join(problems[:3]) or "no file amos_0001.nii.gz in imagesTr"
        raise ConfigError(f"No usable AMOS case: found {found}. Give the folder amos22.")
    manifest = Manifest(
        name="amos",
        licence="CC BY 4.0 (Zenodo); the page of the paper says CC BY-NC: ask the authors",
        citation=_CITATION,
        source="https://doi.org/10.5281/zenodo.7155725",
        modality="",
        schema=AMOS_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _compare_labels(header: Any, problems: list[str]) -> None:
    """dataset.json must number the organs as AMOS 2022 does; it spells label 8 "arota"."""
    stated = header.get("labels") if isinstance(header, dict) else None
    if not isinstance(stated, dict):
        problems.append("no dataset.json: the label order of AMOS 2022 is taken")
        return
    first = {"1": "spleen", "6": "liver", "7": "stomach", "10": "pancreas", "13": "duodenum"}
    wrong = [
        value for value, name in first.items() if name not in str(stated.get(value, "")).lower()
    ]
    if wrong or len(stated) != len(AMOS_SCHEMA.segments) + 1:
        raise ConfigError(
            f"dataset.json numbers its labels otherwise than AMOS 2022 (label {', '.join(wrong)}). "
            "Give the folder amos22 as it was published."
        )


def _meta(root: Path) -> dict[int, Mapping[str, str]]:
    """Rows of the table of scanners and persons by case number; none where it is absent."""
    rows = read_table(root / _META) or read_table(root.parent / _META)
    return {int(row["amos_id"]): row for row in rows if row.get("amos_id", "").isdigit()}


def _case(
    stem: str, image: Path, label: Path | None, data: DataCopy, split: str,
    meta: Mapping[int, Mapping[str, str]], problems: list[str],
) -> Case | None:  # fmt: skip
    match = _CASE.fullmatch(stem)
    if match is None:
        problems.append(f"{image.parent.name}: a file that is not named amos_0001; left out")
        return None
    if label is None and split != "test":
        problems.append(f"{stem}: image without a label; left out")
        return None
    row = meta.get(int(match[1]), {})
    modality = "CT" if int(match[1]) < _FIRST_MR else "MR"
    volume = VolumeRow(
        volume_id="image",
        image=data.name_of(image),
        segmentation=data.name_of(label) if label else None,
        sha256=file_sha256(image),
        annotated_segments=AMOS_SCHEMA.segment_names if label else (),
        attributes={"modality": modality, **attributes(row, _ATTRIBUTES)},
    )
    return Case(
        case_id=stem,
        patient_id=stem,
        split=split,
        fold=None,
        volumes=(volume,),
        covariates=Covariates(
            age_years=age_years(row.get("Patient's Age")), sex=sex(row.get("Patient's Sex"))
        ),
    )
