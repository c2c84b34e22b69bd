"""The public layout of LIDC-IDRI as The Cancer Imaging Archive gives it out.

`LIDC-IDRI-0001/<study>/<series>/*.dcm`, with the readers' XML beside the CT slices. Armato et al.,
Medical Physics 38(2), 2011, doi 10.1118/1.3528204.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from medmtl.core.errors import ConfigError, InputRefusedError
from medmtl.core.labels import Code, FindingSpec, LabelSchema, SegmentSpec
from medmtl.data.builders.lidc_consensus import Consensus, consensus
from medmtl.data.builders.lidc_xml import Reading, read_lidc_xml
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.intake import open_input
from medmtl.data.manifest import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from medmtl.core.study import Study, VolumeRef
    from medmtl.core.volume import Volume
    from medmtl.data.builders.copy import DataCopy

__all__ = ["LIDC_SCHEMA", "build_lidc_manifest"]

LIDC_SCHEMA = LabelSchema(
    segments=(SegmentSpec(1, "lung_nodule", Code("27925004", "Nodule"), is_lesion=True),),
    findings=(
        FindingSpec("nodule_present", None, ("lung_nodule",), "lung_nodule"),
        FindingSpec("malignancy", None, ("lung_nodule",)),
    ),
)
"""`malignancy` is what readers suspect from the images; few nodules have a pathology."""

_PATIENT = re.compile(r"LIDC-IDRI-\d{4}")
_CITATION = (
    "S. G. Armato III, G. McLennan, L. Bidaut, et al. The Lung Image Database Consortium (LIDC) "
    "and Image Database Resource Initiative (IDRI): A Completed Reference Database of Lung Nodules "
    "on CT Scans. Medical Physics 38(2), 915-931, 2011. doi 10.1118/1.3528204; Data From "
    "LIDC-IDRI. The Cancer Imaging Archive, 2015. doi 10.7937/K9/TCIA.2015.LO9QL9SX"
)


def build_lidc_manifest(data: DataCopy) -> tuple[Manifest, list[str]]:
    """Look through a copy; images and consensus masks are written as NIfTI.

    DICOM is read by medmtl's own reader, with all its checks.

    Args:
        data: Holds the folders `LIDC-IDRI-0001` and so on, directly or one level down.

    Returns:
        The manifest of the usable series, and what is wrong with the others. A second series of a
        patient is a case of its own.

    Raises:
        ConfigError: If there is no usable series.
        OutputError: If an image or mask cannot be written.
    """
    problems: list[str] = []
    cases: list[Case] = []
    counts: Counter[str] = Counter()
    for patient in _patients(data.source):
        for path, reading in _readings(patient, problems):
            case_id = (
                patient.name
                if not counts[patient.name]
                else (f"{patient.name}-{counts[patient.name] + 1}")
            )
            case = _case(case_id, patient.name, path.parent, reading, data, problems)
            if case is not None:
                counts[patient.name] += 1
                cases.append(case)
        if not counts[patient.name]:
            problems.append(f"{patient.name}: no CT series with a usable reading; left out")
    if not cases:
        found = "; ".join(problems[:3]) or "no folder LIDC-IDRI-0001"
        raise ConfigError(
            f"No usable LIDC-IDRI series: found {found}, expected "
            "LIDC-IDRI-0001/<study>/<series>/ with DICOM slices and the readers' XML."
        )
    manifest = Manifest(
        name="lidc_idri",
        licence="CC BY 3.0",
        citation=_CITATION,
        source="https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX",
        modality="CT",
        schema=LIDC_SCHEMA,
        cases=tuple(cases),
    )
    return manifest, problems


def _patients(root: Path) -> list[Path]:
    inner = root / "LIDC-IDRI"
    folder = inner if inner.is_dir() else root
    return sorted(p for p in folder.iterdir() if _PATIENT.fullmatch(p.name) and p.is_dir())


def _readings(patient: Path, problems: list[str]) -> Iterator[tuple[Path, Reading]]:
    """XML files of CT readings below a patient's folder."""
    for path in sorted(patient.rglob("*.xml")):
        try:
            reading = read_lidc_xml(path)
        except ConfigError as error:
            problems.append(f"{patient.name}: {error}")
            continue
        if reading is not None:
            yield path, reading


def _case(
    case_id: str, patient_id: str, folder: Path, reading: Reading, data: DataCopy,
    problems: list[str],
) -> Case | None:  # fmt: skip
    try:
        study, ref = _volume(folder, reading.series_uid)
        volume = ref.read()
        agreed = consensus(reading, volume.geometry)
    except InputRefusedError as error:
        text = f"{error.code}: found {error.found}, expected {error.expected}"
        problems.append(f"{case_id}: {text}; left out")
        return None
    vendor = ref.metadata.get("manufacturer")
    return Case(
        case_id=case_id,
        patient_id=patient_id,
        split="train",
        fold=None,
        volumes=(_row(case_id, volume, agreed, str(vendor or ""), data),),
        findings={"nodule_present": agreed.nodule_present, "malignancy": agreed.malignancy},
        covariates=study.covariates,
    )


def _row(case_id: str, volume: Volume, agreed: Consensus, vendor: str, data: DataCopy) -> VolumeRow:
    image = data.write_image(f"{case_id}_image", volume)
    segmentation = None
    if agreed.nodule_present is not None:  # else the empty mask would call those nodules background
        segmentation = data.write_labels(f"{case_id}_labels", agreed.mask, volume.geometry)
    return VolumeRow(
        volume_id="image",
        image=image,
        segmentation=segmentation,
        sha256=file_sha256(data.folder / image),
        annotated_segments=LIDC_SCHEMA.segment_names if segmentation else (),
        attributes={"vendor": vendor} if vendor else {},
    )


def _volume(folder: Path, series_uid: str) -> tuple[Study, VolumeRef]:
    """The CT volume that a reading belongs to.

    Raises:
        InputRefusedError: If the series cannot be read safely, or is not in the folder.
    """
    listing = open_input(folder)
    for study in listing.studies:
        for ref in study.volumes:
            if ref.series_uid == series_uid and ref.modality == "CT":
                return study, ref
    refusal = next((r for r in listing.refusals if r.series_uid in {series_uid, ""}), None)
    raise InputRefusedError(
        "series",
        stage="select",
        code=refusal.code if refusal else "no-such-series",
        found=refusal.found if refusal else "no CT series with the UID of the reading",
        expected=refusal.expected if refusal else "the CT slices beside the XML",
        advice="Download the series again.",
    )
