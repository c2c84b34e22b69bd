"""A manifest with what people corrected in place of what it said: the same cases, splits, folds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medmtl.data.manifest import file_sha256
from medmtl.data.volume_file import read_volume_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medmtl.core.labels import LabelSchema
    from medmtl.data.builders.copy import DataCopy
    from medmtl.data.cases import Case, Manifest, VolumeRow

__all__ = ["as_new_version"]


def as_new_version(
    base: Manifest, corrections: Manifest, data: DataCopy
) -> tuple[Manifest, list[str]]:
    """Put corrections into the manifest that holds their images.

    A volume belongs to the row with the same image file. Segments that were corrected take the
    place of the row's; those that nobody corrected stay. A finding that a reviewer called takes
    the place of the case's; unknown changes nothing.

    Args:
        base: Its paths are relative to `data.source`.
        corrections: Of `build_corrections`, with the same `data`.
        data: Where images lie, and where masks that have to be made go.

    Returns:
        The new version with its paths relative to `data.folder`, and what could not be put in.

    Raises:
        InputRefusedError: If a mask of the base cannot be read.
        OutputError: If a file cannot be made.
    """
    said = {row.image: (case, row) for case in corrections.cases for row in case.volumes}
    problems = [
        f"segment {name} is not in {base.name}; its corrections are left out"
        for name in sorted({*corrections.schema.segment_names} - {*base.schema.segment_names})
    ]
    cases = tuple(_case(case, said, base.schema, corrections.schema, data) for case in base.cases)
    known = {row.image for case in cases for row in case.volumes}
    problems += [
        f"{case.case_id}, volume {row.volume_id}: its image is in no row of {base.name}; left out"
        for image, (case, row) in said.items()
        if image not in known
    ]
    return replace(base, cases=cases), problems


def _case(
    case: Case,
    said: dict[str, tuple[Case, VolumeRow]],
    schema: LabelSchema,
    theirs: LabelSchema,
    data: DataCopy,
) -> Case:
    findings = dict(case.findings)
    rows = []
    for row in case.volumes:
        here = replace(
            row,
            image=data.name_of(data.source / row.image),
            segmentation=data.name_of(data.source / row.segmentation) if row.segmentation else None,
        )
        if here.image in said:
            reviewed, correction = said[here.image]
            findings |= {
                name: value
                for name, value in reviewed.findings.items()
                if value is not None and name in findings
            }
            here = _row(here, case.case_id, correction, schema, theirs, data)
        rows.append(here)
    return replace(case, volumes=tuple(rows), findings=findings)


def _row(
    row: VolumeRow,
    case_id: str,
    correction: VolumeRow,
    schema: LabelSchema,
    theirs: LabelSchema,
    data: DataCopy,
) -> VolumeRow:
    mine = {segment.name: segment.label for segment in schema.segments}
    names = [name for name in correction.annotated_segments if name in mine]
    if correction.segmentation is None or not names:
        return row
    corrected = read_volume_file(data.folder, correction.segmentation)
    labels = {segment.name: segment.label for segment in theirs.segments}
    before: NDArray[Any] | None = None
    if row.segmentation is not None:
        before = read_volume_file(data.folder, row.segmentation).array
    merged = np.zeros(corrected.array.shape, np.uint16) if before is None else before.copy()
    merged[np.isin(merged, [mine[name] for name in names])] = 0
    for name in names:
        merged[corrected.array == labels[name]] = mine[name]
    merged = merged.astype(np.uint8 if max(mine.values()) < 256 else np.uint16)
    file = data.write_labels(f"{case_id}_{row.volume_id}_reviewed", merged, corrected.geometry)
    annotated = {*row.annotated_segments, *names}
    return replace(
        row,
        segmentation=file,
        sha256=row.sha256 or file_sha256(data.folder / row.image),
        annotated_segments=tuple(name for name in schema.segment_names if name in annotated),
    )
