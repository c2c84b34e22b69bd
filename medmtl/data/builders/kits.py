"""The public layout of KiTS 2023: contrast CT of the kidneys, tumours, cysts, and pathology.

`case_00000/imaging.nii.gz`, `segmentation.nii.gz`, and `kits23.json`. Heller et al.,
arXiv:2307.01984.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from medmtl.core.errors import ConfigError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.builders.copy import nifti_files, read_json
from medmtl.data.builders.person import attributes, positive, sex
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from medmtl.data.builders.copy import DataCopy

__all__ = ["KITS_SCHEMA", "build_kits_manifest"]

KITS_SCHEMA = LabelSchema(
    segments=(
        SegmentSpec(1, "kidney", Code("64033007", "Kidney")),
        SegmentSpec(2, "kidney_tumor", Code("108369006", "Neoplasm"), is_lesion=True),
        SegmentSpec(3, "kidney_cyst", Code("367643001", "Cyst"), is_lesion=True),
    ),
    findings=(FindingSpec("malignant_kidney_tumor", None, ("kidney_tumor",)),),
)
"""Every patient had a tumour removed; the finding is what the pathologist said of it."""

_CASE = re.compile(r"case_\d{5}")
_ATTRIBUTES = {
    "histologic_subtype": "tumor_histologic_subtype",
    "isup_grade": "tumor_isup_grade",
    "t_stage": "pathology_t_stage",
    "bmi": "bmi",
}
_CITATION = (
    "N. Heller, F. Isensee, D. Trofimova, et al. The KiTS21 Challenge: Automatic segmentation of "
    "kidneys, renal tumors, and renal cysts in corticomedullary-phase CT. arXiv:2307.01984, 2023; "
    "N. Heller, F. Isensee, K. H. Maier-Hein, et al. The state of the art in kidney and kidney "
    "tumor segmentation in contrast-enhanced CT imaging: Results of the KiTS19 challenge. Medical "
    "Image Analysis 67, 101821, 2021. doi 10.1016/j.media.2020.101821"
)


def build_kits_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy of KiTS 2023.

    Args:
        data: The folder `dataset` of the repository, or its parent.

    Returns:
        The manifest of the usable cases, and what is wrong with the others. A case without an entry
        in `kits23.json` is listed with the finding unknown.

    Raises:
        ConfigError: If there is no usable case.
    """
    problems: list[str] = []
    folder = data.source if (data.source / "kits23.json").is_file() else data.source / "dataset"
    folder = folder if folder.is_dir() else data.source
    known = _known(read_json(folder / "kits23.json"), problems)
    folders = [
        path for path in sorted(folder.iterdir()) if _CASE.fullmatch(path.name) and path.is_dir()
    ]
    cases = [
        case
        for path in folders
        if (case := _case(path, data, known.get(path.name), problems)) is not None
    ]
    gone = sorted(known.keys() - {path.name for path in folders})
    problems += [f"{name}: in kits23.json, but no such folder" for name in gone]
    if not cases:
        found = "; ".join(problems[:3])
        raise ConfigError(
            f"No usable KiTS case: found {found}, expected case_00000/imaging.nii.gz. "
            "Give the folder dataset of the kits23 repository."
        )
    manifest = Manifest(
        name="kits23",
        licence="CC BY-NC-SA 4.0",
        citation=_CITATION,
        source="https://github.com/neheller/kits23",
        modality="CT",
        schema=KITS_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _known(entries: Any, problems: list[str]) -> dict[str, Mapping[str, Any]]:
    if entries is None:
        problems.append("no kits23.json: no pathology is known")
    return {
        str(entry["case_id"]): entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict) and _CASE.fullmatch(str(entry.get("case_id")))
    }


def _case(
    folder: Path, data: DataCopy, entry: Mapping[str, Any] | None, problems: list[str]
) -> Case | None:
    files = nifti_files(folder)
    missing = [name for name in ("imaging", "segmentation") if name not in files]
    if missing:
        # The repository holds the masks; images come with a separate download.
        problems.append(f"{folder.name}: no {' and no '.join(missing)}.nii.gz; left out")
        return None
    malignant = entry.get("malignant") if entry else None
    if not isinstance(malignant, bool):
        problems.append(f"{folder.name}: malignant or not is not in kits23.json; finding unknown")
        malignant = None
    entry = entry or {}
    volume = VolumeRow(
        volume_id="image",
        image=data.name_of(files["imaging"]),
        segmentation=data.name_of(files["segmentation"]),
        sha256=file_sha256(files["imaging"]),
        annotated_segments=KITS_SCHEMA.segment_names,
        attributes=attributes(entry, _ATTRIBUTES),
    )
    return Case(
        case_id=folder.name,
        patient_id=folder.name,
        split="train",
        fold=None,
        volumes=(volume,),
        findings={"malignant_kidney_tumor": malignant},
        covariates=Covariates(
            age_years=positive(entry.get("age_at_nephrectomy")), sex=sex(entry.get("gender"))
        ),
    )
