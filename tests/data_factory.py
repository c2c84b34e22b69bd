"""Small manifests with NIfTI files: a box per class, other classes per data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from medmtl.core.labels import FindingSpec, LabelSchema, SegmentSpec
from medmtl.core.prediction import Covariates
from medmtl.data.cases import Case, Manifest, VolumeRow
from medmtl.data.sources import DataSource

SHAPE = (12, 10, 6)
SPACING_MM = (1.0, 1.5, 3.0)


def write_image(
    path: Path,
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> None:
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    _write(path, array, spacing_mm)


def write_mask(
    path: Path,
    labels: Sequence[int],
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> None:
    """Each label fills two columns of its own."""
    array = np.zeros(shape, dtype=np.uint8)
    for place, label in enumerate(labels):
        array[2 * place : 2 * place + 2, 2:6, 1:4] = label
    _write(path, array, spacing_mm)


def _write(path: Path, array: NDArray[Any], spacing_mm: tuple[float, float, float]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.diag([*spacing_mm, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def make_source(
    root: Path,
    *,
    name: str,
    labels: Mapping[str, int],
    findings: Sequence[str] = (),
    truths: Sequence[Mapping[str, bool | None]] = ({},),
    volumes: Sequence[str] = ("image",),
    has_masks: bool = True,
    annotated: Sequence[str] | None = None,
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: tuple[float, float, float] = SPACING_MM,
) -> DataSource:
    """One case per entry of `truths`, files included."""
    cases = []
    for number, truth in enumerate(truths):
        rows = []
        for volume in volumes:
            image, mask = f"{name}{number}_{volume}.nii.gz", f"{name}{number}_{volume}_gt.nii.gz"
            write_image(root / image, seed=number, shape=shape, spacing_mm=spacing_mm)
            if has_masks:
                write_mask(root / mask, list(labels.values()), shape=shape, spacing_mm=spacing_mm)
            looked_for = tuple(labels if annotated is None else annotated)
            rows.append(
                VolumeRow(volume, image, mask, annotated_segments=looked_for)
                if has_masks
                else VolumeRow(volume, image)
            )
        known = {finding: truth.get(finding) for finding in findings}
        facts = Covariates(sex="M", height_cm=180)
        case_id = f"{name}{number}"
        cases.append(Case(case_id, case_id, "train", None, tuple(rows), known, facts))
    schema = LabelSchema(
        segments=tuple(SegmentSpec(value, segment) for segment, value in labels.items()),
        findings=tuple(FindingSpec(finding) for finding in findings),
    )
    manifest = Manifest(name, "CC0", "none", "made here", "MR", schema, tuple(cases))
    return DataSource(manifest, root, tuple(cases))
